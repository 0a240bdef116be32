"""A log row in words: what matters is said, and nothing is lost of a row that has no words of its own."""

from __future__ import annotations

import pytest

from indexpilot_tui.engine.model.narrative import told

GATES = [{"guard": "tls", "status": "pass"}, {"guard": "load", "status": "wait"}, {"guard": "primary", "status": "unknown"}]


@pytest.mark.parametrize(
    ("action", "detail", "words"),
    [
        ("approved", {"expires_at": "2026-11-26T09:49:44.61138+01:00"}, "approved until 2026-11-26 08:49:44 UTC"),
        ("approved", {"expires_at": "soon"}, "approved until soon"),
        ("ddl.intent", {"ddl": "DROP INDEX x", "pid": 1, "from": "starting", "to": "running"}, "sends DROP INDEX x"),
        ("ddl.outcome", {"ok": True}, "the statement ended without an error"),
        ("ddl.outcome", {"ok": False, "error": "deadlock"}, "the statement failed: error deadlock"),
        ("gates", {"changed": GATES}, "gates: 1 pass, not open: load wait, primary unknown"),
        ("gates", {"changed": GATES[:1]}, "gates: 1 pass"),
        ("gates", {"changed": GATES[1:2]}, "gates: not open: load wait"),
        ("verified", {"valid": True, "ready": True, "live": False}, "proven by the catalog: valid, ready, NOT live"),
        ("verified", {"gone": True}, "proven by the catalog: the index is gone"),
        ("index", {"oid": None, "valid": None}, "the index is not in the catalog"),
        ("index", {"oid": 7, "valid": False}, "index oid 7, not valid"),
        ("phase", {"phase": "building", "blocks_done": 3, "blocks_total": 9}, "building, 3 of 9 blocks"),
        ("phase", {"phase": "waiting", "lockers_total": 2, "locker_pid": 11},
         "waiting, 0 of 2 older transactions waited for, waits for pid 11"),
        ("claimed", {"attempt": 2}, "taken up by an executor, attempt 2"),
        ("requeued", {"from": "cleaning", "to": "queued", "why": "yielded", "plan_sha256": "ab"},
         "requeued cleaning → queued · why yielded"),
        ("something.new", {"parts": [1, 2], "empty": ""}, "something.new parts [1, 2]"),
        ("verify.intent", {}, "the catalog is read again"),
    ],
)  # fmt: skip
def test_told(action: str, detail: dict[str, object], words: str) -> None:
    assert told(action, detail) == words

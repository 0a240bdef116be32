"""The tree of blockers from what a server said, and what it is told would free it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from indexpilot_tui.engine.observe.blocking import blocking_of, remedy
from indexpilot_tui.engine.observe.blocking_model import SessionRow
from tests.tui.sample import NOW, blocking

BUSY = SessionRow(42, "shop", "app", "web", "10.0.0.1", "client backend", "active", "", "select 1", 9.0, 9.0, 9.0, 7)


def test_the_root_comes_first_with_how_many_it_frees() -> None:
    seen = blocking()
    assert [(b.session.pid, b.depth, b.frees) for b in seen.tree] == [(8101, 0, 3), (8102, 1, 2), (8103, 2, 0), (8104, 2, 0)]
    root, deploy = seen.tree[0], seen.tree[1]
    assert "must COMMIT or ROLLBACK; else SELECT pg_terminate_backend(8101)" in root.remedy
    assert root.holds == "RowShareLock on public.orders"
    assert (deploy.wants, deploy.waits_s) == ("AccessExclusiveLock on public.orders", 30.8)
    assert deploy.remedy == "it waits itself: free pid 8101 first"
    assert seen.waiting == 3
    assert [(h.session.pid, h.why) for h in seen.holders] == [
        (-91833, "prepared, waits for COMMIT PREPARED, holds a snapshot"), (8200, "old snapshot"),
    ]  # fmt: skip


def test_a_ring_is_shown_once_and_ends() -> None:
    row = {
        "database": "d", "user_name": "u", "application": "", "client": None, "kind": "client backend", "state": "active",
        "wait_kind": "Lock", "wait_event": "transactionid", "query": "update", "xact_s": 1.0, "query_s": 1.0, "state_s": 1.0,
        "xmin_age": None, "hidden": False,
    }  # fmt: skip
    rows = [row | {"pid": 1, "blocked_by": [2]}, row | {"pid": 2, "blocked_by": [1]}, row | {"pid": 3, "blocked_by": [99]}]
    seen = blocking_of(NOW, rows, [], [], [])
    assert sorted(b.session.pid for b in seen.tree) == [1, 2, 3, 99]
    assert next(b for b in seen.tree if b.session.pid == 99).remedy == "a role with pg_monitor sees who it is"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "pg_cancel_backend(42)"),
        ({"state": "idle"}, "must free its session locks"),
        ({"application": "ixp:7"}, "gives way by itself"),
        ({"kind": "autovacuum worker", "query": "autovacuum: VACUUM t (to prevent wraparound)"}, "does not give way"),
        ({"kind": "autovacuum worker", "query": "autovacuum: VACUUM t"}, "after deadlock_timeout"),
        ({"kind": "walsender"}, "hot_standby_feedback"),
        ({"prepared": "'it''s'"}, "ROLLBACK PREPARED 'it''s', in database shop"),
    ],
)
def test_what_would_free_it(changed: dict[str, str], words: str) -> None:
    assert words in remedy(replace(BUSY, **changed))  # type: ignore[arg-type]

"""Gates in words: what each is called in a few cells, the tone of its answer, and the order in which they are read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexpilot_tui.engine.model.verdict import Verdict

STATUS_TONES = {"pass": "ok", "wait": "warn", "block": "crit", "unknown": "crit"}
_SHORT = {
    "maintenance_window": "window",
    "server_version": "version",
    "direct_session": "direct",
    "one_at_a_time": "one change",
    "same_table_ddl": "table DDL",
    "active_backends": "active",
    "oldest_transaction": "oldest xact",
    "lock_waiters": "lock waits",
    "cpu_throttle": "CPU",
    "storage_budget": "budget",
    "total": "budget",
    "per_table": "table budget",
    "write_performance": "writes",
    "hot": "HOT updates",
    "latency": "write time",
    "synchronous": "sync standby",
    "sessions": "far readers",
}
_ORDER = {"block": 0, "unknown": 1, "wait": 2, "pass": 3}


def guard_label(guard: str) -> str:
    """A guard's name in the few cells of the pane: the last part of a dotted one, shortened where it is long."""
    last = guard.rsplit(".", maxsplit=1)[-1]
    return _SHORT.get(last, last.replace("_", " "))


def closed_first(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """What does not pass comes first: a list of gates is longer than a small screen. Else the gates' own order."""
    return sorted(verdicts, key=lambda verdict: _ORDER[verdict.status.value])

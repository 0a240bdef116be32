"""What the server does now: sessions, the oldest transaction, locks waited for, index builds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from indexpilot_tui.engine.observe.ask import Refusal, Rows
from indexpilot_tui.engine.observe.model import Activity, BuildProgress
from indexpilot_tui.engine.postgres.text import clean_line

NOT_MEASURED = Activity(None, None, None, "", None, None, None, None, None, None)
GRANT_MONITOR = "GRANT pg_monitor TO {role}"


def activity_of(row: Mapping[str, Any], xacts_per_s: float | None) -> Activity:
    """An Activity from the row of `activity.sql`.

    Where sessions are hidden from this role, whatever rests on their state is None: a count of the visible ones would
    look like a quiet server.
    """
    visible = not row["hidden"]
    return Activity(
        active_backends=row["active_backends"] if visible else None,
        oldest_xact_s=(row["oldest_xact_s"] or 0.0) if visible else None,
        oldest_xact_pid=row["oldest_xact_pid"] if visible else None,
        oldest_xact_query=clean_line(row["oldest_xact_query"] or "", 500) if visible else "",
        oldest_snapshot_s=(row["oldest_snapshot_s"] or 0.0) if visible else None,
        prepared_xacts=row["prepared_xacts"],
        lock_waiters=row["lock_waiters"] if visible else None,
        connections=row["connections"],
        max_connections=row["max_connections"],
        xacts_per_s=xacts_per_s,
    )


def builds_of(answer: Rows | Refusal) -> tuple[BuildProgress, ...]:
    """The builds from the rows of `builds.sql`; blocks are counted while the table is scanned, tuples while the tree is
    filled, whichever this phase counts."""
    if isinstance(answer, Refusal):
        return ()
    return tuple(
        BuildProgress(
            pid=row["pid"],
            index_oid=row["index_oid"] or 0,
            index=clean_line(row["index_name"]),
            table=clean_line(row["table_name"]),
            phase=clean_line(row["phase"]),
            done=(row["blocks_done"] if row["blocks_total"] else row["tuples_done"]) or 0,
            total=(row["blocks_total"] or row["tuples_total"]) or 0,
            lockers_done=row["lockers_done"],
            lockers_total=row["lockers_total"],
            blocker_pid=row["blocker_pid"],
        )
        for row in answer
    )

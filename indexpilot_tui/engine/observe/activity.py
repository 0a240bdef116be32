"""What the server does now, as the panes show it: sessions, the oldest transaction, locks waited for, index builds."""

from __future__ import annotations

from indexpilot_tui.engine.observe.ask import Refusal, Rows
from indexpilot_tui.engine.observe.model import Activity, BuildProgress
from indexpilot_tui.engine.observe.pulse import Pulse, Rates
from indexpilot_tui.engine.postgres.text import clean_line

NOT_MEASURED = Activity(None, None, None, "", None, None, None, None, None, None)


def activity_of(pulse: Pulse, rates: Rates) -> Activity:
    """The Activity from a reading of the pulse and the rates since the one before."""
    return Activity(
        active_backends=pulse.active_backends,
        oldest_xact_s=pulse.oldest_xact_s,
        oldest_xact_pid=pulse.oldest_xact_pid,
        oldest_xact_query=pulse.oldest_xact_query,
        oldest_snapshot_s=pulse.oldest_snapshot_s,
        prepared_xacts=pulse.prepared_xacts,
        lock_waiters=pulse.lock_waiters,
        connections=pulse.client_backends,
        max_connections=pulse.max_connections,
        xacts_per_s=rates.xacts,
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

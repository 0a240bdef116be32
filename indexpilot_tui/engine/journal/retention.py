"""Removing what is older than the settings want it, a batch at a time."""

from __future__ import annotations

from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.logs import log
from indexpilot_tui.settings.model import Settings

BATCH = 1_000  # rows of one short transaction


async def terms(journal: Journal, settings: Settings) -> dict[str, int]:
    """How many days of what is kept. The administrator's policy holds for the log whatever the settings say."""
    wanted = settings.operational.data_retention
    return {
        "mutation_log": max(wanted.audit_logs_days, (await journal.policy()).keep_log_days),
        "query_stats": wanted.query_stats_days,
        "index_health": wanted.performance_metrics_days,
        "change_stats": wanted.performance_metrics_days,
    }


async def retain(journal: Journal, settings: Settings, batches: int | None = None) -> dict[str, int]:
    """Remove what is too old, in at most so many batches of each (None: all of it); how many rows of what went."""
    removed: dict[str, int] = {}
    for what, days in (await terms(journal, settings)).items():
        rows = done = 0
        while batches is None or done < batches:
            count = await journal.prune(what, days, BATCH)
            if count == 0:
                break
            rows, done = rows + count, done + 1
        removed[what] = rows
    if any(removed.values()):
        log("retention", "info", operator=journal.session.facts.session_user, **removed)
    return removed

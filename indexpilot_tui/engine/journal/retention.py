"""Removing what is older than the settings want it, a batch at a time."""

from __future__ import annotations

import math

from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.logs import log
from indexpilot_tui.settings.model import Settings

BATCH = 1_000  # rows of one short transaction


async def terms(journal: Journal, settings: Settings) -> dict[str, int]:
    """How many days of what is kept. The administrator's policy holds for the log and the bypasses whatever the settings
    say, and no slot goes that a rate limit still counts."""
    wanted = settings.operational.data_retention
    least = (await journal.policy()).keep_log_days
    window_days = math.ceil(settings.rate_limiter.index_creation.time_window_seconds / 86_400)
    return {
        "bypasses": max(wanted.bypasses_days, least),  # what the log says of them goes after them
        "rate_slots": max(wanted.rate_slots_days, window_days),
        "gate_verdicts": wanted.gate_verdicts_days,
        "mutation_log": max(wanted.audit_logs_days, least),
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

"""Switching an emergency bypass on: who may, for how long, and that it is told in the structured log as well."""

from __future__ import annotations

from collections.abc import Iterable

from indexpilot_tui.engine.journal.journal import BypassRow, Journal
from indexpilot_tui.engine.logs import log
from indexpilot_tui.errors import RefusedError
from indexpilot_tui.settings.model import Settings


async def switch_on(
    journal: Journal, settings: Settings, target: str, scope: Iterable[str], reason: str, seconds: float | None
) -> BypassRow:
    """Lift `scope` (of window, rate, load) for `seconds`, else for bypass.emergency.auto_recover_after_seconds.

    RefusedError where the configuration forbids it, or the control schema: anything else to lift, longer than an hour,
    an earlier bypass without its review.
    """
    rules = settings.bypass.emergency
    if not rules.enabled:
        raise RefusedError(
            "this configuration may not switch a bypass on",
            field="bypass.emergency.enabled",
            value="false",
            remedy="set it to true in the configuration, or INDEXPILOT__BYPASS__EMERGENCY__ENABLED=true for one call",
        )
    number = await journal.bypass_on(scope, reason, seconds or rules.auto_recover_after_seconds)
    row = next(row for row in await journal.bypasses() if row.id == number)
    facts = {"bypass": number, "scope": sorted(row.scope), "until": row.until.isoformat()}
    log("bypass.on", "warning", target=target, operator=journal.session.facts.session_user, **facts)
    return row


async def switch_off(journal: Journal, target: str, reason: str, bypass_id: int | None = None) -> int:
    """End one bypass, or all that are in force; how many. RefusedError when there is none."""
    ended = await journal.bypass_off(reason, bypass_id)
    log("bypass.off", "warning", target=target, operator=journal.session.facts.session_user, ended=ended)
    return ended

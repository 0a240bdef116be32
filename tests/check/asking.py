"""Asking single rules on a real server."""

from __future__ import annotations

from indexpilot_tui.check.context import CheckContext, Forecaster, JournalReader
from indexpilot_tui.check.model import RuleResult, RuleStatus
from indexpilot_tui.check.rules import RULES
from indexpilot_tui.check.run import run_rules
from indexpilot_tui.settings.model import Settings, Target
from tests.engine.observe_room import SETTINGS, Place

OK, WARNING, CRITICAL, UNKNOWN = RuleStatus.OK, RuleStatus.WARNING, RuleStatus.CRITICAL, RuleStatus.UNKNOWN


async def ask(
    place: Place,
    rule_id: str,
    *,
    user: str | None = None,
    settings: Settings = SETTINGS,
    target: Target | None = None,
    journal: JournalReader | None = None,
    forecaster: Forecaster | None = None,
) -> RuleResult:
    """What one rule says on a session of its own."""
    async with place.session(user, settings) as session:
        ctx = CheckContext(target or place.target(user), settings, session, journal=journal, forecaster=forecaster)
        report = await run_rules(ctx, [rule for rule in RULES if rule.id == rule_id])
    (result,) = report.rules
    assert result.id == rule_id
    return result

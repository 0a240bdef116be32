"""The check without a server: of a bundle, and of a migration file against a bundle or a live target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from indexpilot_tui.check.context import CheckContext
from indexpilot_tui.check.migration.judge import judge
from indexpilot_tui.check.migration.script import read_migration
from indexpilot_tui.check.model import CheckReport, Skipped
from indexpilot_tui.check.rules import RULES
from indexpilot_tui.check.rules.indexes import RULES as INDEX_RULES
from indexpilot_tui.check.run import ShadowForecaster, run_rules
from indexpilot_tui.engine.observe.ask import Refusal, Rows
from indexpilot_tui.engine.observe.health import HealthUnreadable, health_of
from indexpilot_tui.engine.postgres.session import Purpose, Session, connect
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.bundle.file import read_bundle
from indexpilot_tui.engine.whatif.bundle.model import Bundle
from indexpilot_tui.engine.whatif.bundle.session import BundleSession
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.errors import ServerError
from indexpilot_tui.settings.model import Settings, Target


async def check_bundle(path: Path, settings: Settings) -> CheckReport:
    """The rules on indexes, judged at the time of the capture; the others need a server and are named as left out.

    Raises UsageError for a file that is no bundle.
    """
    bundle = read_bundle(path)
    label = f"bundle {bundle.name}"
    ctx = CheckContext(Target(name=label), settings, BundleSession(bundle))
    health = health_of(_health_answers(bundle), settings)
    if isinstance(health, HealthUnreadable):
        raise ServerError(f"the bundle has no index health: {health.reason}", field="bundle", value=bundle.name)
    ctx.captured_health = health
    report = await run_rules(ctx, INDEX_RULES)
    asked = {rule.id for rule in INDEX_RULES}
    left = [Skipped(rule.id, "needs a server, and this is a bundle") for rule in RULES if rule.id not in asked]
    return replace(report, skipped=(*report.skipped, *left))


def _health_answers(bundle: Bundle) -> dict[str, Rows | Refusal]:
    answers: dict[str, Rows | Refusal] = {}
    for name in ("health_facts", "indexes", "foreign_keys"):
        rows = bundle.answers.get(f"observe/{name}")
        answers[name] = rows if rows is not None else Refusal(name, "it was not captured", "capture again", lasting=True)
    return answers


async def check_migration(
    migration: Path, settings: Settings, *, target: Target | None = None, bundle: Path | None = None,
    workload: Sequence[Statement] | None = None,
) -> CheckReport:  # fmt: skip
    """Judge a migration file against a live target or a bundle.

    Raises UsageError for a file that cannot be read, and ConnectError or ServerError where the target cannot be.
    """
    steps = read_migration(migration)
    forecaster = ShadowForecaster()
    session: Session | None = None
    try:
        if bundle is not None:
            session = BundleSession(read_bundle(bundle))
        elif target is not None:
            session = await connect(target, Purpose.MONITOR, settings)
        else:
            raise ValueError("a migration is judged against a target or a bundle")
        against = bundle.name if bundle is not None else target.name if target is not None else ""
        label = clean_line(f"{migration.name} on {against}", 200)
        return await judge(session, steps, forecaster, label, workload)
    finally:
        await forecaster.close()
        if session is not None:
            await session.close()

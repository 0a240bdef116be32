"""Runs all rules on a target. One rule's failure is that rule's `unknown`, never the end of the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from indexpilot_tui.check.context import CheckContext, Forecaster, Rule
from indexpilot_tui.check.model import CheckReport, Outcome, RuleResult, RuleStatus, Skipped
from indexpilot_tui.check.rules import RULES
from indexpilot_tui.engine.changes.job import control_target
from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.postgres.session import Purpose, Session, connect
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.model import Forecast, Statement
from indexpilot_tui.errors import IndexPilotError, NotInstalledError
from indexpilot_tui.settings.model import Settings, Target


@dataclass(slots=True)
class ShadowForecaster:
    """The what-if room as the rules see it; its shadow server starts at the first question and ends with `close`."""

    _simulator: object | None = field(default=None)

    async def candidates(self, session: Session, sql: str) -> list[str]:
        from indexpilot_tui.engine.whatif.candidates import candidates

        return await candidates(session, sql)

    async def simulate(self, session: Session, ddl: str, statements: Sequence[Statement]) -> Forecast:
        from indexpilot_tui.engine.whatif.simulate import Simulator

        if not isinstance(self._simulator, Simulator):
            self._simulator = Simulator()
        return await self._simulator.simulate(session, ddl, statements)

    async def close(self) -> None:
        from indexpilot_tui.engine.whatif.simulate import Simulator

        if isinstance(self._simulator, Simulator):
            await self._simulator.close()


async def run_rules(ctx: CheckContext, rules: Iterable[Rule] = RULES) -> CheckReport:
    """Every rule on an open context, one after another: a check must not be a load of its own."""
    started_at, started = datetime.now(UTC), time.perf_counter()
    results: list[RuleResult] = []
    skipped: list[Skipped] = []
    for rule in rules:
        if rule.needs_control and ctx.journal_missing:
            skipped.append(Skipped(rule.id, ctx.journal_missing))
            continue
        outcome = await _outcome(rule, ctx)
        results.append(RuleResult(rule.id, rule.title, outcome.status, outcome.summary, outcome.evidence, outcome.fix))
    elapsed = (time.perf_counter() - started) * 1000
    return CheckReport(_name(ctx.target), started_at, elapsed, tuple(results), tuple(skipped))


async def _outcome(rule: Rule, ctx: CheckContext) -> Outcome:
    try:
        async with asyncio.timeout(rule.timeout_s):
            return await rule.run(ctx)
    except IndexPilotError as exc:
        return Outcome(RuleStatus.UNKNOWN, f"could not be checked: {clean_line(exc.message, 400)}", fix=exc.remedy or "")
    except TimeoutError:
        return Outcome(RuleStatus.UNKNOWN, f"could not be checked: no answer within {rule.timeout_s:.0f} s")
    except Exception as exc:  # noqa: BLE001 - a defect of one rule is its `unknown`, by name, and not the end of the rest
        return Outcome(RuleStatus.UNKNOWN, f"could not be checked: {type(exc).__name__}: {clean_line(str(exc), 300)}")


async def check_target(
    target: Target, settings: Settings, *, forecaster: Forecaster | None = None, rules: Iterable[Rule] = RULES
) -> CheckReport:
    """Connect, run all rules, disconnect. A target that cannot be reached gives a report with the rule `connection`
    unknown (exit status 3); nothing else is raised for what a server does."""
    started_at, started = datetime.now(UTC), time.perf_counter()
    try:
        session = await connect(target, Purpose.MONITOR, settings)
    except IndexPilotError as exc:
        result = RuleResult(
            "connection", "Connection", RuleStatus.UNKNOWN, clean_line(exc.message, 400), (), exc.remedy or ""
        )
        elapsed = (time.perf_counter() - started) * 1000
        return CheckReport(_name(target), started_at, elapsed, (result,))
    own = ShadowForecaster() if forecaster is None else None
    ctx = CheckContext(target, settings, session, forecaster=forecaster or own)
    control: Journal | None = None
    try:
        control = await _open_journal(ctx)
        return await run_rules(ctx, rules)
    finally:
        if control is not None:
            await control.close()
        if own is not None:
            await own.close()
        await session.close()


async def _open_journal(ctx: CheckContext) -> Journal | None:
    """The control schema, in its own database where settings name one. Only "it is not there" is no fault."""
    control = control_target(ctx.target, ctx.settings)
    session: Session | None = None
    try:
        session = await connect(control, Purpose.CONTROL, ctx.settings)
        ctx.journal = journal = await Journal.open(session, ctx.settings.control)
    except IndexPilotError as exc:
        if session is not None:
            await session.close()
        if isinstance(exc, NotInstalledError) and "has no control schema" in exc.message:
            ctx.journal_missing = exc.message
        else:
            ctx.journal_error = exc
        return None
    return journal


async def run_checks(targets: Sequence[Target], settings: Settings) -> list[CheckReport]:
    """One report a target, in the order given, one target after another."""
    forecaster = ShadowForecaster()
    try:
        return [await check_target(target, settings, forecaster=forecaster) for target in targets]
    finally:
        await forecaster.close()


def _name(target: Target) -> str:
    return clean_line(target.name or target.host or target.service or "target")

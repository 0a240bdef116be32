"""The one ordered list of safeguards, and how it is asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import psycopg

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.safeguards import (
    approval,
    backup,
    blockers,
    clock,
    cpu,
    direct_session,
    disk,
    kill_switch,
    leftovers,
    load,
    maintenance_window,
    one_at_a_time,
    primary,
    privilege,
    query_rate,
    rate_limit,
    replicas,
    same_table_ddl,
    server_version,
    storage_budget,
    tls,
    write_performance,
)
from indexpilot_tui.engine.safeguards.context import BypassView, Gate, GateContext
from indexpilot_tui.errors import IndexPilotError, NotInstalledError, ServerError

# What cannot be lifted first, then whether it may be done, then whether it may be done now.
GATES: tuple[Gate, ...] = (
    tls.GATE,
    server_version.GATE,
    primary.GATE,
    direct_session.GATE,
    privilege.GATE,
    kill_switch.GATE,
    approval.GATE,
    clock.GATE,
    maintenance_window.GATE,
    rate_limit.GATE,
    query_rate.GATE,
    one_at_a_time.GATE,
    load.GATE,
    cpu.GATE,
    replicas.GATE,
    disk.GATE,
    storage_budget.GATE,
    backup.GATE,
    write_performance.GATE,
    blockers.GATE,
    same_table_ddl.GATE,
    leftovers.GATE,
)
# What must hold before we remove our own INVALID leftover: it is ours to remove at any hour and load.
CLEANING_GATES: tuple[Gate, ...] = (tls.GATE, primary.GATE, direct_session.GATE, privilege.GATE)
GATE_TIMEOUT_S = 6.0  # one second above the default statement_timeout

# What "could not be read" looks like: the server's refusals, a lost session, a time-out, a NULL or a missing field.
_UNREADABLE = (IndexPilotError, psycopg.Error, TimeoutError, OSError, ValueError, TypeError, KeyError, AttributeError)


async def database_now(session: Session) -> datetime:
    """The database's clock. Raises ServerError when it does not answer with a time."""
    now = await session.value("select pg_catalog.clock_timestamp()")
    if not isinstance(now, datetime):
        raise ServerError("the server gave no time")
    return now


async def evaluate(ctx: GateContext, gates: Sequence[Gate] = GATES) -> list[Verdict]:
    """Ask every gate, in order, and never raise for what a gate could not read: that is a verdict, `unknown`.

    Without a plan only the target-wide gates are asked. `since` is carried over from `ctx.previous`.
    """
    found: list[Verdict] = []
    asked = [gate for gate in gates if ctx.plan is not None or gate.target_wide]
    await _prime(asked, ctx)
    bypass = await bypass_in_force(ctx) if any(gate.lifted_by for gate in asked) else None
    for gate in asked:
        verdicts = await _ask(gate, ctx)
        if bypass is not None and gate.lifted_by in bypass.scope:
            until = f"{bypass.until:%Y-%m-%d %H:%M %Z}"
            verdicts = _passed(verdicts, f"lifted by bypass of {clean_line(bypass.by, 80)} until {until}")
        found += verdicts
    return carry_since(ctx.previous, found, ctx.now)


async def _prime(gates: Sequence[Gate], ctx: GateContext) -> None:
    """First readings. One that fails is tried again by its gate, which then says why."""
    for gate in gates:
        if gate.prime is not None:
            with contextlib.suppress(*_UNREADABLE):
                async with asyncio.timeout(GATE_TIMEOUT_S):
                    await gate.prime(ctx)


async def bypass_in_force(ctx: GateContext) -> BypassView | None:
    """The emergency bypass that holds at `ctx.now`. One that cannot be read, or has ended, lifts nothing."""
    if ctx.journal is None:
        return None
    try:
        async with asyncio.timeout(GATE_TIMEOUT_S):
            bypass = await ctx.journal.bypass()
    except _UNREADABLE:
        return None
    return bypass if bypass is not None and ctx.now < bypass.until else None


async def _ask(gate: Gate, ctx: GateContext) -> list[Verdict]:
    try:
        async with asyncio.timeout(GATE_TIMEOUT_S):
            verdicts = await gate.read(ctx)
        strange = {v.guard for v in verdicts}.difference(gate.guards)
        if strange:
            raise ValueError(f"the gate said something under a name that it does not have: {', '.join(sorted(strange))}")
    except _UNREADABLE as exc:
        return [unreadable(gate, exc)]
    if ctx.rollback and not gate.holds_rollback:
        return _passed(verdicts, "does not hold a rollback")
    return verdicts


def _passed(verdicts: Sequence[Verdict], why: str) -> list[Verdict]:
    """Those that refuse let through, saying why beside what they had to say."""
    return [v if v.allows else replace(v, status=Status.PASS, evidence=f"{why}: {v.evidence}") for v in verdicts]


def unreadable(gate: Gate, exc: BaseException) -> Verdict:
    """The verdict of a gate whose metric could not be read."""
    if isinstance(exc, TimeoutError):
        why = f"no answer within {GATE_TIMEOUT_S:.0f} s"
    elif isinstance(exc, NotInstalledError):
        why = f"{exc.message}: {exc.remedy}"
    elif isinstance(exc, IndexPilotError):
        why = exc.message
    else:
        why = str(exc) or type(exc).__name__
    return Verdict(gate.name, Status.UNKNOWN, "not measured", "", gate.setting, f"could not be read: {clean_line(why, 300)}")


def carry_since(previous: Sequence[Verdict], current: Sequence[Verdict], now: datetime) -> list[Verdict]:
    """`since` of each verdict: when its status was first seen, from the evaluation before."""
    before = {v.guard: v for v in previous}
    return [
        replace(v, since=old.since if (old := before.get(v.guard)) and old.status is v.status and old.since else now)
        for v in current
    ]


def refusals(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Those that do not let a change start."""
    return [v for v in verdicts if not v.allows]

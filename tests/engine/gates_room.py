"""What the tests of the gates share: a workshop on a real server, and one evaluation of the gates in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from indexpilot_tui.engine.changes.estimate import estimator
from indexpilot_tui.engine.model.change import Plan
from indexpilot_tui.engine.model.verdict import Verdict
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.gates import database_now, evaluate
from indexpilot_tui.engine.safeguards.memory import Memory
from indexpilot_tui.engine.safeguards.terms import terms_of
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.validated import plain, validated
from tests.faults.workshop import Workshop, make_workshop


@pytest.fixture
async def workshop(cluster18: LocalCluster) -> AsyncIterator[Workshop]:
    async with make_workshop(cluster18) as made:
        yield made


async def context(workshop: Workshop, plan: Plan | None = None, **changed: Any) -> GateContext:
    now = await database_now(workshop.monitor)
    values: dict[str, Any] = {
        "target": workshop.target, "settings": workshop.settings, "session": workshop.monitor, "now": now,
        "journal": workshop.journal, "plan": plan, "estimate": estimator(workshop.monitor, plan) if plan else None,
    }  # fmt: skip
    return GateContext(**(values | changed))


async def plan_of(workshop: Workshop, ddl: str = "create index on app.t (v)") -> Plan:
    return await workshop.plan(ddl)


async def verdict(ctx: GateContext, guard: str) -> Verdict:
    said = await evaluate(ctx)
    found = [v for v in said if v.guard == guard]
    assert len(found) == 1, [(v.guard, v.status, v.evidence) for v in said]
    return found[0]


def printing(text: str, **more: Any) -> dict[str, Any]:
    """A metric whose command prints this; not kept, so that each evaluation runs it."""
    return {"command": ["printf", "%s", text], "max_age_seconds": 0} | more


def configured(
    ctx: GateContext, *, metrics: dict[str, Any] | None = None, environment: str | None = None,
    target: dict[str, Any] | None = None, targets: dict[str, Any] | None = None, **safeguards: dict[str, Any],
) -> GateContext:  # fmt: skip
    """The same evaluation with other settings, and nothing remembered of the one before."""
    data = plain(ctx.settings)
    for section, values in safeguards.items():
        data["production_safeguards"][section] |= values
    data["metrics"] = metrics or {}
    data["targets"] |= targets or {}
    if environment not in (None, "development") and "write_performance" not in safeguards:
        # the workshop's traffic is kept out of pg_stat_statements, so production would not know its writes
        data["production_safeguards"]["write_performance"]["enabled"] = False
    update = (target or {}) | ({"environment": environment} if environment else {})
    changed = replace(ctx.target, **update)
    settings = validated(Settings, data)
    ctx = replace(ctx, settings=settings, target=changed, memory=Memory())
    return approved_with(ctx) if ctx.change is not None else ctx


def approved_with(ctx: GateContext) -> GateContext:
    """As if its change had been proposed and approved with the limits of this context."""
    plan: Any = ctx.plan
    change: Any = ctx.change
    plan = replace(plan, terms=terms_of(ctx.target, ctx.settings))
    approvals = tuple(replace(a, plan_sha256=plan.sha256) for a in change.approvals)
    change = replace(change, plan=plan, plan_sha256=plan.sha256, approvals=approvals)
    return replace(ctx, plan=plan, change=change)


async def refusing(ctx: GateContext) -> dict[str, Verdict]:
    """The verdicts that refuse, by their guard's name."""
    return {v.guard: v for v in await evaluate(ctx) if not v.allows}


async def approved(workshop: Workshop) -> GateContext:
    change_id = await workshop.approved("create index on app.t (v)")
    change = await workshop.journal.change(change_id)
    return await context(workshop, change.plan, change=change)

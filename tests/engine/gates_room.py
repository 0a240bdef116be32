"""What the tests of the gates share: a workshop on a real server, and one evaluation of the gates in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from indexpilot_tui.engine.changes import planning
from indexpilot_tui.engine.changes.estimate import estimator
from indexpilot_tui.engine.model.change import Plan
from indexpilot_tui.engine.model.verdict import Verdict
from indexpilot_tui.engine.postgres.ddl import parse_index_statement
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.gates import database_now, evaluate
from indexpilot_tui.localpg import LocalCluster
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
    return await planning.make_plan(workshop.monitor, parse_index_statement(ddl))


async def verdict(ctx: GateContext, guard: str) -> Verdict:
    found = [v for v in await evaluate(ctx) if v.guard == guard]
    assert len(found) == 1, [v.guard for v in await evaluate(ctx)]
    return found[0]


async def approved(workshop: Workshop) -> GateContext:
    change_id = await workshop.approved("create index on app.t (v)")
    change = await workshop.journal.change(change_id)
    return await context(workshop, change.plan, change=change)

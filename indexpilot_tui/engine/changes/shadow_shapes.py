"""Plans before and after from the shadow, where this login may not EXPLAIN on the target: the same fingerprints, forecast.

After the change its opposite is forecast against the target's statistics: dropping the index that was made, or making the
one that was dropped. One side of that forecast is what stands now, the other what stood before.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from indexpilot_tui.engine.changes.plan_shapes import GENERIC, MAX_STATEMENTS, shape
from indexpilot_tui.engine.changes.planning_existing import ddl_for
from indexpilot_tui.engine.journal.records import PhaseStats
from indexpilot_tui.engine.model.change import Plan
from indexpilot_tui.engine.postgres.session import Purpose, session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.model import QueryForecast, Statement
from indexpilot_tui.engine.whatif.simulate import Simulator
from indexpilot_tui.errors import IndexPilotError
from indexpilot_tui.settings.model import Settings, Target

LIMIT_S = 120.0
_Plans = dict[str, dict[str, Any]]


async def with_shadow(
    target: Target, settings: Settings, plan: Plan, stats: dict[str, PhaseStats]
) -> tuple[dict[str, PhaseStats], str]:
    """The phases with forecast fingerprints, and in one sentence where they come from or why there are none."""
    try:
        async with asyncio.timeout(LIMIT_S):
            before, after = await _forecast(target, settings, plan, stats["observed"])
    except (IndexPilotError, TimeoutError) as exc:
        why = exc.message if isinstance(exc, IndexPilotError) else f"no answer within {LIMIT_S:.0f} s"
        return stats, f"the shadow could not tell the plans either: {clean_line(why, 200)}"
    changed = dict(stats)
    for phase, plans in (("start", before), ("observed", after)):
        context = {**stats[phase].context, "plans": plans, "plans_why": ""}
        changed[phase] = replace(stats[phase], context=context)
    return changed, f"plans of {len(after)} statements from the shadow, since this login may not read the tables"


async def _forecast(target: Target, settings: Settings, plan: Plan, now: PhaseStats) -> tuple[_Plans, _Plans]:
    """Plans before and after the change, by queryid."""
    rows = sorted((r for r in now.rows if r["queryid"] is not None), key=lambda r: -float(r["total_exec_time"]))
    statements = {str(r["queryid"]): Statement(str(r["queryid"]), str(r["query"]), float(r["calls"])) for r in rows}
    opposite = str(plan.saved.get("definition", "")) if plan.kind == "drop" else ddl_for("drop", plan.schema, plan.index)
    simulator = Simulator()
    try:
        async with session(target, Purpose.MONITOR, settings) as monitor:
            forecast = await simulator.simulate(monitor, opposite, list(statements.values())[:MAX_STATEMENTS])
    finally:
        await simulator.close()
    without: _Plans = {}
    standing: _Plans = {}
    for query in forecast.queries:
        standing[query.queryid], without[query.queryid] = _sides(query)
    return without, standing


def _sides(query: QueryForecast) -> tuple[dict[str, Any], dict[str, Any]]:
    """What stands and its opposite. At a point of constants the forecast tells costs, not plans: equal costs, one plan."""
    here, there = {GENERIC: shape(query.plan_before)}, {GENERIC: shape(query.plan_after)}
    for number, point in enumerate(query.points):
        here[f"point {number}"] = "same"
        there[f"point {number}"] = "same" if point.cost_before == point.cost_after else "other"
    parameters = int(bool(query.points)) or int("$1" in query.query)
    return {"shapes": here, "parameters": parameters}, {"shapes": there, "parameters": parameters}

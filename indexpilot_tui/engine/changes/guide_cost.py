"""What it takes to build a dropped index again, by the forecast's model."""

from __future__ import annotations

from indexpilot_tui.engine.changes.catalog import index_by_oid
from indexpilot_tui.engine.changes.estimate import build_estimate
from indexpilot_tui.engine.changes.planning_existing import ddl_for
from indexpilot_tui.engine.changes.rollback import plan_of_return
from indexpilot_tui.engine.model.change import Change
from indexpilot_tui.engine.model.wayback import Cost
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.simulate import Simulator
from indexpilot_tui.errors import IndexPilotError

BY_MODEL = "the forecast's model"


async def cost_of_return(session: Session, simulator: Simulator, change: Change, ddl: str) -> Cost:
    """Size, time, WAL and temporary files of `ddl`, the statement of the way back from a drop. While the index still stands,
    the forecast of rebuilding it tells the same. Where there is no forecast, the upper bounds that the safeguards use; the
    basis says which."""
    plan = change.plan
    stands = plan.index_oid is not None and await index_by_oid(session, plan.index_oid) is not None
    try:
        made = (await simulator.simulate(session, ddl_for("reindex", plan.schema, plan.index) if stands else ddl, ())).index
    except IndexPilotError as exc:
        most = await build_estimate(session, plan_of_return(change, (plan.schema, plan.table, plan.owner)))
        seconds = None if most.seconds is None else (0.0, most.seconds)
        basis = f"upper bounds ({most.basis}); there is no forecast: {clean_line(exc.message, 160)}"
        return Cost(most.index_bytes, seconds, most.wal_bytes, most.temp_bytes, basis)
    return Cost(made.size_bytes, made.build_seconds, made.wal_bytes, made.temp_bytes, BY_MODEL)

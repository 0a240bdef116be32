"""Whether what a change left behind still stands: the catalog, read again by OID long after the deed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from indexpilot_tui.engine.changes.catalog import index_by_name, index_by_oid, question
from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.model.change import ACTIVE_STATES, Change, State
from indexpilot_tui.engine.model.standing import Standing
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import IndexPilotError


async def stands(session: Session, change: Change) -> Standing:
    """What the catalog says now of the index that `change` made, rebuilt or dropped; it was verified before.

    No lock is taken but on pg_class and its like. Raises the session's errors: what cannot be read is no answer.
    """
    facts = session.facts
    plan = change.plan
    if (facts.system_identifier, facts.database) != (plan.system_identifier, plan.database):
        return Standing("elsewhere", f"this is cluster {facts.system_identifier}, database {clean_line(facts.database)}")
    if facts.in_recovery:
        return Standing("elsewhere", "the server is a standby now")
    if change.index_oid is None:
        return await _dropped(session, change)
    return await _made(session, change, change.index_oid)


async def _dropped(session: Session, change: Change) -> Standing:
    plan = change.plan
    named = await index_by_name(session, plan.schema, plan.index)
    shown = clean_line(f"{plan.schema}.{plan.index}")
    if named is not None and named.table_oid == plan.table_oid:
        return Standing("made_again", f"there is {shown} again (OID {named.oid}, {named.flags})", named.oid)
    return Standing("gone", f"the index {shown} is gone, as planned")


async def _made(session: Session, change: Change, oid: int) -> Standing:
    plan = change.plan
    shown = clean_line(f"{plan.schema}.{plan.index}")
    facts = await index_by_oid(session, oid)
    if facts is None:
        named = await index_by_name(session, plan.schema, plan.index)
        if named is None:
            return Standing("dropped", f"the index {shown} (OID {oid}) is gone: it was dropped since")
        return Standing("replaced", f"{shown} is another index now: OID {named.oid} ({named.flags}), not {oid}", named.oid)
    here = clean_line(f"{facts.schema}.{facts.name}")
    if facts.table_oid != plan.table_oid:
        return Standing("replaced", f"OID {oid} is the index {here} of another table now (OID {facts.table_oid})", oid)
    if not (facts.valid and facts.ready and facts.live):
        return Standing("invalid", f"the index {here} (OID {oid}) is not valid any more ({facts.flags})", oid)
    if facts.partitioned:
        row = await session.row(question("parts_covered", session), {"oid": oid, "table_oid": plan.table_oid})
        if row is None or row["partitions"] != row["covered"]:
            counts = f"{row['covered']} of {row['partitions']}" if row else "an unknown number of"
            return Standing("partial", f"{counts} partitions have a valid part of the index {here}", oid)
    renamed = f", called {here} now" if here != shown else ""
    return Standing("valid", f"the index {shown} (OID {oid}) is {facts.flags}{renamed}", oid)


async def asked(monitor: Callable[[], AbstractAsyncContextManager[Session]], change: Change) -> Change:
    """`change` with what the catalog says now; that it could not be asked is said, too."""
    if change.state not in (State.OBSERVING, State.DONE):  # in these it says that its index stands
        return change
    try:
        async with monitor() as session:
            found = await stands(session, change)
    except IndexPilotError as exc:
        found = Standing("unread", f"the catalog could not be asked: {exc.message}")
    return replace(change, standing=found)


async def taken_back(journal: Journal, change: Change) -> bool:
    """Whether a change that takes this one back is on its way: then an index that is gone is no contradiction."""
    others = await journal.changes(200)
    return any(other.parent_id == change.id and other.state in ACTIVE_STATES for other in others)

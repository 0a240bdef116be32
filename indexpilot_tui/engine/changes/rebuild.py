"""An index that is built anew: what stood before, which copies of it are ours, and which of the two is in place now.

REINDEX INDEX CONCURRENTLY makes a second index and then swaps the names, so the rebuilt index has a new OID and the old OID
ends as `name_ccold` (measured on 15 and 18). Ours is only what was not there when we began, is INVALID, stands on the same
table and has a name that the server would have made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from indexpilot_tui.engine.changes.catalog import IndexFacts, index_by_name, index_by_oid, index_text, question
from indexpilot_tui.engine.changes.planning_existing import properties
from indexpilot_tui.engine.model.change import Plan
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line


async def standing(session: Session, plan: Plan) -> dict[str, Any]:
    """What stands before the deed, for its intent row: the index's file and size, and every index of the table."""
    oid = plan.index_oid or 0
    saved = await session.row(question("index_saved", session), {"oid": oid})
    text = await index_text(session, oid)
    others = await session.rows(question("index_oids", session), {"table_oid": plan.table_oid})
    return {
        "oid": oid,
        "relfilenode": saved["relfilenode"] if saved else None,
        "size_bytes": text[1] if text else None,
        "indexes": [row["oid"] for row in others],
    }


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Where a rebuild stands. `replaced`: the new index has the name. `leftover`: an INVALID copy of ours. `wrong`: why a
    person has to look."""

    replaced: bool
    current: IndexFacts | None
    leftover: IndexFacts | None
    wrong: str


async def look(session: Session, plan: Plan, before: dict[str, Any], copy_oid: int | None) -> Rebuilt:
    """Read the catalog: which index has the name now, and what is left of ours. `before` is `standing` of the intent row;
    `copy_oid` the new copy as the progress view showed it, if it did."""
    old_oid = plan.index_oid or 0
    leftover = await _leftover(session, plan, before, copy_oid)
    current = await index_by_name(session, plan.schema, plan.index)
    shown = clean_line(f"{plan.schema}.{plan.index}")
    if current is None:
        return Rebuilt(False, None, leftover, f"there is no index {shown} any more")
    if current.table_oid != plan.table_oid:
        return Rebuilt(False, current, leftover, f"{shown} is on another table now (OID {current.table_oid})")
    if current.oid == old_oid:
        return Rebuilt(False, current, leftover, "")
    text = await index_text(session, current.oid)
    if text is None or text[0] != plan.saved.get("definition"):
        return Rebuilt(False, current, leftover, f"{shown} is another index now (OID {current.oid})")
    return Rebuilt(True, current, leftover, "")


async def _leftover(session: Session, plan: Plan, before: dict[str, Any], copy_oid: int | None) -> IndexFacts | None:
    """The new copy where it was never finished, or the old index where it was replaced and not yet dropped."""
    known = [oid for oid in before.get("indexes", []) if oid != plan.index_oid]
    rows = await session.rows(
        question("rebuild_copies", session),
        {"table_oid": plan.table_oid, "schema": plan.schema, "index": plan.index, "before": known},
    )
    for row in rows:
        if copy_oid is not None and row["oid"] not in (copy_oid, plan.index_oid):
            continue  # somebody else's rebuild, after ours
        facts = await index_by_oid(session, row["oid"])
        if facts is not None and not facts.valid:
            return facts
    return None


async def lost_properties(session: Session, plan: Plan, oid: int) -> list[str]:
    """What the index had beside its definition and the one with this OID has not: comment, options, marks."""
    saved = await session.row(question("index_saved", session), {"oid": oid})
    if saved is None:
        return ["the index is gone"]
    now = properties(saved)
    return [f"{key}: {plan.saved[key]!r}, now {now[key]!r}" for key in now if plan.saved.get(key) != now[key]]

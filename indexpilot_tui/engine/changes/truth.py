"""How far a change on a partitioned table has come: what the catalog says of each step, with the journal's OIDs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from indexpilot_tui.engine.changes.catalog import IndexFacts, index_text, indexes_of, question
from indexpilot_tui.engine.changes.definition import differences
from indexpilot_tui.engine.changes.planning_parts import MAKES
from indexpilot_tui.engine.journal.journal import Part
from indexpilot_tui.engine.model.change import Plan, Step
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line


@dataclass(slots=True)
class Truth:
    """`made`: indexes of ours by the position of the step that made them; `leftover`: the one that is INVALID; `todo`: steps
    that are still to be taken; `unseen`: positions of which the journal has no OID; `gone`: positions whose partition is
    no part of the table any more; `wrong`: why a person has to look."""

    made: dict[int, IndexFacts] = field(default_factory=dict)
    leftover: tuple[int, IndexFacts] | None = None
    todo: list[int] = field(default_factory=list)
    unseen: list[int] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    wrong: str = ""

    @property
    def root(self) -> IndexFacts | None:
        return self.made.get(0)

    def attached(self, position: int) -> bool:
        """Whether the index of a step is a part of another one: then it goes with that one only."""
        return position in self.made and self.made[position].parent is not None


async def read_truth(session: Session, plan: Plan, parts: Mapping[int, Part]) -> Truth:
    """Ask the catalog about every step of a plan. No lock on a table is taken but for a moment's AccessShareLock."""
    truth = Truth()
    if plan.kind == "drop":
        found = [f for f in await indexes_of(session, [plan.table_oid]) if f.oid == plan.index_oid]
        if found:
            truth.todo.append(0)
            truth.made[0] = found[0]
        return truth
    rows = await session.rows(question("partitions", session), {"table_oid": plan.table_oid})
    tree = {row["oid"]: (row["schema"], row["name"]) for row in rows}
    facts = await indexes_of(session, sorted({step.table_oid for step in plan.steps}))
    by_oid = {f.oid: f for f in facts}
    by_name = {(f.schema, f.name): f for f in facts}
    for position, step in enumerate(plan.steps):
        if step.table_oid not in tree and plan.table_oid in tree:
            truth.gone.append(position)
        elif tree.get(step.table_oid) != (step.schema, step.table):
            truth.wrong = truth.wrong or f"the table with OID {step.table_oid} is not {clean_line(step.table)} any more"
        if step.deed in MAKES:
            await _made(session, truth, position, step, parts.get(position), by_oid, by_name)
        elif position not in truth.gone:
            _joined(truth, position, step, plan, by_oid)
    return truth


async def _made(
    session: Session, truth: Truth, position: int, step: Step, part: Part | None,
    by_oid: Mapping[int, IndexFacts], by_name: Mapping[tuple[str, str], IndexFacts],
) -> None:  # fmt: skip
    """One step that makes an index: made, left INVALID, or still to do."""
    named = by_name.get((step.schema, step.index))
    ours = part is not None and part.state != "cleaned"
    if not ours or part is None:
        if named is not None and position not in truth.gone:
            truth.wrong = truth.wrong or f"the name {clean_line(step.index)} was taken in the meantime"
        if position not in truth.gone:
            truth.todo.append(position)
        return
    facts = by_oid.get(part.index_oid) if part.index_oid is not None else named
    if facts is None:
        if named is not None:
            truth.wrong = truth.wrong or (
                f"OID {part.index_oid} is gone and {clean_line(step.index)} is another index now (OID {named.oid})"
            )
        if position not in truth.gone:
            truth.todo.append(position)
        return
    if part.index_oid is None:  # begun, and nobody saw its OID
        truth.unseen.append(position)
        text = await index_text(session, facts.oid)
        different = differences(step.ddl, text[0]) if text is not None else ["gone while it was looked at"]
        if facts.table_oid != step.table_oid or (different and facts.valid):
            truth.wrong = truth.wrong or f"index {clean_line(facts.name)} is not as planned: {'; '.join(different)}"
    if step.deed == "leaf" and not facts.valid:
        truth.leftover = truth.leftover or (position, facts)
        if position not in truth.gone:
            truth.todo.append(position)
        return
    truth.made[position] = facts


def _joined(truth: Truth, position: int, step: Step, plan: Plan, by_oid: Mapping[int, IndexFacts]) -> None:
    """One step that attaches an index: done, still to do, or attached to something else."""
    parent = truth.made.get(step.to) if step.to is not None else None
    if step.index_oid is not None:
        child = by_oid.get(step.index_oid)
        if child is None:
            truth.wrong = truth.wrong or f"the index {clean_line(step.index)} (OID {step.index_oid}) is gone"
    else:
        makers = [n for n, s in enumerate(plan.steps) if s.deed in MAKES and s.table_oid == step.table_oid]
        child = truth.made.get(makers[0]) if makers else None
    if child is not None and parent is not None and child.parent == parent.oid:
        return
    if child is not None and child.parent is not None:
        truth.wrong = truth.wrong or f"the index {clean_line(child.name)} is a part of another index already"
    truth.todo.append(position)


async def proof(session: Session, plan: Plan, truth: Truth) -> tuple[str, dict[str, int]]:
    """Whether the index of the partitioned table is what was planned, by OID; and how many partitions it covers."""
    root = truth.root
    if root is None:
        return "the index of the partitioned table is gone", {}
    if not (root.valid and root.ready and root.live):
        return f"the index of the partitioned table is not there as it should be ({root.flags})", {}
    text = await index_text(session, root.oid)
    different = differences(plan.ddl, text[0]) if text is not None else ["gone while it was looked at"]
    if different:
        return f"the index of the partitioned table is not as planned: {'; '.join(different)}", {}
    row = await session.row(question("parts_covered", session), {"oid": root.oid, "table_oid": plan.table_oid})
    counts = {key: int(row[key]) for key in ("partitions", "covered", "size_bytes")} if row else {}
    if not counts or counts["partitions"] != counts["covered"]:
        return f"{counts.get('covered', 0)} of {counts.get('partitions', 0)} partitions have their part of the index", counts
    return "", counts

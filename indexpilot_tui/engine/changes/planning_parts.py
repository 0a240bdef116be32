"""A partitioned table as one change: its index without storage first, one concurrent build a partition, then the joining.

PostgreSQL refuses CREATE INDEX CONCURRENTLY on a partitioned table (0A000). What works (measured on 15 and 18): CREATE INDEX
ON ONLY for it and for every partitioned table below it (a moment's ShareLock on that table alone, nothing is read), one
CREATE INDEX CONCURRENTLY a partition with rows, and ALTER INDEX ... ATTACH PARTITION from below to above (a moment's
AccessExclusiveLock on the part's index alone). The index becomes valid with the last part. The table's own index comes
first, so that a partition that is made meanwhile gets its part by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.changes.catalog import indexes_of, question
from indexpilot_tui.engine.changes.definition import identical
from indexpilot_tui.engine.changes.naming import choose_name
from indexpilot_tui.engine.model.change import Plan, Step
from indexpilot_tui.engine.postgres.ddl import IndexStatement, parse_index_statement, render
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import UsageError

MAKES = ("root", "branch", "leaf")  # deeds that make an index
TRIES = 10  # of every other deed, which waits for its lock no longer than a second


def attach_ddl(parent: Step, schema: str, index: str) -> str:
    """The text that makes an index a part of the one that `parent` makes."""
    statement = sql.SQL("ALTER INDEX {} ATTACH PARTITION {}").format(
        sql.Identifier(parent.schema, parent.index), sql.Identifier(schema, index)
    )
    return statement.as_string(None)


def plain_drop_ddl(schema: str, index: str) -> str:
    """The text that drops the index of a partitioned table: there is no concurrent way."""
    return sql.SQL("DROP INDEX {}").format(sql.Identifier(schema, index)).as_string(None)


def _make(deed: str, statement: IndexStatement, row: dict[str, Any], index: str) -> Step:
    ddl = render(
        statement, schema=row["schema"], table=row["name"], index=index, concurrently=deed == "leaf", only=deed != "leaf"
    )
    return Step(deed, ddl, row["schema"], row["name"], row["oid"], index)


async def partitioned_steps(
    session: Session, statement: IndexStatement, table_oid: int, taken: set[str]
) -> tuple[tuple[Step, ...], dict[str, Any]]:
    """The steps, and what is saved with the plan. `statement` has its final name, which is the root's.

    An index that stands on a partition already and is just the one that is wanted is taken in instead of being built again.
    Raises UsageError where the index could never become valid: a foreign partition, another owner, a rule that no unique
    index can keep.
    """
    rows = await session.rows(question("partitions", session), {"table_oid": table_oid})
    for row in rows:
        _check(row, rows[0], statement)
    existing = await _existing(session, statement, rows[1:])
    names: dict[str, set[str]] = {rows[0]["schema"]: taken | {str(statement.index)}}
    made: list[Step] = [_make("root", statement, rows[0], str(statement.index))]
    joins: list[tuple[int, Step]] = []
    position = {rows[0]["oid"]: 0}
    leaves: list[tuple[dict[str, Any], Step]] = []
    adopted: list[dict[str, Any]] = []
    covered: set[int] = set()  # partitions below one whose index is taken in as it is
    for row in rows[1:]:
        if row["parent"] in covered:
            covered.add(row["oid"])
            continue
        if row["oid"] in existing:
            oid, schema, name = existing[row["oid"]]
            covered.add(row["oid"])
            adopted.append({"oid": oid, "index": f"{schema}.{name}"})
            joins.append((row["level"], Step("attach", "", schema, row["name"], row["oid"], name, row["parent"], oid)))
            continue
        index = await _name(session, statement, row, names)
        step = _make("leaf" if row["is_leaf"] else "branch", statement, row, index)
        if row["is_leaf"]:
            leaves.append((row, step))
        else:
            position[row["oid"]] = len(made)
            made.append(step)
        joins.append((row["level"], Step("attach", "", row["schema"], row["name"], row["oid"], index, row["parent"])))
    made += [step for _, step in leaves]
    attached = []
    for _, join in sorted(joins, key=lambda item: -item[0]):  # from below to above
        to = position[join.to or 0]
        attached.append(replace(join, ddl=attach_ddl(made[to], join.schema, join.index), to=to))
    return (*made, *attached), {"partitions": sum(row["is_leaf"] for row in rows), "adopted": adopted}


def _check(row: dict[str, Any], root: dict[str, Any], statement: IndexStatement) -> None:
    shown = clean_line(f"{row['schema']}.{row['name']}", 200)
    if row["relkind"] not in ("r", "p"):
        raise UsageError(
            "a partition is a foreign table, which can have no index, so the index of the whole could never become valid",
            field="table",
            value=shown,
            remedy="propose one index a partition",
        )
    if row["persistence"] == "t":
        raise UsageError(
            "a partition is a temporary table of another session", field="table", value=shown, remedy="drop it first"
        )
    if row["owner"] != root["owner"]:
        raise UsageError(
            f"this partition belongs to {clean_line(row['owner'])}, its table to {clean_line(root['owner'])}",
            field="table",
            value=shown,
            remedy="give all partitions one owner (ALTER TABLE ... OWNER TO)",
        )
    keys = {param.index_elem.name for param in statement.tree.index_stmt.index_params}  # raw, as the catalog has them
    missing = [name or "an expression" for name in row["part_key"] if not name or name not in keys]
    if statement.unique and missing:
        raise UsageError(
            "a unique index of a partitioned table must contain every column of the partition keys; this one lacks"
            f" {clean_line(', '.join(missing), 200)}",
            field="table",
            value=shown,
            remedy="add the columns, or propose one unique index a partition",
        )


async def _existing(
    session: Session, statement: IndexStatement, rows: Sequence[dict[str, Any]]
) -> dict[int, tuple[int, str, str]]:
    """By partition: OID, schema and name of a valid index of its own that is the one that is wanted."""
    found: dict[int, tuple[int, str, str]] = {}
    facts = {f.oid: f for f in await indexes_of(session, [row["oid"] for row in rows])}
    for row in rows:
        for index in await session.rows(question("table_indexes", session), {"table_oid": row["oid"]}):
            fact = facts.get(index["oid"])
            if fact is None or not identical(statement, index["definition"]):
                continue
            shown = f"{fact.schema}.{fact.name}"
            if not fact.valid or fact.building:
                raise UsageError(
                    "a partition has an INVALID index like the one that is wanted",
                    field="index",
                    value=clean_line(shown, 200),
                    remedy="propose DROP INDEX or REINDEX INDEX for it first",
                )
            if fact.parent is None:
                found.setdefault(row["oid"], (fact.oid, fact.schema, fact.name))
    return found


async def _name(session: Session, statement: IndexStatement, row: dict[str, Any], names: dict[str, set[str]]) -> str:
    if row["schema"] not in names:
        taken = await session.rows(question("names_taken", session), {"schema": row["schema"]})
        names[row["schema"]] = {r["name"] for r in taken}
    name = choose_name(statement, row["name"], names[row["schema"]])
    names[row["schema"]].add(name)
    return name


def step_disagreement(plan: Plan) -> str:
    """How the steps differ from what follows from the plan's own statement and the steps' names; empty when they do not."""
    if not plan.steps:
        return ""
    statement = parse_index_statement(plan.ddl)
    for number, step in enumerate(plan.steps):
        wanted = _wanted(plan, statement, number, step)
        if step.ddl != wanted:
            return f"step {number + 1}: planned {wanted or 'nothing like it'}, written {step.ddl}"
    return ""


def _wanted(plan: Plan, statement: IndexStatement, number: int, step: Step) -> str:
    """The text of a step as it must be; empty for a step that must not be."""
    whole = (plan.schema, plan.table, plan.table_oid, plan.index)
    names = (step.schema, step.table, step.table_oid, step.index)
    if plan.kind == "drop":
        return plain_drop_ddl(plan.schema, plan.index) if (step.deed, number, names) == ("drop", 0, whole) else ""
    if plan.kind != "create" or (step.deed == "root") != (number == 0) or (number == 0 and names != whole):
        return ""
    if step.deed in MAKES:
        leaf = step.deed == "leaf"
        return render(statement, schema=step.schema, table=step.table, index=step.index, concurrently=leaf, only=not leaf)
    before = enumerate(plan.steps[:number])
    parent = next((s for n, s in before if n == step.to and s.deed in ("root", "branch")), None)
    if step.deed != "attach" or parent is None:
        return ""
    own = [s for s in plan.steps[:number] if s.deed in MAKES and (s.schema, s.index) == (step.schema, step.index)]
    return attach_ddl(parent, step.schema, step.index) if own or step.index_oid is not None else ""


@dataclass(frozen=True, slots=True)
class StepPlan(Plan):
    """One step as the safeguards judge it: a plan for that table, under the hash of the whole that was approved."""

    whole: str = ""
    deed: str = ""

    @property
    def builds(self) -> bool:
        return self.deed == "leaf"

    @property
    def sha256(self) -> str:
        return self.whole


def judged(plan: Plan) -> Plan:
    """What the gates are asked about before a change is claimed: its first build, or the plan where it is one statement."""
    builds = [n for n, step in enumerate(plan.steps) if step.deed == "leaf"]
    return step_plan(plan, builds[0]) if builds else plan


def step_plan(plan: Plan, position: int) -> StepPlan:
    """The plan of one step."""
    step = plan.steps[position]
    fields = {name: getattr(plan, name) for name in Plan.__slots__}
    ddl = step.ddl if step.deed == "leaf" else plan.ddl
    place = {"schema": step.schema, "table": step.table, "table_oid": step.table_oid, "index": step.index}
    return StepPlan(**{**fields, **place, "ddl": ddl, "steps": ()}, whole=plan.sha256, deed=step.deed)

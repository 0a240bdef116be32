"""The way back: a change of its own, the opposite of its parent, with the parent's definition saved before the deed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.changes.catalog import index_by_name, index_by_oid, table_now
from indexpilot_tui.engine.changes.planning_existing import plan_drop
from indexpilot_tui.engine.changes.planning_parts import plain_drop_ddl
from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.model.change import END_STATES, Change, Plan, State, Step
from indexpilot_tui.engine.postgres.ddl import parse_index_statement, render
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import RefusedError, UsageError
from indexpilot_tui.settings.model import Settings

BESIDE = ("comment", "tablespace", "options", "statistics", "clustered", "replica_identity")  # `properties`
RESTORED = ("comment", "statistics", "clustered", "replica_identity")  # what a definition does not say
TAKEN_BACK_FROM = (State.OBSERVING, State.DONE, State.NEEDS_OPERATOR)


async def plan_rollback(session: Session, change: Change, _settings: Settings | None = None) -> Plan:
    """The plan that undoes `change`: DROP for a CREATE, CREATE from the saved definition for a DROP. No setting matters.

    Raises RefusedError when there is nothing to take back or the objects are not what the change left behind.
    """
    if change.state not in TAKEN_BACK_FROM:
        raise RefusedError(f"change {change.id} is {change.state.value}: there is nothing to take back")
    if session.facts.system_identifier != change.plan.system_identifier:
        raise RefusedError(f"change {change.id} was made on another cluster")
    if session.facts.database != change.plan.database:
        raise RefusedError(f"change {change.id} was made in database {clean_line(change.plan.database)}")
    if change.kind == "reindex":
        raise RefusedError(
            f"change {change.id} built the same index anew: nothing was lost, so there is nothing to go back to",
            remedy="if the index is bloated or damaged again, propose REINDEX INDEX again",
        )
    return await _undo_create(session, change) if change.kind == "create" else await _undo_drop(session, change)


async def _undo_create(session: Session, change: Change) -> Plan:
    facts = await index_by_oid(session, change.index_oid) if change.index_oid is not None else None
    if facts is None:
        raise RefusedError(f"the index of change {change.id} is gone: there is nothing to take back")
    if (facts.schema, facts.name) != (change.plan.schema, change.plan.index):
        shown = clean_line(f"{facts.schema}.{facts.name}")
        raise RefusedError(
            f"the index of change {change.id} is called {shown} now",
            remedy="rename it back, or propose DROP INDEX for the new name",
        )
    plan = await plan_drop(session, facts.oid, facts.schema, facts.name, allow_unique=True)
    plan = replace(plan, saved={})  # counters and the like: what is kept has to be the same when it is needed
    return _drop_of_the_whole(change, plan) if facts.partitioned else plan


def _drop_of_the_whole(change: Change, plan: Plan) -> Plan:
    """PostgreSQL has no concurrent drop for the index of a partitioned table (0A000): one plain DROP INDEX, which locks the
    table and all its partitions for a moment, and waits for that no longer than a second at a time."""
    theirs = change.plan.saved.get("adopted") or []
    if theirs:
        names = ", ".join(clean_line(str(item["index"])) for item in theirs[:5])
        raise RefusedError(
            f"change {change.id} took in indexes that stood there before, and they would go with it: {names}",
            remedy="in a maintenance window: DROP INDEX, then propose these indexes again",
        )
    step = Step("drop", plain_drop_ddl(plan.schema, plan.index), plan.schema, plan.table, plan.table_oid, plan.index)
    return replace(plan, steps=(step,))


async def _undo_drop(session: Session, change: Change) -> Plan:
    before = change.plan
    table = await table_now(session, before.table_oid)
    if table is None:
        raise RefusedError(f"the table of change {change.id} is gone")
    if await index_by_name(session, before.schema, before.index) is not None:
        raise RefusedError(f"the name {clean_line(before.index)} is taken by another index now")
    return plan_of_return(change, table)


def plan_of_return(change: Change, table: tuple[str, str, str]) -> Plan:
    """The plan that makes a dropped index again, on the table that is called so now (schema, name, owner): what the executor
    kept of it before the deed, else what the proposal says of it.

    Raises RefusedError when there was no working index.
    """
    schema, name, owner = table
    if change.way_back is not None:
        kept = change.way_back
        again = parse_index_statement(kept.ddl)
        ddl = render(again, schema=schema, table=name, index=kept.index, concurrently=True)
        return replace(kept, ddl=ddl, table=name, owner=owner)
    return _return_from(change, change.plan.saved, table)


async def kept_way_back(session: Session, change: Change) -> Plan | None:
    """The plan that takes `change` back, read from the catalog now: before a drop, or once what was made is verified. None
    where there is none: a rebuild, an INVALID leftover, an index with parts that stood before."""
    try:
        if change.kind == "create":
            return await _undo_create(session, change)
        if change.kind == "reindex" or change.plan.index_oid is None:
            return None
        plan = change.plan
        now = await plan_drop(session, change.plan.index_oid, plan.schema, plan.index, allow_unique=True)
        return _return_from(change, now.saved, (now.schema, now.table, now.owner))
    except RefusedError:
        return None


def _return_from(change: Change, saved: dict[str, Any], table: tuple[str, str, str]) -> Plan:
    before = change.plan
    if not saved.get("valid", True):
        raise RefusedError(f"change {change.id} dropped an INVALID leftover: there was no working index to restore")
    statement = parse_index_statement(str(saved["definition"]))
    if saved.get("tablespace"):
        statement.tree.index_stmt.table_space = str(saved["tablespace"])
    schema, name, owner = table
    return Plan(
        kind="create",
        ddl=render(statement, schema=schema, table=name, index=before.index, concurrently=True),
        schema=before.schema,
        table=name,
        table_oid=before.table_oid,
        index=before.index,
        index_oid=None,
        method=before.method,
        unique=before.unique,
        owner=owner,
        system_identifier=before.system_identifier,
        database=before.database,
        saved={
            "restore": {key: saved.get(key) for key in RESTORED},
            "definition": saved.get("definition"),
            **{key: saved.get(key) for key in BESIDE},
        },
    )


def restoring(plan: Plan) -> list[sql.Composed]:
    """What `pg_get_indexdef` does not say of an index that is made again: statistics targets, CLUSTER mark, replica
    identity, comment. `plan`: of the return."""
    restore: dict[str, Any] = plan.saved.get("restore") or {}
    index, table = sql.Identifier(plan.schema, plan.index), sql.Identifier(plan.schema, plan.table)
    statements = [
        sql.SQL("alter index {} alter column {} set statistics {}").format(
            index, sql.Literal(int(number)), sql.Literal(int(target))
        )
        for number, target in sorted((restore.get("statistics") or {}).items(), key=lambda item: int(item[0]))
    ]
    if restore.get("clustered"):
        statements.append(sql.SQL("alter table {} cluster on {}").format(table, sql.Identifier(plan.index)))
    if restore.get("replica_identity"):
        statements.append(
            sql.SQL("alter table {} replica identity using index {}").format(table, sql.Identifier(plan.index))
        )
    if restore.get("comment"):
        comment = sql.Literal(str(restore["comment"]))
        statements.append(sql.SQL("comment on index {} is {}").format(index, comment))
    return statements


async def propose_rollback(session: Session, journal: Journal, change: Change, reason: str) -> int:
    """The id of the rollback of `change`: the one that is proposed already, else a new one. Nothing is carried out."""
    for other in await journal.changes(200):
        if other.parent_id == change.id and other.plan.kind != change.kind and other.state not in END_STATES:
            return other.id
    plan = await plan_rollback(session, change)
    if not reason.strip():
        raise UsageError("a rollback needs a reason", field="--reason")
    return await journal.propose(plan, target=change.target, reason=reason, parent_id=change.id, rollback=True)

"""From an index statement to a plan: every name resolved, the full DDL written out, what it takes to go back saved."""

from __future__ import annotations

from typing import Any

from indexpilot_tui.engine.changes.catalog import index_by_name, question
from indexpilot_tui.engine.changes.definition import identical
from indexpilot_tui.engine.changes.naming import choose_name, find_relation, qualify
from indexpilot_tui.engine.changes.planning_existing import drop_plan, reindex_plan
from indexpilot_tui.engine.changes.planning_parts import partitioned_steps
from indexpilot_tui.engine.model.change import Plan, Step
from indexpilot_tui.engine.postgres.ddl import IndexStatement, parse_index_statement, render
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import UsageError
from indexpilot_tui.settings.model import Settings


async def make_plan(session: Session, statement: IndexStatement, _settings: Settings | None = None) -> Plan:
    """The plan for a CREATE, DROP or REINDEX INDEX on the session's target. Nothing is written; no setting changes a plan.

    Raises UsageError, with the object and the remedy, for what does not exist or is refused as a change.
    """
    if statement.kind == "create":
        return await _create(session, statement)
    if statement.kind == "drop":
        return await drop_plan(session, statement)
    return await reindex_plan(session, statement)


def _refuse(message: str, value: str, remedy: str, field: str = "table") -> UsageError:
    return UsageError(message, field=field, value=clean_line(value, 200), remedy=remedy)


async def _create(session: Session, statement: IndexStatement) -> Plan:
    table = await find_relation(session, statement.table_schema, str(statement.table), "table")
    shown = f"{table['schema']}.{table['name']}"
    _check_table(table, shown)
    await _check_columns(session, statement, table["oid"], shown)
    statement = await qualify(session, statement)
    taken = {row["name"] for row in await session.rows(question("names_taken", session), {"schema": table["schema"]})}
    name = statement.index or choose_name(statement, table["name"], taken)
    if name in taken:
        await _refuse_taken(session, table["schema"], name)
    ddl = render(statement, schema=table["schema"], table=table["name"], index=name, concurrently=True)
    await _refuse_twin(session, parse_index_statement(ddl), table["oid"])
    steps: tuple[Step, ...] = ()
    saved: dict[str, Any] = {}
    if table["relkind"] == "p":
        steps, saved = await partitioned_steps(session, parse_index_statement(ddl), table["oid"], taken)
    return Plan(
        kind="create",
        ddl=ddl,
        schema=table["schema"],
        table=table["name"],
        table_oid=table["oid"],
        index=name,
        index_oid=None,
        method=statement.method,
        unique=statement.unique,
        owner=table["owner"],
        system_identifier=session.facts.system_identifier,
        database=session.facts.database,
        saved=saved,
        steps=steps,
    )


def _check_table(table: dict[str, Any], shown: str) -> None:
    kind = table["relkind"]
    if table["is_system"]:
        raise _refuse("system catalogs are not changed", shown, "name a table of the application")
    if kind not in ("r", "m", "p"):
        raise _refuse("only tables and materialized views have indexes", shown, "name a table")
    if table["persistence"] == "t":
        raise _refuse("a temporary table belongs to another session", shown, "name a permanent table")


async def _check_columns(session: Session, statement: IndexStatement, table_oid: int, shown: str) -> None:
    names = {row["name"] for row in await session.rows(question("columns", session), {"table_oid": table_oid})}
    tree = statement.tree.index_stmt
    for param in [*tree.index_params, *tree.index_including_params]:
        column = param.index_elem.name
        if column and column not in names:
            raise _refuse(
                f"the table {clean_line(shown, 200)} has no such column",
                column,
                f"its columns are {clean_line(', '.join(sorted(names)), 300)}",
                field="column",
            )


async def _refuse_taken(session: Session, schema: str, name: str) -> None:
    shown = f"{schema}.{name}"
    facts = await index_by_name(session, schema, name)
    if facts is not None and facts.building:
        raise _refuse("an index of this name is being built now", shown, "wait for it", field="index")
    if facts is not None and not facts.valid:
        raise _refuse(
            "an INVALID leftover of this name exists; a second CREATE would not repair it",
            shown,
            "propose DROP INDEX for it first",
            field="index",
        )
    raise _refuse("this name is taken", shown, "give the new index another name", field="index")


async def _refuse_twin(session: Session, planned: IndexStatement, table_oid: int) -> None:
    for row in await session.rows(question("table_indexes", session), {"table_oid": table_oid}):
        if identical(planned, row["definition"]):
            shown = f"{row['schema']}.{row['name']}"
            state = "" if row["valid"] else " (INVALID: it has to be finished or dropped first)"
            raise _refuse(f"the same index exists already{state}", shown, "use that one", field="index")

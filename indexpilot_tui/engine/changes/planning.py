"""From an index statement to a plan: every name resolved, the full DDL written out, what it takes to go back saved."""

from __future__ import annotations

from typing import Any

from indexpilot_tui.engine.changes.catalog import IndexFacts, index_by_name, index_by_oid, index_text, question
from indexpilot_tui.engine.changes.definition import identical
from indexpilot_tui.engine.changes.naming import choose_name, find_relation, qualify
from indexpilot_tui.engine.model.change import Plan
from indexpilot_tui.engine.postgres.ddl import IndexStatement, parse_index_statement, render
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import UsageError
from indexpilot_tui.settings.model import Settings


async def make_plan(session: Session, statement: IndexStatement, _settings: Settings | None = None) -> Plan:
    """The plan for a CREATE INDEX or DROP INDEX on the session's target. Nothing is written; no setting changes a plan.

    Raises UsageError, with the object and the remedy, for what does not exist or is refused as a change.
    """
    if statement.kind == "create":
        return await _create(session, statement)
    if statement.kind == "drop":
        return await _drop(session, statement)
    raise UsageError(
        "REINDEX is not offered as a change: a rebuild leaves nothing to approve, forecast or take back, and on standbys"
        " its last step stops replay",
        field="DDL",
        value=clean_line(statement.text, 200),
        remedy="for a bloated index propose a CREATE INDEX of the same definition under a new name, then drop the old one",
    )


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
        saved={},
    )


def _check_table(table: dict[str, Any], shown: str) -> None:
    kind = table["relkind"]
    if table["is_system"]:
        raise _refuse("system catalogs are not changed", shown, "name a table of the application")
    if kind == "p":
        raise _refuse(
            "a partitioned table cannot be indexed concurrently in one statement (0A000)",
            shown,
            "propose one index a partition",
        )
    if kind not in ("r", "m"):
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
            state = "" if row["valid"] else " (INVALID: propose DROP INDEX for it first)"
            raise _refuse(f"the same index exists already{state}", shown, "use that one", field="index")


async def _drop(session: Session, statement: IndexStatement) -> Plan:
    found = await find_relation(session, statement.schema, str(statement.index), "index")
    shown = f"{found['schema']}.{found['name']}"
    if found["relkind"] == "I":
        raise _refuse("an index of a partitioned table cannot be dropped concurrently", shown, "", field="index")
    if found["relkind"] != "i":
        raise _refuse("this is not an index", shown, "name an index", field="index")
    return await plan_drop(session, found["oid"], found["schema"], found["name"], allow_unique=False)


async def plan_drop(session: Session, oid: int, schema: str, name: str, *, allow_unique: bool) -> Plan:
    """The plan to drop one index by OID. `allow_unique`: the way back from a unique index that we made ourselves."""
    shown = f"{schema}.{name}"
    facts = await index_by_oid(session, oid)
    saved = await session.row(question("index_saved", session), {"oid": oid})
    text = await index_text(session, oid)
    if facts is None or saved is None or text is None:
        raise _refuse("this index is gone", shown, "read the health pane again", field="index")
    _check_drop(facts, saved, shown, allow_unique=allow_unique)
    return Plan(
        kind="drop",
        ddl=_drop_ddl(schema, name),
        schema=schema,
        table=saved["table_name"],
        table_oid=saved["table_oid"],
        index=name,
        index_oid=oid,
        method=saved["method"],
        unique=saved["is_unique"],
        owner=saved["owner"],
        system_identifier=session.facts.system_identifier,
        database=session.facts.database,
        saved={
            "definition": text[0],
            "valid": facts.valid,
            "comment": saved["comment"],
            "tablespace": saved["tablespace"],
            "options": list(saved["options"]),
            "statistics": dict(saved["statistics"] or {}),
            "clustered": saved["is_clustered"],
            "size_bytes": text[1],
            "scans": saved["scans"],
            "scans_since": saved["scans_since"].isoformat() if saved["scans_since"] else None,
        },
    )


async def drop_refusal(session: Session, plan: Plan, *, allow_unique: bool) -> str:
    """Why the index of a drop plan must not be dropped as things stand now, or an empty string. What was true when it was
    planned may not be any more: an INVALID leftover repaired, an index that became the replica identity."""
    oid = plan.index_oid or 0
    facts = await index_by_oid(session, oid)
    saved = await session.row(question("index_saved", session), {"oid": oid})
    if facts is None or saved is None:
        return f"the index with OID {oid} is gone"
    if facts.valid and not plan.saved.get("valid", True):
        return "the index was INVALID when this was planned and is valid now: somebody repaired it"
    try:
        _check_drop(facts, saved, f"{plan.schema}.{plan.index}", allow_unique=allow_unique)
    except UsageError as exc:
        return exc.message
    return ""


def _drop_ddl(schema: str, name: str) -> str:
    from psycopg import sql

    bare = sql.SQL("DROP INDEX {}").format(sql.Identifier(schema, name)).as_string(None)
    return render(parse_index_statement(bare), schema=schema, table="", index=name, concurrently=True)


def _check_drop(facts: IndexFacts, saved: dict[str, Any], shown: str, *, allow_unique: bool) -> None:
    """Measured consequences: safe-index-changes section 2, rows D-a to D-e."""

    def refuse(message: str, remedy: str) -> UsageError:
        return _refuse(message, shown, remedy, field="index")

    if saved["is_system"]:
        raise refuse("system catalogs are not changed", "name an index of the application")
    if facts.building:
        raise refuse("somebody is building this index now", "wait for the end of that build")
    if saved["is_primary"]:
        raise refuse("this index is the primary key", "it stays; a key is changed by ALTER TABLE in a migration")
    if saved["constraint_name"] is not None or saved["is_exclusion"]:
        what = clean_line(str(saved["constraint_name"] or "an exclusion constraint"), 80)
        raise refuse(f"this index belongs to the constraint {what}", "drop the constraint in a migration if it may go")
    if saved["foreign_key"] is not None:
        raise refuse(
            f"the foreign key {clean_line(saved['foreign_key'], 80)} rests on this index", "drop the foreign key first"
        )
    if saved["is_replica_identity"]:
        raise refuse(
            "this index is the replica identity of its table: without it every UPDATE and DELETE would fail (55000)",
            "choose another replica identity first (ALTER TABLE ... REPLICA IDENTITY)",
        )
    if saved["is_partition"]:
        raise refuse("this index is a part of an index of the partitioned table", "it goes with its parent")
    if saved["is_unique"] and facts.valid and not allow_unique:
        raise refuse(
            "this index is UNIQUE: it keeps duplicates out, and INSERT ... ON CONFLICT may rest on it (42P10 without)",
            "if that rule may go, drop it in a migration",
        )

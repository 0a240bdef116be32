"""Plans for an index that exists: to drop it or to build it anew. What it takes to go back is saved, and why not is said."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from indexpilot_tui.engine.changes.catalog import IndexFacts, index_by_oid, index_text, question
from indexpilot_tui.engine.changes.naming import find_relation
from indexpilot_tui.engine.model.change import Plan
from indexpilot_tui.engine.postgres.ddl import IndexStatement, parse_index_statement, render
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import UsageError


def _refuse(message: str, value: str, remedy: str) -> UsageError:
    return UsageError(message, field="index", value=clean_line(value, 200), remedy=remedy)


async def _find(session: Session, statement: IndexStatement) -> dict[str, Any]:
    found = await find_relation(session, statement.schema, str(statement.index), "index")
    if found["relkind"] not in ("i", "I"):
        raise _refuse("this is not an index", f"{found['schema']}.{found['name']}", "name an index")
    return found


async def drop_plan(session: Session, statement: IndexStatement) -> Plan:
    """The plan for a DROP INDEX. Raises UsageError for what does not exist or must stay."""
    found = await _find(session, statement)
    if found["relkind"] == "I":
        raise _refuse(
            "an index of a partitioned table cannot be dropped concurrently: DROP INDEX would lock the table and all its"
            " partitions against every reader",
            f"{found['schema']}.{found['name']}",
            "in a maintenance window, by a migration with a short lock_timeout and retries",
        )
    return await plan_drop(session, found["oid"], found["schema"], found["name"], allow_unique=False)


async def plan_drop(session: Session, oid: int, schema: str, name: str, *, allow_unique: bool) -> Plan:
    """The plan to drop one index by OID. `allow_unique`: the way back from a unique index that we made ourselves."""
    shown = f"{schema}.{name}"
    facts, saved, text = await _read(session, oid, shown)
    _check_drop(facts, saved, shown, allow_unique=allow_unique)
    return _plan("drop", session, facts, saved, text)


async def reindex_plan(session: Session, statement: IndexStatement) -> Plan:
    """The plan for a REINDEX INDEX. Nothing of an index is lost by it, so what is saved is the evidence of before."""
    found = await _find(session, statement)
    oid, shown = found["oid"], f"{found['schema']}.{found['name']}"
    if found["relkind"] == "I":
        raise _refuse(
            "an index of a partitioned table has no storage: its partitions are rebuilt one by one",
            shown,
            "propose REINDEX INDEX for the index of a partition",
        )
    facts, saved, text = await _read(session, oid, shown)
    _check_reindex(facts, saved, shown)
    return _plan("reindex", session, facts, saved, text)


async def _read(session: Session, oid: int, shown: str) -> tuple[IndexFacts, dict[str, Any], tuple[str, int]]:
    facts = await index_by_oid(session, oid)
    saved = await session.row(question("index_saved", session), {"oid": oid})
    text = await index_text(session, oid)
    if facts is None or saved is None or text is None:
        raise _refuse("this index is gone", shown, "read the health pane again")
    return facts, saved, text


def _plan(kind: str, session: Session, facts: IndexFacts, saved: dict[str, Any], text: tuple[str, int]) -> Plan:
    return Plan(
        kind=kind,
        ddl=ddl_for(kind, facts.schema, facts.name),
        schema=facts.schema,
        table=saved["table_name"],
        table_oid=saved["table_oid"],
        index=facts.name,
        index_oid=facts.oid,
        method=saved["method"],
        unique=saved["is_unique"],
        owner=saved["owner"],
        system_identifier=session.facts.system_identifier,
        database=session.facts.database,
        saved={
            **properties(saved),
            "definition": text[0],
            "valid": facts.valid,
            "size_bytes": text[1],
            "relfilenode": saved["relfilenode"],
            "scans": saved["scans"],
            "scans_since": saved["scans_since"].isoformat() if saved["scans_since"] else None,
        },
    )


def properties(saved: dict[str, Any]) -> dict[str, Any]:
    """What an index has beside its definition (a row of index_saved.sql): all that a way back has to restore."""
    return {
        "comment": saved["comment"],
        "tablespace": saved["tablespace"],
        "options": list(saved["options"]),
        "statistics": dict(saved["statistics"] or {}),
        "clustered": saved["is_clustered"],
        "replica_identity": saved["is_replica_identity"],
    }


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


async def reindex_refusal(session: Session, plan: Plan) -> str:
    """Why the index of a plan must not be rebuilt as things stand now, or an empty string."""
    try:
        facts, saved, _ = await _read(session, plan.index_oid or 0, f"{plan.schema}.{plan.index}")
        _check_reindex(facts, saved, f"{plan.schema}.{plan.index}")
    except UsageError as exc:
        return exc.message
    return ""


def ddl_for(kind: str, schema: str, name: str) -> str:
    """The text that drops or rebuilds an index, as a plan has it."""
    verb = {"drop": "DROP INDEX {}", "reindex": "REINDEX INDEX {}"}[kind]
    bare = sql.SQL(verb).format(sql.Identifier(schema, name)).as_string(None)
    return render(parse_index_statement(bare), schema=schema, table="", index=name, concurrently=True)


def _check_reindex(facts: IndexFacts, saved: dict[str, Any], shown: str) -> None:
    if saved["is_system"]:
        raise _refuse("system catalogs are not changed", shown, "name an index of the application")
    if facts.building:
        raise _refuse("somebody is building this index now", shown, "wait for the end of that build")
    if saved["is_exclusion"]:
        raise _refuse(
            "the index of an exclusion constraint cannot be rebuilt concurrently (0A000)",
            shown,
            "in a maintenance window, by a migration",
        )
    _check_permanent(saved, shown)


def _check_permanent(saved: dict[str, Any], shown: str) -> None:
    """On a temporary table PostgreSQL leaves CONCURRENTLY out (measured: AccessExclusiveLock on the index)."""
    if saved["persistence"] == "t":
        raise _refuse("a temporary table belongs to another session", shown, "name an index of a permanent table")


def _check_drop(facts: IndexFacts, saved: dict[str, Any], shown: str, *, allow_unique: bool) -> None:
    """Measured consequences: safe-index-changes section 2, rows D-a to D-e."""

    def refuse(message: str, remedy: str) -> UsageError:
        return _refuse(message, shown, remedy)

    if saved["is_system"]:
        raise refuse("system catalogs are not changed", "name an index of the application")
    if facts.building:
        raise refuse("somebody is building this index now", "wait for the end of that build")
    _check_permanent(saved, shown)
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

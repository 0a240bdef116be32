"""A rollback carried out where it harms nobody: on the shadow, which has the table's definitions and no rows.

The table is restored there as it stands, brought to what it was before the change, changed, taken back, and every index of
it compared with what it was: by `pg_get_indexdef` and by all that a definition does not say. The texts are those that the
executor would send.
"""

from __future__ import annotations

import time
from typing import Any

import psycopg
from psycopg import sql

from indexpilot_tui.engine.changes.agreement import disagreement
from indexpilot_tui.engine.changes.catalog import PACKAGE
from indexpilot_tui.engine.changes.guide import statements_of_return
from indexpilot_tui.engine.changes.planning_existing import ddl_for, properties
from indexpilot_tui.engine.changes.planning_parts import plain_drop_ddl
from indexpilot_tui.engine.changes.rollback import plan_of_return, restoring
from indexpilot_tui.engine.model.change import Change, Plan
from indexpilot_tui.engine.model.wayback import DIFFERS, HELD, NOT_REHEARSED, Rehearsal
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif import definitions
from indexpilot_tui.engine.whatif.database import ROLE, ShadowDatabase
from indexpilot_tui.engine.whatif.read import read_snapshot
from indexpilot_tui.engine.whatif.shadow import ShadowServer
from indexpilot_tui.errors import RefusedError, UsageError

IN_PLACE_TABLESPACES = 150000  # allow_in_place_tablespaces
_INDEXES = """select i.indexrelid::int8 as oid, n.nspname::text as schema, c.relname::text as name,
       pg_catalog.pg_get_indexdef(i.indexrelid) as definition, i.indisvalid as valid
  from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.oid >= 16384 and n.nspname not in ('pg_toast', 'pg_catalog') order by 2, 3"""

_Inventory = dict[tuple[str, str], dict[str, Any]]


class _Stage:
    """The shadow database in which it is played, and what was played."""

    def __init__(self, shadow: ShadowDatabase) -> None:
        self.shadow = shadow
        self.played: list[tuple[str, float]] = []

    async def play(self, text: str) -> None:
        """One statement of the change or of its rollback, as the owner of everything here. Raises psycopg.Error."""
        start = time.perf_counter()
        await self.shadow.foreign(sql.Composed([sql.SQL(text)]))
        self.played.append((clean_line(text, 400), (time.perf_counter() - start) * 1000))

    async def set_up(self, text: str) -> None:
        """The same for what only brings the stage to where it begins."""
        await self.shadow.foreign(sql.Composed([sql.SQL(text)]))

    async def inventory(self) -> _Inventory:
        """Every index with its definition and all that it has beside."""
        found: _Inventory = {}
        question = load(PACKAGE, "index_saved", self.shadow.cluster.version)
        for row in await self.shadow.rows(_INDEXES):
            saved = (await self.shadow.rows(question, {"oid": row["oid"]}))[0]
            key = (row["schema"], row["name"])
            found[key] = {"definition": row["definition"], "valid": row["valid"], **properties(saved)}
        return found


async def rehearse(server: ShadowServer, session: Session, change: Change) -> Rehearsal:
    """Rehearse the rollback of a change, carried out or not. What the shadow cannot do is told as such, not raised.

    Raises LocalServerError when there is no shadow at all, and what reading the target raises.
    """
    plan = change.plan
    different = disagreement(plan)
    if different:  # what a plan says is another login's text: only what its fields say is carried out, here as there
        return _not(f"the plan's statement is not what the plan says ({different})", session.facts.server_version)
    snapshot = await read_snapshot(session, (), also=(plan.table_oid,))
    if plan.table_oid not in snapshot.relations:
        return _not(f"the table with OID {plan.table_oid} is gone", snapshot.server.version)
    async with server.fresh(snapshot) as shadow:
        stage, version = _Stage(shadow), shadow.cluster.version
        what = "before"
        try:
            if not _restored(shadow):
                why = shadow.issues[0] if shadow.issues else "its table is not there"
                return _not(f"the shadow could not restore it: {why}", version)
            await _before(stage, change)
            before = await stage.inventory()
            what = "the change"
            for text in _change_texts(plan):
                await stage.play(text)
            between = await stage.inventory()
            what = "its rollback"
            for text in _back_texts(change):
                await stage.play(text)
            after = await stage.inventory()
        except (RefusedError, UsageError) as exc:  # the latter: a saved definition that our parser cannot read
            return _not(exc.message, version, stage)
        except psycopg.Error as exc:
            why = clean_line(exc.diag.message_primary or str(exc), 300)
            if what == "its rollback":  # what would fail here would fail there
                failed = (f"the rollback failed: {why}",)
                return Rehearsal(DIFFERS, "", tuple(stage.played), 0, failed, version)
            return _not(f"{what} could not be carried out on the shadow: {why}", version, stage)
    return _judge(plan, stage, version, before, between, after)


def _not(why: str, version: int, stage: _Stage | None = None) -> Rehearsal:
    return Rehearsal(NOT_REHEARSED, why, tuple(stage.played) if stage else (), 0, (), version)


def _judge(plan: Plan, stage: _Stage, version: int, before: _Inventory, between: _Inventory, after: _Inventory) -> Rehearsal:
    key = (plan.schema, plan.index)
    did = {
        "create": key not in before and key in between,
        "drop": key in before and key not in between,
        "reindex": key in before and key in between,
    }[plan.kind]
    if not did:
        what = f"{plan.kind} {clean_line(plan.index)}"
        return _not(f"the change did not do on the shadow what it is for ({what})", version, stage)
    differences = [
        f"{clean_line('.'.join(name))}: {text}"
        for name in sorted(before.keys() | after.keys())
        for text in _differ(before.get(name), after.get(name))
    ]
    if plan.kind != "create" and key in after and after[key]["definition"] != plan.saved["definition"]:
        differences.append(f"the definition is not the saved one: {clean_line(after[key]['definition'], 300)}")
    result = DIFFERS if differences else HELD
    return Rehearsal(result, "", tuple(stage.played), len(before), tuple(differences), version)


def _differ(old: dict[str, Any] | None, new: dict[str, Any] | None) -> list[str]:
    if old is None or new is None:
        return ["is there and was not before" if old is None else "was there before and is not now"]
    return [f"{key} was {old[key]!r} and is {new[key]!r}" for key in old if old[key] != new[key]]


def _restored(shadow: ShadowDatabase) -> bool:
    """Whether the table and those that hang on it stand on the shadow: other objects that it lacks are no matter."""
    return all(oid in shadow.oids for oid in shadow.snapshot.relations if shadow.snapshot.table(oid) is not None)


async def _before(stage: _Stage, change: Change) -> None:
    """Bring the stage to the state before the change: the snapshot may be of before or of after it."""
    plan = change.plan
    there = (plan.schema, plan.index) in await stage.inventory()
    if plan.kind == "create":
        if there:
            await stage.set_up(plain_drop_ddl(plan.schema, plan.index))
        for adopted in plan.saved.get("adopted") or []:
            raise RefusedError(f"it takes in {adopted['index']}, which stood there before: its way back is refused")
        return
    if plan.saved.get("tablespace"):
        await _tablespace(stage, str(plan.saved["tablespace"]))
    if not there:
        await stage.set_up(_saved_index(plan))
    # what the snapshot does not carry of an index, by the same statements as the way back
    as_saved = plan_of_return(change, (plan.schema, plan.table, plan.owner))
    for statement in restoring(as_saved):
        await stage.set_up(statement.as_string(None))
    if plan.saved.get("tablespace"):
        move = sql.SQL("alter index {} set tablespace {}").format(
            sql.Identifier(plan.schema, plan.index), sql.Identifier(str(plan.saved["tablespace"]))
        )
        await stage.set_up(move.as_string(None))


def _saved_index(plan: Plan) -> str:
    try:
        made = definitions.index(str(plan.saved["definition"]), plan.index, plan.schema, plan.table)
    except definitions.DefinitionError as exc:
        raise RefusedError(f"the saved definition is none of an index ({exc})") from None
    return made.as_string(None)


async def _tablespace(stage: _Stage, name: str) -> None:
    """A tablespace of that name inside the shadow's own directory. It is the cluster's, and may stand from another time."""
    if stage.shadow.cluster.version < IN_PLACE_TABLESPACES:
        raise RefusedError(f"the shadow of this version cannot have the tablespace {clean_line(name)}")
    present = await stage.shadow.rows("select 1 as x from pg_catalog.pg_tablespace where spcname = %s", (name,))
    if not present:
        await stage.shadow.rows("set allow_in_place_tablespaces = on")
        await stage.shadow.rows(sql.SQL("create tablespace {} location ''").format(sql.Identifier(name)))
    grant = sql.SQL("grant create on tablespace {} to {}").format(sql.Identifier(name), sql.Identifier(ROLE))
    await stage.shadow.rows(grant)


def _change_texts(plan: Plan) -> list[str]:
    return [step.ddl for step in plan.steps] if plan.steps else [plan.ddl]


def _back_texts(change: Change) -> list[str]:
    plan = change.plan
    if plan.kind == "reindex":
        return []  # nothing to go back to; what is compared is that nothing was lost
    if plan.kind == "create":
        return [plain_drop_ddl(plan.schema, plan.index) if plan.steps else ddl_for("drop", plan.schema, plan.index)]
    texts = list(statements_of_return(change))
    if not texts:
        raise RefusedError("there was no working index to restore")
    return texts

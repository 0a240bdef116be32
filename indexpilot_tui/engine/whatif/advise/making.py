"""Candidate indexes made on a shadow in one go, hidden from its planner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psycopg
from psycopg import sql

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif import index
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.made import MadeIndex
from indexpilot_tui.engine.whatif.sizing import current_files, point

TOGETHER = 40  # candidates that are made in one round trip
_STATE = """
select oid::int8 as oid, relpages, reltuples::float8 as reltuples, relallvisible from pg_class where oid = any(%s::oid[])
"""


async def make(
    shadow: ShadowDatabase, statements: Mapping[str, sql.Composed], tables: Sequence[int]
) -> tuple[list[MadeIndex], dict[str, str]]:
    """Run CREATE INDEX (name -> statement) while the tables (shadow OIDs) look at their empty files; what is there now,
    parts included, and why (cleaned) something was refused. Raises psycopg.Error."""
    refused: dict[str, str] = {}
    sized = await current_files(shadow, list(tables))
    state = {
        r["oid"]: (r["relpages"], r["reltuples"], r["relallvisible"]) for r in await shadow.rows(_STATE, (list(tables),))
    }
    stored = [t for t in tables if shadow.empty_files.get(t)]
    before = [r["oid"] for r in await shadow.rows(
        "select indexrelid::int8 as oid from pg_index where indrelid = any(%s::oid[])", (list(tables),))]  # fmt: skip
    await point(shadow, [(t, shadow.empty_files[t], 0, -1.0, 0) for t in stored])
    try:
        await _set_path(shadow)
        batch = list(statements.items())
        for start in range(0, len(batch), TOGETHER):
            await _some(shadow, batch[start : start + TOGETHER], refused)
    finally:
        await point(shadow, [(t, sized[t], *state[t]) for t in stored])
    made = await index.describe(shadow, tables, before)
    await index.switch(shadow, [m.oid for m in made], on=False)
    return made, refused


async def _set_path(shadow: ShadowDatabase) -> None:
    """Where operator classes are found, those of extensions too."""
    schemas = sorted({s for _, s in shadow.snapshot.server.extensions} - {"pg_catalog", "public"})
    path = ("pg_catalog", "public", *schemas)
    await shadow.plain.execute(sql.SQL("set search_path = {}").format(sql.SQL(", ").join(sql.Identifier(p) for p in path)))
    shadow.search_path = path


async def _some(shadow: ShadowDatabase, batch: Sequence[tuple[str, sql.Composed]], refused: dict[str, str]) -> None:
    """Make some in one round trip and one transaction of the server's; one by one when it refuses any of them."""
    try:
        async with shadow.plain.pipeline():
            for _, statement in batch:
                await shadow.foreign(statement)
    except psycopg.OperationalError:
        raise
    except psycopg.Error as exc:
        if len(batch) > 1:
            for one in batch:
                await _some(shadow, [one], refused)
        else:
            refused[batch[0][0]] = clean_line(exc.diag.message_primary or str(exc), 200)

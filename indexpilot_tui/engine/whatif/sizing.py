"""Statistics, sizes and settings of a snapshot, put onto a shadow database; again whenever they have changed.

A relation gets its size by pointing its pg_class.relfilenode to a file that we made. The file it was created with stays,
empty: pointing back to it lets a real index be built in no time, whatever size the table pretends to have.
"""

from __future__ import annotations

import asyncio

import psycopg
from psycopg import sql

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif import extended, hollow, planner_settings, statistics
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.snapshot import Index, Snapshot
from indexpilot_tui.engine.whatif.widths import stored_widths

_NOT_ON_SHADOW = {"max_worker_processes", "plan_cache_mode", "enable_async_append"}


async def apply(shadow: ShadowDatabase, snapshot: Snapshot) -> None:
    """Bring statistics, sizes and settings up to date. Forgets the remembered plans when anything changed."""
    shadow.snapshot = snapshot
    if shadow.applied_settings != snapshot.server.settings:
        await _settings(shadow, snapshot)
    if shadow.applied_statistics != snapshot.statistics():
        await _statistics(shadow, snapshot)
    changed = [oid for oid, size in snapshot.sizes.items() if shadow.applied_sizes.get(oid) != size]
    if changed:
        await _sizes(shadow, snapshot, changed)


async def _settings(shadow: ShadowDatabase, snapshot: Snapshot) -> None:
    """On the sessions that plan and that parse values, never on the superuser's."""
    shadow.plans.clear()
    have = {r["name"] for r in await shadow.rows("select name from pg_settings where context in ('user', 'superuser')")}
    known = {name for name, _ in snapshot.server.settings}
    # an enable_* switch that the target does not have belongs to something its planner cannot do
    younger = [(name, "off") for name in sorted(have) if name.startswith("enable_") and name not in known]
    taken, odd = planner_settings.allowed(snapshot.server.settings)
    shadow.issues += [f"setting {clean_line(name)}: its value is none that it can have" for name in odd]
    for name, value in [*taken, *younger]:
        if name not in have or name in _NOT_ON_SHADOW:
            continue
        try:
            for conn in shadow.unprivileged:
                await conn.execute("select pg_catalog.set_config(%s, %s, false)", (name, value))
        except psycopg.Error as exc:
            shadow.issues.append(f"setting {name}: {clean_line(exc.diag.message_primary or str(exc), 200)}")
    for conn in shadow.unprivileged:  # last, whatever was set before
        await conn.execute("set search_path = pg_catalog")
    shadow.search_path = ()
    shadow.applied_settings = snapshot.server.settings


async def _statistics(shadow: ShadowDatabase, snapshot: Snapshot) -> None:
    await statistics.restore(shadow, snapshot)
    await extended.restore(shadow, snapshot)
    shadow.applied_statistics = snapshot.statistics()


def key_width(snapshot: Snapshot, index: Index) -> float:
    """Mean width of the key of an existing index, bytes, for its height; 8 for an expression without statistics."""
    relation = snapshot.relations.get(index.table_oid)
    if relation is None:
        return 8.0
    columns = {c.number: c for c in relation.columns}
    width = 0.0
    for number in index.columns[: index.key_columns]:
        column = columns.get(number)
        stats = snapshot.column_stats(relation, column.name) if column is not None else None
        # a name is 64 bytes in the table, and in the index as long as it is
        widths = (
            stored_widths("cstring", stats) if stats is not None and column is not None and column.type == "name" else ()
        )
        mean = sum(w * share for w, share in widths)
        width += mean or (stats.avg_width if stats is not None else 8)
    return width


def write_file(shadow: ShadowDatabase, image: bytes, pages: int) -> int:
    """A new relation file of our own; returns its number. Blocking; raises OSError."""
    shadow.next_file += 1
    shadow.cluster.files.write(shadow.database_oid, shadow.next_file, image, pages)
    return shadow.next_file


def read_file(shadow: ShadowDatabase, file: int) -> bytes:
    """The file of an index as built on an empty table. Blocking; raises OSError."""
    return shadow.cluster.files.read(shadow.database_oid, file)


def index_image(shadow: ShadowDatabase, method: str, built: int, pages: int, width: float, heap_pages: int) -> bytes:
    """What the planner may read at the start of an index of this method; `built` is its file as built, flushed."""
    if method == "btree":
        return hollow.btree_image(pages, width)
    image = read_file(shadow, built)
    return hollow.brin_image(image, heap_pages) if method == "brin" and image else image


async def point(shadow: ShadowDatabase, rows: list[tuple[int, int, int, float, int]]) -> None:
    """Let relations use other files: (shadow OID, file, relpages, reltuples, relallvisible), in one statement."""
    values = sql.SQL(", ").join(
        sql.SQL("({}::oid, {}::oid, {}::int, {}::real, {}::int)").format(*(sql.Literal(v) for v in row)) for row in rows
    )
    await shadow.rows(
        sql.SQL(
            "update pg_class c set relfilenode = v.file, relpages = v.pages, reltuples = v.tuples, relallvisible = v.seen"
            " from (values {}) as v(oid, file, pages, tuples, seen) where c.oid = v.oid"
        ).format(values)
    )


async def _sizes(shadow: ShadowDatabase, snapshot: Snapshot, changed: list[int]) -> None:
    shadow.plans.clear()
    targets = [oid for oid in changed if oid in shadow.oids and shadow.empty_files.get(shadow.oids[oid])]

    def files() -> list[tuple[int, int, int, float, int]]:
        made = []
        for oid in targets:
            size, image = snapshot.sizes[oid], b""
            index = snapshot.indexes.get(oid)
            if index is not None:
                built = shadow.empty_files[shadow.oids[oid]]
                heap = snapshot.sizes.get(index.table_oid)
                image = index_image(
                    shadow, index.method, built, size.pages, key_width(snapshot, index), heap.pages if heap else 0
                )
            file = write_file(shadow, image, size.pages)
            made.append((shadow.oids[oid], file, size.relpages, size.reltuples, size.all_visible))
        return made

    made = await asyncio.to_thread(files)
    if made:
        before = await current_files(shadow, [row[0] for row in made])
        await point(shadow, made)
        old = [file for oid, file in before.items() if file != shadow.empty_files[oid]]
        await asyncio.to_thread(_remove, shadow, old)
    shadow.applied_sizes.update({oid: snapshot.sizes[oid] for oid in changed})


def _remove(shadow: ShadowDatabase, files: list[int]) -> None:
    for file in files:
        shadow.cluster.files.remove(shadow.database_oid, file)


async def current_files(shadow: ShadowDatabase, oids: list[int]) -> dict[int, int]:
    rows = await shadow.rows(
        "select oid::int8 as oid, relfilenode::int8 as file from pg_class where oid = any(%s::oid[])", (oids,)
    )
    return {r["oid"]: r["file"] for r in rows}

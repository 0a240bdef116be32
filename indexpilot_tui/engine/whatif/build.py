"""Building a shadow database: everything that a snapshot defines, without rows, statistics or sizes yet."""

from __future__ import annotations

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif import collations, functions, restore
from indexpilot_tui.engine.whatif.database import ROLE, ShadowDatabase
from indexpilot_tui.engine.whatif.snapshot import Relation, Snapshot

# extensions that plans do not depend on, or that reach outside the database
_NOT_FOR_PLANS = {
    "plpgsql", "pg_stat_statements", "pg_buffercache", "pgstattuple", "pageinspect", "amcheck", "pg_prewarm", "dblink",
    "postgres_fdw", "file_fdw", "adminpack", "pg_visibility", "pg_freespacemap", "pgrowlocks", "pg_walinspect",
    "auto_explain", "sslinfo", "lo", "xml2",
}  # fmt: skip


CREATE_OPTIONS = 150000  # the options STRATEGY and LOCALE_PROVIDER of CREATE DATABASE


def _locale(admin: AsyncConnection[TupleRow], locale: str) -> sql.Composed:
    if admin.info.server_version >= CREATE_OPTIONS:
        return sql.SQL("locale_provider libc locale {}").format(sql.Literal(locale))
    return sql.SQL("lc_collate {0} lc_ctype {0}").format(sql.Literal(locale))


async def create_database(admin: AsyncConnection[TupleRow], name: str, snapshot: Snapshot, issues: list[str]) -> None:
    """With the target's collation where this machine has it: only under C may LIKE 'x%' use a plain text index."""
    wanted, icu = snapshot.server.collate, snapshot.server.locale
    base = sql.SQL("create database {} owner {}").format(sql.Identifier(name), sql.Identifier(ROLE))
    if admin.info.server_version >= CREATE_OPTIONS:
        base += sql.SQL(" strategy file_copy")
    if wanted in ("C", "POSIX", ""):
        await admin.execute(base)
        return
    if wanted == "icu" and admin.info.server_version >= CREATE_OPTIONS:
        try:
            await admin.execute(base + sql.SQL(" template template0 locale_provider icu icu_locale {}").format(icu))
        except psycopg.Error:
            wanted = f"{icu} of ICU"  # the shadow has no ICU
        else:
            return
    for locale in dict.fromkeys((wanted, "C.UTF-8", "C.utf8")):
        try:
            await admin.execute(base + sql.SQL(" template template0 ") + _locale(admin, locale))
        except psycopg.Error:
            continue  # this machine lacks the locale: the next one
        if locale != wanted:
            issues.append(
                f"collation {clean_line(wanted)} is not on this machine; the shadow uses {locale}, "
                "so estimates for ranges of text may differ"
            )
        return
    await admin.execute(base)
    issues.append(
        f"collation {clean_line(wanted)} is not on this machine; the shadow uses C, "
        "so LIKE 'x%' may seem to use an index that the target cannot use for it"
    )


async def build(shadow: ShadowDatabase) -> None:
    """Definitions first; statistics and sizes are applied by `sizing.apply`."""
    snapshot = shadow.snapshot
    rows = await shadow.rows("select oid::int8 as oid from pg_database where datname = current_database()")
    shadow.database_oid = rows[0]["oid"]
    for schema in restore.schemas(snapshot):
        owned = sql.SQL("create schema {} authorization {}").format(sql.Identifier(schema), sql.Identifier(ROLE))
        await shadow.rows(owned)
    await collations.make(shadow)
    await _extensions(shadow)
    await _types_and_tables(shadow)
    for step in [*restore.checks(snapshot, "c"), *restore.attachments(snapshot)]:
        await shadow.step(step)
    for entry in snapshot.indexes.values():
        await shadow.step(restore.index(entry, snapshot.relations[entry.table_oid]))
    for step in [*restore.index_attachments(snapshot), *restore.checks(snapshot, "f"), *restore.extended(snapshot)]:
        await shadow.step(step)
    await shadow.steps(list(restore.views(snapshot)))
    await _map_oids(shadow)
    await shadow.rows("create cast (bytea as pg_ndistinct) without function")
    await shadow.rows("create cast (bytea as pg_dependencies) without function")
    await shadow.rows("create cast (bytea as pg_mcv_list) without function")
    # what was built is in shared buffers: after this the files can be copied, and nothing is written to them again
    await shadow.rows("checkpoint")


async def _types_and_tables(shadow: ShadowDatabase) -> None:
    """Types first, then tables; where a type is made of a table's row type, that waits for the table. What is still not
    known when nothing gets further becomes bytea, and statements that need it are left out."""
    snapshot = shadow.snapshot
    tables = [r for r in snapshot.relations.values() if r.kind in ("r", "p", "m")]
    foreign = [r for r in snapshot.relations.values() if r.kind == "f" and r.parents]
    for relation in foreign:
        shadow.issues.append(f"{clean_line(relation.qualified)} is a foreign table: its parent is planned without it")
    made = [*restore.types(snapshot.types, {(r.schema, r.name) for r in tables})]
    if snapshot.functions:
        rows = await shadow.rows("select distinct proname::text as name from pg_proc where provolatile = 'v'")
        shadow.stand_ins = functions.stand_ins(snapshot, {r["name"] for r in rows})
        made += functions.steps(snapshot, shadow.stand_ins)
    types = await shadow.tried(made)
    known: set[str] = set()
    while tables:
        unknown = await _unknown_types(shadow, tables, known)
        ready = [r for r in tables if not any(c.type in unknown and not c.dropped for c in r.columns)]
        if not ready:
            ready, types = tables, await shadow.tried(types)
            for name in sorted(unknown):
                shadow.issues.append(f"type {clean_line(name)}: the shadow does not have it; its columns cannot be forecast")
        for relation in ready:
            for step in restore.table(relation, unknown):
                await shadow.step(step)
            for step in restore.defaults(relation, unknown):
                await shadow.step(step)
        done = {r.oid for r in ready}
        tables = [r for r in tables if r.oid not in done]
        types = await shadow.tried(types) if tables or types else []
    for step in types:
        await shadow.step(step)


async def _extensions(shadow: ShadowDatabase) -> None:
    """Extensions of the target that plans may depend on, from the shadow's own binaries (never the target's code)."""
    available = {r["name"] for r in await shadow.rows("select name from pg_available_extensions")}
    for name, schema in shadow.snapshot.server.extensions:
        if name in _NOT_FOR_PLANS:
            continue
        if name not in available:
            shadow.issues.append(f"extension {clean_line(name)}: the shadow does not have it")
            continue
        await shadow.rows(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
        try:
            await shadow.rows(
                sql.SQL("create extension {} schema {} cascade").format(sql.Identifier(name), sql.Identifier(schema))
            )
        except psycopg.Error as exc:
            shadow.issues.append(f"extension {clean_line(name)}: {clean_line(exc.diag.message_primary or str(exc), 200)}")
    for schema in {s for _, s in shadow.snapshot.server.extensions} - {"pg_catalog", "public"}:
        if await shadow.rows("select 1 as x from pg_namespace where nspname = %s", (schema,)):
            await shadow.rows(
                sql.SQL("grant usage, create on schema {} to {}").format(sql.Identifier(schema), sql.Identifier(ROLE))
            )


async def _unknown_types(shadow: ShadowDatabase, tables: list[Relation], known: set[str]) -> set[str]:
    """The column types that are not there (yet). `known` remembers those that are."""
    wanted = sorted({c.type for r in tables for c in r.columns if not c.dropped} - known)
    if not wanted:
        return set()
    query = "select t as name, to_regtype(t) is not null as known from unnest(%s::text[]) as t"
    try:
        rows = await shadow.rows(query, (wanted,))
    except psycopg.Error:  # e.g. a type modifier that only the missing type understands: one by one
        rows = []
        for name in wanted:
            try:
                rows += await shadow.rows(query, ([name],))
            except psycopg.Error:
                rows.append({"name": name, "known": False})
    known |= {r["name"] for r in rows if r["known"]}
    return {r["name"] for r in rows if not r["known"]}


async def _map_oids(shadow: ShadowDatabase) -> None:
    rows = await shadow.rows(
        "select n.nspname::text as s, c.relname::text as n, c.oid::int8 as oid, c.relfilenode::int8 as file"
        "  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid >= 16384"
    )
    by_name = {(r["s"], r["n"]): r for r in rows}
    wanted = {oid: (r.schema, r.name) for oid, r in shadow.snapshot.relations.items()}
    wanted |= {oid: (i.schema, i.name) for oid, i in shadow.snapshot.indexes.items()}
    for oid, name in wanted.items():
        row = by_name.get(name)
        if row is not None:
            shadow.oids[oid] = row["oid"]
            shadow.empty_files[row["oid"]] = row["file"]

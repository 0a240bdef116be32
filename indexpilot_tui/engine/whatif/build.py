"""Building a shadow database: everything that a snapshot defines, without rows, statistics or sizes yet."""

from __future__ import annotations

import re
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif import collations, definitions, functions, restore
from indexpilot_tui.engine.whatif.database import CATALOGS, ROLE, SCRIBE, ShadowDatabase
from indexpilot_tui.engine.whatif.snapshot import Relation, Snapshot

# extensions that plans do not depend on, or that reach outside the database
_NOT_FOR_PLANS = {
    "plpgsql", "pg_stat_statements", "pg_buffercache", "pgstattuple", "pageinspect", "amcheck", "pg_prewarm", "dblink",
    "postgres_fdw", "file_fdw", "adminpack", "pg_visibility", "pg_freespacemap", "pgrowlocks", "pg_walinspect",
    "auto_explain", "sslinfo", "lo", "xml2",
}  # fmt: skip
# those that bring types, operators and operator classes, and nothing that acts: a superuser makes them, so no other is made
# because somebody outside named it
_FOR_PLANS = {
    "bloom", "btree_gin", "btree_gist", "citext", "cube", "dict_int", "dict_xsyn", "earthdistance", "fuzzystrmatch", "hll",
    "hstore", "intarray", "ip4r", "isn", "ltree", "pg_bigm", "pg_trgm", "pgcrypto", "postgis", "postgis_raster", "prefix",
    "roaringbitmap", "rum", "seg", "semver", "tablefunc", "tsm_system_rows", "tsm_system_time", "unaccent", "unit",
    "uuid-ossp", "vector",
}  # fmt: skip


_LOCALE = re.compile(r"[A-Za-z0-9_.@=;-]{0,100}")
CREATE_OPTIONS = 150000  # the options STRATEGY and LOCALE_PROVIDER of CREATE DATABASE


def _locale(admin: AsyncConnection[TupleRow], locale: str) -> sql.Composed:
    if admin.info.server_version >= CREATE_OPTIONS:
        return sql.SQL("locale_provider libc locale {}").format(sql.Literal(locale))
    return sql.SQL("lc_collate {0} lc_ctype {0}").format(sql.Literal(locale))


async def create_database(admin: AsyncConnection[TupleRow], name: str, snapshot: Snapshot, issues: list[str]) -> None:
    """With the target's collation where this machine has it: only under C may LIKE 'x%' use a plain text index."""
    wanted, icu = snapshot.server.collate, snapshot.server.locale
    if not _LOCALE.fullmatch(wanted) or not _LOCALE.fullmatch(icu or "C"):
        wanted = "of an odd name"
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
    await _catalog_views(shadow)
    rows = await shadow.rows("select oid::int8 as oid from pg_database where datname = current_database()")
    shadow.database_oid = rows[0]["oid"]
    for schema in restore.schemas(snapshot):
        await shadow.step(
            restore.Step(sql.SQL("create schema {}").format(sql.Identifier(schema)), clean_line(f"schema {schema}"))
        )
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


async def _catalog_views(shadow: ShadowDatabase) -> None:
    """Views through which a role that owns nothing writes statistics: nobody but a superuser may write a catalog itself, and
    a superuser's session parses no value from outside. What an INSERT computes, it computes as who sends it."""
    await shadow.rows(sql.SQL("create schema {}").format(sql.Identifier(CATALOGS)))
    for catalog in ("pg_statistic", "pg_statistic_ext_data"):
        view = sql.Identifier(CATALOGS, catalog)
        await shadow.rows(sql.SQL("create view {} as select * from {}").format(view, sql.Identifier("pg_catalog", catalog)))
        table = sql.Identifier("pg_catalog", catalog)
        await shadow.rows(sql.SQL("grant insert, update, select on {} to {}").format(view, sql.Identifier(SCRIBE)))
        await shadow.rows(sql.SQL("grant select on {} to {}").format(table, sql.Identifier(SCRIBE)))
    await shadow.rows(sql.SQL("grant usage on schema {} to {}").format(sql.Identifier(CATALOGS), sql.Identifier(SCRIBE)))


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
        known = await functions.built_in(shadow)
        shadow.stand_ins = functions.stand_ins(snapshot, known)
        made += functions.steps(snapshot, shadow.stand_ins, known)
    types = await shadow.tried(made)
    there: set[str] = set()
    while tables:
        unknown = await _unknown_types(shadow, tables, there)
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
        if name not in _FOR_PLANS:
            shadow.issues.append(f"extension {clean_line(name)}: not one that is taken over")
            continue
        try:
            await shadow.foreign(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
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
    asked = {name: definitions.type_name(name) for name in wanted if _is_type(name)}
    rows: list[dict[str, Any]] = [{"name": name, "known": False} for name in wanted if name not in asked]
    try:
        found = await shadow.plainly(query, (list(asked.values()),))
        told = {r["name"]: r["known"] for r in found}
        rows += [{"name": name, "known": told.get(text, False)} for name, text in asked.items()]
    except psycopg.Error:  # e.g. a type modifier that only the missing type understands: one by one
        for name, text in asked.items():
            try:
                rows += [{"name": name, "known": r["known"]} for r in await shadow.plainly(query, ([text],))]
            except psycopg.Error:
                rows.append({"name": name, "known": False})
    known |= {r["name"] for r in rows if r["known"]}
    return {r["name"] for r in rows if not r["known"]}


def _is_type(text: str) -> bool:
    try:
        definitions.type_name(text)
    except definitions.DefinitionError:
        return False
    return True


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

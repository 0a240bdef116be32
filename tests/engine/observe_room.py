"""A database with pg_stat_statements on a real server, and a monitor session on it, for the tests of looking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import psycopg
from psycopg import sql

from indexpilot_tui.engine.postgres.session import Purpose, Session, connect
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Observe, Settings, Target
from tests.conftest import socket_target
from tests.servers import DEBIAN_15, require

_numbers = count(1)
# no back-off: each refresh of a test reads everything that is due
SETTINGS = Settings(observe=Observe(unused_min_age_days=0, server_ms_per_minute_budget=1e6))


@dataclass
class Place:
    """One database. `admin` is a superuser's autocommit connection."""

    cluster: LocalCluster
    dbname: str
    admin: psycopg.AsyncConnection[tuple[Any, ...]]

    async def run(self, *statements: str) -> None:
        for statement in statements:
            await self.admin.execute(statement.encode())

    async def role(self, name: str, *grants: str) -> str:
        """A login of this database's own with these roles."""
        login = f"{name}_{self.dbname}"
        await self.run(f"create role {login} login", *(f"grant {grant} to {login}" for grant in grants))
        return login

    def target(self, user: str | None = None, **fields: object) -> Target:
        return socket_target(self.cluster, self.dbname, user, **fields)

    async def connection(self, user: str | None = None) -> psycopg.AsyncConnection[tuple[Any, ...]]:
        return await psycopg.AsyncConnection.connect(self.cluster.conninfo(self.dbname, user), autocommit=True)

    @asynccontextmanager
    async def session(self, user: str | None = None, settings: Settings = SETTINGS) -> AsyncIterator[Session]:
        session = await connect(self.target(user), Purpose.MONITOR, settings)
        try:
            yield session
        finally:
            await session.close()


@contextmanager
def own_cluster(major: str, name: str, **settings: str) -> Iterator[LocalCluster]:
    """A server of a module's own: the embedded 18, or Debian's 15."""
    if major == "15":
        require(DEBIAN_15.is_dir(), "PostgreSQL 15 of Debian")
    known = {"shared_preload_libraries": "pg_stat_statements", "autovacuum": "off"} | settings
    cluster = asyncio.run(LocalCluster.start(name, settings=known, bindir=DEBIAN_15 if major == "15" else None))
    try:
        yield cluster
    finally:
        asyncio.run(cluster.stop())


@asynccontextmanager
async def make_place(cluster: LocalCluster, *, extension_schema: str | None = "public") -> AsyncIterator[Place]:
    dbname = f"look_{next(_numbers)}"
    name = sql.Identifier(dbname)
    async with await psycopg.AsyncConnection.connect(cluster.conninfo(), autocommit=True) as conn:
        await conn.execute(sql.SQL("create database {}").format(name))
    admin = await psycopg.AsyncConnection.connect(cluster.conninfo(dbname), autocommit=True)
    place = Place(cluster, dbname, admin)
    try:
        if extension_schema is not None:
            await place.run(
                f'create schema if not exists "{extension_schema}"',
                f'create extension pg_stat_statements schema "{extension_schema}"',
            )
        yield place
    finally:
        await admin.close()
        async with await psycopg.AsyncConnection.connect(cluster.conninfo(), autocommit=True) as conn:
            await conn.execute(sql.SQL("drop database {} with (force)").format(name))
            rows = await (
                await conn.execute("select rolname from pg_roles where rolname like %s", (f"%_{dbname}",))
            ).fetchall()
            for (role,) in rows:
                await conn.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))

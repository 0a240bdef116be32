"""The monitor pool: a few read-only sessions for whatever the operator asks beside the regular refresh."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from indexpilot_tui.engine.postgres.login import parameters
from indexpilot_tui.engine.postgres.session import Purpose, Session, Sink, prepare
from indexpilot_tui.errors import ConnectError
from indexpilot_tui.settings.model import Settings, Target

WAIT_S = 15.0


class MonitorPool:
    """At most `system.connection_pool.max_connections` MONITOR sessions, opened when first needed."""

    def __init__(self, target: Target, settings: Settings, sink: Sink | None = None) -> None:
        self._target, self._settings, self._sink = target, settings, sink
        self._sessions: dict[AsyncConnection[TupleRow], Session] = {}
        limits = settings.system.connection_pool
        self._pool: AsyncConnectionPool[AsyncConnection[TupleRow]] = AsyncConnectionPool(
            kwargs=self._parameters,
            min_size=0,
            max_size=limits.max_connections,
            max_idle=60.0,
            open=False,
            configure=self._configure,
            check=AsyncConnectionPool.check_connection,
            reconnect_timeout=WAIT_S,
            num_workers=1,
            timeout=WAIT_S,
        )
        self._opened = False

    async def _parameters(self) -> dict[str, Any]:
        return await parameters(self._target)

    async def _configure(self, conn: AsyncConnection[TupleRow]) -> None:
        self._sessions = {c: s for c, s in self._sessions.items() if not c.closed}
        self._sessions[conn] = await prepare(conn, self._target, Purpose.MONITOR, self._settings, self._sink)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """One of the sessions. A statement that still runs at the end of the block is cancelled on the server.

        Raises ConnectError when none can be had in time.
        """
        if not self._opened:
            await self._pool.open()
            self._opened = True
        try:
            conn = await self._pool.getconn()
        except PoolTimeout as exc:
            raise ConnectError(
                f"no connection within {WAIT_S:.0f} s: all {self._pool.max_size} are busy, or the server is away",
                field="system.connection_pool.max_connections",
                value=str(self._pool.max_size),
            ) from exc
        try:
            yield self._sessions[conn]
        finally:
            if conn.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                await self._sessions[conn].close()
            await self._pool.putconn(conn)

    async def close(self) -> None:
        await self._pool.close(timeout=2.0)

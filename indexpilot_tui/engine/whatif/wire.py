"""One session's questions on a short way: each text prepared once, its answers without what psycopg does for each.

An advice asks thousands of questions of a millisecond. What psycopg spends on one (a cursor, waiting with a selector's
registrations for each step, types) is a quarter of that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import psycopg
from psycopg import AsyncConnection, pq
from psycopg.errors import error_from_result
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow

CANCEL_SECONDS = 5.0


class Wire:
    """A session, between other uses of its connection; one question at a time. `close` gives it back as it was."""

    def __init__(self, conn: AsyncConnection[TupleRow]) -> None:
        self._conn = conn
        self._names: dict[bytes, bytes] = {}  # of the prepared statements
        self._serial = 0

    async def ask(self, statement: bytes, params: Sequence[bytes] = ()) -> bytes | None:
        """The first value of the answer, as text; None for an answer without rows. Raises psycopg.Error."""
        name = self._names.get(statement)
        pgconn = self._conn.pgconn
        if name is None:
            self._serial += 1
            name = f"indexpilot_{self._serial}".encode()
            pgconn.send_prepare(name, statement)
            await self._answer()
            self._names[statement] = name
        pgconn.send_query_prepared(name, params)
        result = await self._answer()
        return result.get_value(0, 0) if result.ntuples else None

    async def simple(self, statement: bytes) -> bytes | None:
        """The same in the simple protocol, where `statement` must be known to be one. Raises psycopg.Error."""
        self._conn.pgconn.send_query(statement)
        result = await self._answer()
        return result.get_value(0, 0) if result.ntuples else None

    async def _answer(self) -> PGresult:
        """Wait for the answer to what was sent. When cancelled, the session is free again before this ends."""
        loop, pgconn = asyncio.get_running_loop(), self._conn.pgconn
        done: asyncio.Future[PGresult] = loop.create_future()
        heard: list[PGresult] = []
        socket = pgconn.socket

        def readable() -> None:
            try:
                pgconn.consume_input()
                while not pgconn.is_busy():
                    result = pgconn.get_result()
                    if result is None:
                        loop.remove_reader(socket)
                        if not heard:
                            raise psycopg.OperationalError("the server gave no answer")
                        done.set_result(heard[-1])
                        return
                    heard.append(result)
            except psycopg.Error as exc:
                loop.remove_reader(socket)
                done.set_exception(exc)

        while pgconn.flush():  # a text larger than what the socket takes at once
            pgconn.consume_input()
            await asyncio.sleep(0.001)
        loop.add_reader(socket, readable)
        try:
            result = await asyncio.shield(done)
        except asyncio.CancelledError:
            with suppress(psycopg.Error):  # refused because it was cancelled, or gone: cancelled all the same
                await self._conn.cancel_safe(timeout=CANCEL_SECONDS)
                await done
            raise
        finally:
            loop.remove_reader(socket)
        if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            raise error_from_result(result)
        return result

    async def close(self) -> None:
        """Forget what was prepared. Raises psycopg.Error."""
        if self._names:
            self._names.clear()
            await self._conn.execute(b"deallocate all")

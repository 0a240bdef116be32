"""A session that asks beforehand, in one round trip, what it was asked the last time: for readings that are repeated.

The gates of the throttle pane ask a dozen short questions one after another; over a line of 20 ms that is a quarter of a
second. What they asked in one evaluation they will mostly ask in the next. An answer is used once, and only within the
block that asked for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

from indexpilot_tui.engine.postgres.session import Params, Query, Session

_MOST = 64
Asked = dict[str, tuple[Query, Params]]


@dataclass(slots=True)
class ForesightSession(Session):
    """On the connection of another session. What is not known beforehand is asked as usual."""

    asked: Asked = field(default_factory=dict)
    foreseen: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    async def rows(self, query: Query, params: Params = None) -> list[dict[str, Any]]:
        """As Session.rows, from what was asked beforehand where that is the same question."""
        key = _key(query, params)
        if len(self.asked) < _MOST:
            self.asked[key] = (query, params)
        known = self.foreseen.pop(key, None)
        return known if known is not None else await Session.rows(self, query, params)

    async def foresee(self, asked: Asked) -> None:
        """Ask these in one round trip. Where one fails all are left for their own time, and their own error."""
        cursors: dict[str, psycopg.AsyncCursor[dict[str, Any]]] = {}

        async def send() -> None:
            async with self.conn.pipeline():
                for key, (query, params) in asked.items():
                    cursors[key] = self.conn.cursor(row_factory=dict_row)
                    await cursors[key].execute(query if not isinstance(query, str) else query.encode(), params)

        await self.turn(len(asked))
        try:
            await self.within(send(), self.deadline_s)
            self.foreseen = {
                key: await cursor.fetchall() if cursor.description is not None else [] for key, cursor in cursors.items()
            }
        except psycopg.Error as exc:
            self.record("(asked beforehand)", 0.0, str(exc))
            return
        for query, _ in asked.values():
            self.record(query if isinstance(query, str) else query.as_string(self.conn), 0.0)


@dataclass(slots=True)
class Foresight:
    """What was asked the last time."""

    asked: Asked = field(default_factory=dict)

    @asynccontextmanager
    async def over(self, session: Session) -> AsyncIterator[Session]:
        """The session for one evaluation."""
        made = ForesightSession(
            conn=session.conn, facts=session.facts, purpose=session.purpose, readback=session.readback, sink=session.sink,
            deadline_s=session.deadline_s, rate=session.rate,
        )  # fmt: skip
        if self.asked:
            await made.foresee(self.asked)
        yield made
        self.asked = made.asked


def _key(query: Query, params: Params) -> str:
    text = query if isinstance(query, str) else query.as_string(None)
    values = sorted(params.items()) if isinstance(params, Mapping) else params
    return f"{text}\0{values!r}"

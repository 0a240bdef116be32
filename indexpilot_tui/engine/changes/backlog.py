"""Log rows that wait to be written: in order, none forgotten because a copy of the log could not be written for a while."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg

from indexpilot_tui.engine.model.change import State
from indexpilot_tui.errors import ConnectError, IndexPilotError, NotInstalledError, ServerError

LATE_S = 1.0
# SQLSTATEs of what passes: connection, rollback forced, resources, locks and the like, operator, system, read-only; and what
# can be given back to the journal: its schema and what is in it, rights in it
_PASSING = ("08", "40", "53", "55", "57", "58", "25", "3F000", "42P01", "42883", "42501")


@dataclass(slots=True)
class Row:
    """One log row. `to`: the move that it tells of. `index`: its detail is the index's OID for the change's row, `part`: for
    the row of a step.
    `booked`: the local copy was tried. `failed`: the journal was tried once. `done` is set when it has left the line."""

    action: str
    detail: dict[str, Any]
    to: State | None = None
    index: bool = False
    part: bool = False
    booked: bool = False
    failed: bool = False
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    since: float = field(default_factory=time.monotonic)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def told(self) -> dict[str, Any]:
        """The detail; a row that waited says so, since the log's own time is that of the writing."""
        if not self.failed and time.monotonic() - self.since <= LATE_S:
            return self.detail
        return {**self.detail, "late": True, "at": self.at.isoformat()}


class Backlog:
    """The line. `news` is set with every row that joins it."""

    def __init__(self) -> None:
        self.rows: deque[Row] = deque()
        self.news = asyncio.Event()

    def add(self, row: Row) -> None:
        self.rows.append(row)
        self.news.set()

    def first_is_done(self) -> None:
        self.rows.popleft().done.set()


def away(exc: IndexPilotError) -> bool:
    """Whether what was asked may be answered at another time: the server is away, somebody holds a lock, the control schema
    is read-only, not there or closed to us."""
    cause = exc.__cause__
    sqlstate = cause.sqlstate if isinstance(cause, psycopg.Error) else None
    return isinstance(exc, ConnectError | NotInstalledError) or (sqlstate or "").startswith(_PASSING)


def transient(exc: IndexPilotError) -> bool:
    """Whether the journal may take the row at another time."""
    return away(exc) or (isinstance(exc, ServerError) and not isinstance(exc.__cause__, psycopg.Error))

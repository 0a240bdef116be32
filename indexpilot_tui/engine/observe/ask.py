"""Questions to a target: many in one round trip, a refusal of one is no failure of the others, and each is counted.

All questions of a round go out in one pipeline. When the server answers one with an error, the round is asked again one
by one (a failed statement takes the rest of its pipeline with it); a question that this role may not ask, or that the
server does not know, is remembered and not sent again until `forget`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import AsyncCursor, sql
from psycopg import errors as pg
from psycopg.rows import dict_row, tuple_row

from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.postgres.translation import translate

PACKAGE = "indexpilot_tui.engine.observe"
# answers that will be the same in two seconds: no right, no such object or column, library not loaded
_LASTING = (
    pg.InsufficientPrivilege,
    pg.UndefinedTable,
    pg.UndefinedFunction,
    pg.UndefinedColumn,
    pg.InvalidSchemaName,
    pg.ObjectNotInPrerequisiteState,
)
# Prepared from this execution on. Measured on 18: a refresh of three questions takes 0.7 ms prepared, 2.8 ms not
# (planning the statistics views is most of it). Never behind a pooler, where the next statement may meet another server.
_PREPARE_AFTER = 2


@dataclass(frozen=True, slots=True)
class Question:
    """One statement. `remedy` tells what would allow it, should the server refuse; it ends in the refusal's text.

    `bulk`: thousands of rows may come; the answer then is one dict, with the rows as tuples under "rows" (measured with
    4,750 rows of 11 columns: 6.9 ms of our CPU as dicts, 3.6 ms as tuples).
    """

    name: str
    text: str | sql.Composed
    params: Mapping[str, Any] | None = None
    remedy: str = ""
    bulk: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a question has no answer. `lasting`: it is not asked again before `forget`. Cleaned text."""

    name: str
    reason: str
    remedy: str
    lasting: bool

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}" + (f" ({self.remedy})" if self.remedy else "")


Rows = list[dict[str, Any]]


@dataclass(slots=True)
class Tally:
    """What a round cost: `ms` is the time of the round trips as this side sees it, so an upper bound of the server's own."""

    statements: int = 0
    round_trips: int = 0
    ms: float = 0.0


def question(name: str, server_version: int, *, remedy: str = "", **params: Any) -> Question:
    """The question of `sql/NAME.sql` for a server (`server_version_num`)."""
    return Question(name, load(PACKAGE, name, server_version), params or None, remedy)


@dataclass(slots=True)
class Asker:
    """Asks questions on one session after another, remembers refusals, counts cost."""

    clock: Callable[[], float] = time.perf_counter
    refused: dict[str, Refusal] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    def forget(self) -> None:
        """Ask refused questions again the next time: a GRANT may have come, or the session is a new one."""
        self.refused.clear()

    def take_tally(self) -> Tally:
        """The cost since the last call."""
        taken, self.tally = self.tally, Tally()
        return taken

    async def ask(self, session: Session, questions: Sequence[Question]) -> dict[str, Rows | Refusal]:
        """Answer per question name: rows as dicts, or the Refusal.

        Raises ConnectError when the session is lost; any other error of the server is a Refusal.
        """
        answers: dict[str, Rows | Refusal] = {q.name: self.refused[q.name] for q in questions if q.name in self.refused}
        open_questions = [q for q in questions if q.name not in answers]
        if not open_questions:
            return answers
        try:
            answers |= await self._together(session, open_questions)
        except psycopg.Error as exc:
            if session.closed:
                raise translate(exc, "observe") from exc
            # a plan kept from before an ALTER EXTENSION is one reason for an error: none survives one
            await session.execute("deallocate all")
            for single in open_questions:
                answers[single.name] = await self._alone(session, single)
        return answers

    async def _together(self, session: Session, questions: Sequence[Question]) -> dict[str, Rows]:
        start = self.clock()
        cursors = []
        error = ""
        threshold = session.conn.prepare_threshold
        if session.facts.direct:
            session.conn.prepare_threshold = _PREPARE_AFTER
        try:
            async with session.conn.pipeline():
                for q in questions:
                    cursor = _cursor(session, q)
                    await cursor.execute(_bytes(q.text), q.params)
                    cursors.append(cursor)
            answers = {q.name: _rows(q, await cursor.fetchall()) for q, cursor in zip(questions, cursors, strict=True)}
        except psycopg.Error as exc:
            error = clean_line(str(exc), 200)
            raise
        finally:
            session.conn.prepare_threshold = threshold
            ms = self._count(start, len(questions))
            for q in questions:
                session.record(_text(session, q), ms / len(questions), error)
        return answers

    async def _alone(self, session: Session, q: Question) -> Rows | Refusal:
        start = self.clock()
        error = ""
        try:
            async with _cursor(session, q) as cursor:
                await cursor.execute(_bytes(q.text), q.params)
                return _rows(q, await cursor.fetchall())
        except psycopg.Error as exc:
            if session.closed:
                raise translate(exc, q.name) from exc
            error = clean_line(exc.diag.message_primary or str(exc), 300)
            refusal = Refusal(q.name, error, q.remedy, isinstance(exc, _LASTING))
            if refusal.lasting:
                self.refused[q.name] = refusal
            return refusal
        finally:
            session.record(_text(session, q), self._count(start, 1), error)

    def _count(self, start: float, statements: int) -> float:
        ms = (self.clock() - start) * 1000
        self.tally.statements += statements
        self.tally.round_trips += 1
        self.tally.ms += ms
        return ms


def _cursor(session: Session, q: Question) -> AsyncCursor[Any]:
    if q.bulk:
        return session.conn.cursor(row_factory=tuple_row, binary=True)
    return session.conn.cursor(row_factory=dict_row)


def _rows(q: Question, fetched: list[Any]) -> Rows:
    return [{"rows": fetched}] if q.bulk else fetched


def _bytes(text: str | sql.Composed) -> bytes | sql.Composed:
    return text.encode() if isinstance(text, str) else text


def _text(session: Session, q: Question) -> str:
    return q.text if isinstance(q.text, str) else q.text.as_string(session.conn)

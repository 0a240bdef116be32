"""Questions to a target: many in one round trip, a refusal of one is no failure of the others, and each is counted.

All questions of a round go out in one pipeline. When the server answers one with an error, those behind it are asked again
(a failed statement takes the rest of its pipeline with it). A question that this role may not ask, or that the server does
not know, is remembered and not sent again until `forget`; one that took too long or met a lock rests for a while, each
time longer.
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
from indexpilot_tui.errors import IndexPilotError

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
_REMEDIES = {
    "22021": "a statement of another database of this server, SQL_ASCII perhaps, is no text in this one's encoding:"
    " SELECT pg_stat_statements_reset(0, OID_OF_THAT_DATABASE, 0) forgets it"
}
# Prepared from this execution on. Measured on 18: a refresh of three questions takes 0.7 ms prepared, 2.8 ms not
# (planning the statistics views is most of it). Never behind a pooler, where the next statement may meet another server.
_PREPARE_AFTER = 2
_PAUSE_S, _LONGEST_PAUSE_S = 10.0, 600.0  # how long a question rests that failed for a passing reason: doubled each time


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
    """Why a question has no answer. `lasting`: it is not asked again before `forget`; else not before `again_at`, by the
    asker's clock, and each time later. Cleaned text."""

    name: str
    reason: str
    remedy: str
    lasting: bool
    again_at: float = 0.0
    pause_s: float = 0.0
    sqlstate: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}" + (f" ({self.remedy})" if self.remedy else "")


Rows = list[dict[str, Any]]


@dataclass(slots=True)
class Tally:
    """What rounds cost. `ms` is the time of the round trips as this side sees it; what the server itself took it says in
    the pulse."""

    statements: int = 0
    round_trips: int = 0
    ms: float = 0.0


def question(name: str, server_version: int, *, remedy: str = "", bulk: bool = False, **params: Any) -> Question:
    """The question of `sql/NAME.sql` for a server (`server_version_num`)."""
    return Question(name, load(PACKAGE, name, server_version), params or None, remedy, bulk)


@dataclass(slots=True)
class Asker:
    """Asks questions on one session after another, remembers refusals, counts cost.

    `deadline_s`: a server that is silent for so long has lost the session (that of the session itself, where it has one).
    """

    clock: Callable[[], float] = time.perf_counter
    deadline_s: float | None = None
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
        """Answer per question name: rows as dicts, or the Refusal. In the order of the questions, in one round trip,
        unless one is refused: those behind it are asked again.

        Raises ConnectError when the session is lost or silent; any other error of the server is a Refusal.
        """
        answers: dict[str, Rows | Refusal] = {}
        left: list[Question] = []
        for q in questions:
            known = self.resting(q.name)
            if known is not None:
                answers[q.name] = known
            else:
                left.append(q)
        again: set[str] = set()
        while left:
            done, error = await self._together(session, left)
            answers |= done
            for name in done:
                self.refused.pop(name, None)
            if error is None:
                return answers
            failed, left = left[len(done)], left[len(done) + 1 :]
            # a plan kept from before an ALTER EXTENSION is one reason for an error: none survives one
            await _forget_plans(session)
            if isinstance(error, pg.FeatureNotSupported) and failed.name not in again:
                again.add(failed.name)
                left.insert(0, failed)
            else:
                answers[failed.name] = self._refuse(failed, error)
        return answers

    def resting(self, name: str) -> Refusal | None:
        """Why this question is not sent at present, if so."""
        known = self.refused.get(name)
        return known if known is not None and (known.lasting or self.clock() < known.again_at) else None

    def _refuse(self, q: Question, error: psycopg.Error) -> Refusal:
        reason = clean_line(error.diag.message_primary or str(error), 300)
        if isinstance(error, pg.QueryCanceled) and self.deadline_s is not None:
            reason += " (statement_timeout is observe.statement_timeout_ms)"
        before = self.refused.get(q.name)
        pause = _PAUSE_S if before is None else min(_LONGEST_PAUSE_S, before.pause_s * 2)
        sqlstate = error.sqlstate or ""
        remedy = q.remedy or _REMEDIES.get(sqlstate, "")
        refusal = Refusal(q.name, reason, remedy, isinstance(error, _LASTING), self.clock() + pause, pause, sqlstate)
        self.refused[q.name] = refusal
        return refusal

    async def _together(
        self, session: Session, questions: Sequence[Question]
    ) -> tuple[dict[str, Rows], psycopg.Error | None]:
        """One pipeline: the answers up to the first error, and that error. Raises ConnectError when the session is lost."""
        await session.turn(len(questions))
        start = self.clock()
        cursors: list[AsyncCursor[Any]] = []
        error: psycopg.Error | None = None
        text = ""
        threshold = session.conn.prepare_threshold
        if session.facts.direct:
            session.conn.prepare_threshold = _PREPARE_AFTER
        try:
            error = await session.within(_pipeline(session, questions, cursors), session.deadline_s or self.deadline_s)
            done = [cursor for cursor in cursors if _answered(cursor)]
            if error is not None and session.closed:
                raise translate(error, "observe") from error
            rows = {q.name: _rows(q, await c.fetchall()) for q, c in zip(questions, done, strict=False)}
        except IndexPilotError as exc:
            text = clean_line(exc.message, 200)
            raise
        finally:
            session.conn.prepare_threshold = threshold
            ms = self._count(start, len(questions))
            if error is not None:
                text = clean_line(str(error), 200)
            for q in questions:
                session.record(_text(session, q), ms / len(questions), text)
        return rows, error

    def _count(self, start: float, statements: int) -> float:
        ms = (self.clock() - start) * 1000
        self.tally.statements += statements
        self.tally.round_trips += 1
        self.tally.ms += ms
        return ms


async def _pipeline(
    session: Session, questions: Sequence[Question], cursors: list[AsyncCursor[Any]]
) -> psycopg.Error | None:
    """Send all, in one round trip; the first error, which the server lets no later statement survive."""
    error: psycopg.Error | None = None
    try:
        async with session.conn.pipeline():
            for q in questions:
                cursor = _cursor(session, q)
                cursors.append(cursor)
                try:
                    await cursor.execute(_bytes(q.text), q.params)
                except psycopg.Error as exc:  # the answer to an earlier one came already
                    error = error or exc
                    break
    except psycopg.Error as exc:
        error = error or exc
    return error


async def _forget_plans(session: Session) -> None:
    """Prepare everything anew. psycopg learns of it only where it prepares: with its threshold off it would go on to execute
    statements that the server has forgotten, and none of them would ever be answered again."""
    threshold = session.conn.prepare_threshold
    if session.facts.direct:
        session.conn.prepare_threshold = _PREPARE_AFTER
    try:
        await session.execute("deallocate all")
    finally:
        session.conn.prepare_threshold = threshold


def _answered(cursor: AsyncCursor[Any]) -> bool:
    return cursor.pgresult is not None and cursor.pgresult.status == psycopg.pq.ExecStatus.TUPLES_OK


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

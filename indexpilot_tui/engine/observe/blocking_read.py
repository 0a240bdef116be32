"""Reads who waits for whom: four questions in one round trip, asked only while somebody looks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from indexpilot_tui.engine.observe.ask import Asker, Question, Refusal, Rows, question
from indexpilot_tui.engine.observe.blocking import blocking_of
from indexpilot_tui.engine.observe.blocking_model import Blocking
from indexpilot_tui.engine.observe.signals import GRANT_MONITOR
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.errors import ServerError

NAMES = ("sessions", "locks", "prepared_xacts", "progress")


@dataclass(slots=True)
class BlockingReader:
    """Of one server; remembers what was refused."""

    asker: Asker = field(default_factory=Asker)

    async def read(self, session: Session) -> Blocking:
        """Look now. Raises ServerError when sessions cannot be read, ConnectError when the session is lost; what else is
        refused stands in `unread`."""
        answers = await self.asker.ask(session, questions(session))
        sessions = answers["sessions"]
        if isinstance(sessions, Refusal):
            raise ServerError(f"the sessions could not be read: {sessions}")
        unread = [str(answer) for answer in answers.values() if isinstance(answer, Refusal)]
        locks, prepared, progress = (_rows(answers[name]) for name in NAMES[1:])
        return blocking_of(datetime.now(UTC), sessions, locks, prepared, progress, unread)


def questions(session: Session) -> list[Question]:
    remedy = GRANT_MONITOR.format(role=session.facts.session_user)
    return [question(name, session.facts.server_version, remedy=remedy) for name in NAMES]


def _rows(answer: Rows | Refusal) -> Rows:
    return [] if isinstance(answer, Refusal) else answer

"""The throttle signals of a server: everything that a safeguard may want to weigh, read in one round trip.

A reading is one object; a part that could not be read is None (or named in `unread`), never a zero. Rates are between the
reader's last two readings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from indexpilot_tui.engine.observe.ask import Asker, Question, Refusal, Rows, question
from indexpilot_tui.engine.observe.pulse import Pulse, Rates, pulse_of, rates_between
from indexpilot_tui.engine.observe.replication import NAMES as REPLICATION
from indexpilot_tui.engine.observe.replication import Replication, replication_of
from indexpilot_tui.engine.observe.writing import Writing
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.errors import ServerError

GRANT_MONITOR = "GRANT pg_monitor TO {role}"


@dataclass(frozen=True, slots=True)
class Signals:
    """One reading. `cores` is what the configuration says of the server's CPUs: SQL cannot see them.

    The rest is what a Watcher has read at its own pace: replication at `replication_at`, how the database is written, and
    whether blocks are timed (None: not asked). `grant` would show what is hidden.
    """

    pulse: Pulse
    rates: Rates
    replication: Replication | None
    cores: int | None = None
    replication_at: datetime | None = None
    writing: Writing | None = None
    times_io: bool | None = None
    grant: str = ""

    @property
    def cpu_share(self) -> float | None:
        """Sessions that wait for nothing, so run or want to run, against the configured cores; None where either is not
        known."""
        if self.cores is None or self.pulse.on_cpu is None:
            return None
        return self.pulse.on_cpu / self.cores

    @property
    def waits_by_kind(self) -> dict[str, int] | None:
        """Sessions at work by what they wait for, most first; the empty kind waits for nothing. None where hidden."""
        if self.pulse.waits is None:
            return None
        found: Counter[str] = Counter()
        for wait in self.pulse.waits:
            found[wait.kind] += wait.sessions
        return dict(found.most_common())

    @property
    def connections_left(self) -> int:
        """Connections that an ordinary login may still open; those reserved for superusers and others are not counted."""
        pulse = self.pulse
        return max(0, pulse.max_connections - pulse.reserved_connections - pulse.client_backends)


def pulse_question(session: Session, remedy: str = "") -> Question:
    """The question of every refresh."""
    return question("pulse", session.facts.server_version, remedy=remedy, database=session.facts.database_oid)


def replication_questions(server_version: int, remedy: str = "") -> list[Question]:
    return [question(name, server_version, remedy=remedy) for name in REPLICATION]


@dataclass(slots=True)
class SignalReader:
    """Reads the signals of one server; keep it between readings, for the rates are between two of its own."""

    cores: int | None = None
    asker: Asker = field(default_factory=Asker)
    _last: Pulse | None = None

    async def read(self, session: Session) -> Signals:
        """Read now, in one round trip of four statements.

        Raises ServerError when the pulse cannot be read, ConnectError when the session is lost: then nothing is known, and
        whoever decides on it must not take it for calm.
        """
        answers = await self.asker.ask(
            session, [*replication_questions(session.facts.server_version), pulse_question(session)]
        )
        return self.take(answers)

    def take(self, answers: Mapping[str, Rows | Refusal]) -> Signals:
        """From answers that somebody else asked for."""
        answer = answers["pulse"]
        if isinstance(answer, Refusal) or not answer:
            raise ServerError(f"what the server does now could not be read: {answer}")
        pulse = pulse_of(answer[0])
        before, self._last = self._last, pulse
        replication = replication_of(answers) if all(name in answers for name in REPLICATION) else None
        return Signals(pulse, rates_between(before, pulse), replication, self.cores)

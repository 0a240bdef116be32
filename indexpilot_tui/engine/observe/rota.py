"""The slow questions, each at its own pace, one a refresh: index health, replication, builds, what the role may see.

A task is a generator of questions that is sent the answers: what it asks next may depend on what it was told. The rota
says which question is next; whoever asked it gives the answer back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass, field
from typing import NamedTuple

from indexpilot_tui.engine.observe.ask import Question, Refusal, Rows
from indexpilot_tui.engine.observe.pace import Pace


class Answer(NamedTuple):
    """What a question was answered, and what it took the server, in ms."""

    rows: Rows | Refusal
    ms: float = 0.0


Asking = Generator[Question, Answer, None]


@dataclass(slots=True)
class Task:
    """`make` begins a round of questions. `urgent` ones go before the others."""

    name: str
    pace: Pace
    make: Callable[[], Asking]
    urgent: bool = False
    booked: Collection[str] = ()  # only these questions count for the pace; empty: all
    pending: Question | None = None
    _asking: Asking | None = None
    _ms: float = 0.0

    def begin(self) -> bool:
        """Start a round; False when there is nothing to ask."""
        self._asking, self._ms = self.make(), 0.0
        self.pending = next(self._asking, None)
        return self.pending is not None

    def answered(self, answer: Rows | Refusal, ms: float) -> bool:
        """Give the answer to `pending`; True when the round is over."""
        if self._asking is None or self.pending is None:
            return True
        if not self.booked or self.pending.name in self.booked:
            self._ms += ms
        try:
            self.pending = self._asking.send(Answer(answer, ms))
        except StopIteration:
            self.pending = self._asking = None
            return True
        return False

    def stop(self) -> None:
        """Break a round off."""
        if self._asking is not None:
            self._asking.close()
        self.pending = self._asking = None

    @property
    def spent_ms(self) -> float:
        return self._ms


@dataclass(slots=True)
class Rota:
    """The tasks, and whose turn it is."""

    budget: float
    tasks: list[Task] = field(default_factory=list)
    _turn: int = 0

    def next(self, now: float) -> Task | None:
        """The task whose `pending` question is to be asked now; None when nothing is due. One that has begun goes on, but
        an urgent one takes every other turn."""
        running = [t for t in self.tasks if t.pending is not None]
        due = sorted(
            (t for t in self.tasks if t.pending is None and t.pace.ready(now)), key=lambda t: (not t.urgent, t.pace.due)
        )
        self._turn += 1
        first = due and (not running or (due[0].urgent and self._turn % 2))
        for task in [*due, *running] if first else [*running, *due]:
            if task.pending is not None or task.begin():
                return task
            task.pace.asked(now, 0.0, self.budget)
        return None

    def answered(self, task: Task, answer: Rows | Refusal, ms: float, now: float) -> None:
        """Give an answer back, with what it took the server."""
        if task.answered(answer, ms):
            task.pace.asked(now, task.spent_ms, self.budget)

    def hurry(self, name: str) -> None:
        """This one is due now."""
        for task in self.tasks:
            if task.name == name:
                task.pace.due = 0.0

    def restart(self) -> None:
        """Break off half-asked rounds: the session is another one."""
        for task in self.tasks:
            task.stop()

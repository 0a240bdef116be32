"""The slow questions, each at its own pace, one a refresh: index health, replication, builds, what the role may see.

The rota says which question is next; whoever asked it gives the answer back. While a build runs, its progress takes turns
with the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from indexpilot_tui.engine.observe.ask import Question, Refusal, Rows
from indexpilot_tui.engine.observe.pace import Pace

Make = Callable[[], Sequence[Question]]
Take = Callable[[dict[str, Rows | Refusal]], None]


@dataclass(slots=True)
class Task:
    """Questions that belong together: `take` gets all their answers when the last has come. They are asked one a refresh,
    in order. `urgent` ones go before the others."""

    name: str
    pace: Pace
    make: Make
    take: Take
    urgent: bool = False
    _left: deque[Question] = field(default_factory=deque)
    _answers: dict[str, Rows | Refusal] = field(default_factory=dict)
    _ms: float = 0.0

    def begin(self) -> bool:
        """Start a round of it; False when there is nothing to ask."""
        self._left, self._answers, self._ms = deque(self.make()), {}, 0.0
        return bool(self._left)

    @property
    def running(self) -> bool:
        return bool(self._left)


@dataclass(slots=True)
class Rota:
    """The tasks, and whose turn it is."""

    budget: float
    tasks: list[Task] = field(default_factory=list)
    _turn: int = 0

    def next(self, now: float) -> tuple[Task, Question] | None:
        """The question to ask now, with its task; None when nothing is due."""
        running = [t for t in self.tasks if t.running]
        due = sorted(
            (t for t in self.tasks if not t.running and t.pace.ready(now)), key=lambda t: (not t.urgent, t.pace.due)
        )
        self._turn += 1
        order = [*due, *running] if due and (due[0].urgent or not running) and self._turn % 2 else [*running, *due]
        for task in order:
            if task.running or task.begin():
                return task, task._left[0]
            task.pace.asked(now, 0.0, self.budget)
        return None

    def answered(self, task: Task, question: Question, answer: Rows | Refusal, ms: float, now: float) -> None:
        """Give an answer back, with what it took the server."""
        task._left.popleft()
        task._answers[question.name] = answer
        task._ms += ms
        if not task._left:
            task.pace.asked(now, task._ms, self.budget)
            task.take(task._answers)

    def hurry(self, name: str) -> None:
        """This one is due now."""
        for task in self.tasks:
            if task.name == name:
                task.pace.due = 0.0

    def restart(self) -> None:
        """Forget half-asked rounds: the session is another one."""
        for task in self.tasks:
            task._left.clear()

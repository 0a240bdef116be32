"""The stepper line: where in the change am I. Always on the screen while a change is walked through."""

from __future__ import annotations

from enum import Enum

from indexpilot_tui.tui.lines import Line, Segment, fit, line
from indexpilot_tui.tui.widgets.lineview import LineView


class Step(Enum):
    """The steps in their order; the value is the label."""

    SIMULATE = "1 Simulate"
    REVIEW = "2 Review"
    APPROVE = "3 Approve"
    BUILD = "4 Build"
    VERIFY = "5 Verify"
    END = "Keep | Roll back"


_BACK = {Step.BUILD: "1 Undo", Step.VERIFY: "2 Proof"}
_BUILD = {"drop": "4 Drop", "reindex": "4 Rebuild"}


def step_label(step: Step, kind: str = "create", rolling_back: bool = False) -> str:
    """What a step is called: the fourth one does what the change is about."""
    if rolling_back:
        return _BACK.get(step, step.value)
    label: str = step.value
    return _BUILD.get(kind, label) if step is Step.BUILD else label


def step_line(now: Step, subject: str, width: int, *, kind: str = "create", rolling_back: bool = False) -> Line:
    """`now` stands out by brackets, so that it reads without colour; `subject` names the change at the right."""
    order = [Step.BUILD, Step.VERIFY] if rolling_back else list(Step)
    spans: list[tuple[str, str]] = [(" ROLL BACK  ", "warn") if rolling_back else (" ", "plain")]
    for number, step in enumerate(order):
        label = step_label(step, kind, rolling_back)
        if number:
            spans.append((" → ", "dim"))
        if step is now:
            spans.append((f"[{label}]", "accent"))
        else:
            done = now in order and order.index(step) < order.index(now)
            spans.append((("✓" if done else "") + label, "ok" if done else "dim"))
    return fit([Segment((tuple(spans),), 0), Segment(_forms(subject), 1)], width, separator="   ")


def _forms(subject: str) -> tuple[Line, ...]:
    """The subject, then without its last parts, then nothing."""
    parts = subject.split(" · ")
    return (*(line((" · ".join(parts[:n]), "bold")) for n in range(len(parts), 0, -1)), line())


class StepBar(LineView, can_focus=False):
    """One line."""

    DEFAULT_CSS = "StepBar { height: 1; overflow-y: hidden; background: $surface; }"

    def show(self, now: Step, subject: str, *, kind: str = "create", rolling_back: bool = False) -> None:
        """Draw the position."""
        self.set_lines([step_line(now, subject, self.app.size.width, kind=kind, rolling_back=rolling_back)])

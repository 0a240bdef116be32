"""Which step a change stands at, and the screen of a step."""

from __future__ import annotations

from indexpilot_tui.engine.model.change import Change, State
from indexpilot_tui.tui.screens.steps.approve import ApproveScreen
from indexpilot_tui.tui.screens.steps.base import StepScreen
from indexpilot_tui.tui.screens.steps.build import BuildScreen
from indexpilot_tui.tui.screens.steps.review import ReviewScreen
from indexpilot_tui.tui.screens.steps.simulate import SimulateScreen
from indexpilot_tui.tui.screens.steps.verify import VerifyScreen
from indexpilot_tui.tui.screens.steps.walk import Walk
from indexpilot_tui.tui.widgets.stepbar import Step

_APPROVE = frozenset({State.PROPOSED, State.REJECTED, State.EXPIRED, State.WITHDRAWN})
_VERIFY = frozenset({State.OBSERVING, State.DONE, State.ROLLED_BACK})
_SCREENS: dict[Step, type[StepScreen]] = {
    Step.SIMULATE: SimulateScreen,
    Step.REVIEW: ReviewScreen,
    Step.APPROVE: ApproveScreen,
    Step.BUILD: BuildScreen,
    Step.VERIFY: VerifyScreen,
}


def step_of(change: Change) -> Step:
    """The step that a change's state belongs to. Everything between approval and a proven catalog is the build's, also
    what went wrong there."""
    if change.state in _APPROVE:
        return Step.APPROVE
    return Step.VERIFY if change.state in _VERIFY else Step.BUILD


def step_screen(step: Step, walk: Walk) -> StepScreen:
    """A new screen of a step."""
    return _SCREENS[step](walk)


def screen_for(walk: Walk) -> StepScreen:
    """Where a walk begins, or is taken up again."""
    return step_screen(Step.SIMULATE if walk.change is None else step_of(walk.change), walk)

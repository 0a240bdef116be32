"""Step 4: started by the typed name, carried out by a process of its own, watched here. Leaving leaves it running."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType

from indexpilot_tui.engine.model.change import ACTIVE_STATES, Change, State
from indexpilot_tui.engine.model.narrative import told
from indexpilot_tui.engine.model.verdict import Verdict
from indexpilot_tui.engine.observe.model import BuildProgress
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.tui.actions import BACK, Action, bindings
from indexpilot_tui.tui.faults import Fault
from indexpilot_tui.tui.gates import closed_first
from indexpilot_tui.tui.panes.throttle import GATE_COLUMNS, gate_row
from indexpilot_tui.tui.screens.detail import gate_screen
from indexpilot_tui.tui.screens.steps.base import StepScreen
from indexpilot_tui.tui.screens.steps.confirm import ConfirmScreen
from indexpilot_tui.tui.screens.steps.progress_text import progress_lines
from indexpilot_tui.tui.screens.steps.review import RECHECK_S, obstacle_to_apply
from indexpilot_tui.tui.screens.steps.walk import Walk
from indexpilot_tui.tui.widgets.entry import Entry, exactly
from indexpilot_tui.tui.widgets.lineview import LineView
from indexpilot_tui.tui.widgets.stepbar import Step, step_label
from indexpilot_tui.tui.widgets.table import KeyedTable

STARTABLE = frozenset({State.APPROVED, State.QUEUED})
POLL_S = 1.0
SILENCE_S = 60.0  # an executor asks the gates and claims within seconds


class BuildScreen(StepScreen):
    """Before the start: gates and the typed name. From then on: phase, progress, who stands in the way, the log."""

    STEP = Step.BUILD
    HELP_TITLE = "Build"
    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action("k", "stop", "stop the build", "Stop a running build (asks for the word stop) and clean up after it.", 0),
        BACK,
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)
    DEFAULT_CSS = """
    BuildScreen #text { height: 2fr; min-height: 5; }
    BuildScreen #gates { height: 3fr; min-height: 5; }
    """

    def __init__(self, walk: Walk) -> None:
        super().__init__(walk)
        self._gated_at = float("-inf")
        self._asked_at: float | None = None  # when the start was asked for, while the executor has not taken it up
        self._heard = 0  # the last row of the log that was there then
        walk.gates = None

    def step_body(self) -> ComposeResult:
        view = LineView(id="text", classes="pane")
        view.set_title(step_label(Step.BUILD, self.walk_state.kind, self.walk_state.rolling_back)[2:])
        yield view
        gates = KeyedTable(GATE_COLUMNS, empty="reading the gates …", id="gates")
        gates.add_class("pane")
        yield gates
        yield Entry("", "Start", exactly(""), danger=True, id="start")

    def on_mount(self) -> None:
        verb = {"create": "build", "drop": "drop"}.get(self.change.kind, self.change.kind)
        name = self.walk_state.index_name
        self.query_one(Entry).ask(
            f"Type the name of the index to {verb} it on {self.console.label}: {name}",
            f"{verb.capitalize()} index",
            exactly(self.change.plan.index),
        )
        if self.change.state in STARTABLE:
            self.query_one(Entry).focus_input()
        else:
            self.query_one("#text").focus()
        super().on_mount()

    def draw(self) -> None:
        change = self.change
        if self.due(POLL_S) and (not change.ended):
            self.poll_change()
        startable = change.state in STARTABLE
        now = self.console.clock.mono()
        if startable and now - self._gated_at >= RECHECK_S:
            self._gated_at = now
            self.work_on(
                lambda: self.engine.gates(self.change), self._gated, what="reading the gates", group="gates",
                failed=self._unread,
            )  # fmt: skip
        gates, entry = self.query_one("#gates", KeyedTable), self.query_one(Entry)
        if not startable and entry.display:
            self.query_one("#text").focus()
        gates.display = entry.display = startable
        gates.set_rows([gate_row(v) for v in closed_first(self.walk_state.gates or ())])
        gates.set_title("Gates · all must pass")
        if not startable:
            self._asked_at = None
        else:
            self._await_start(entry)
            entry.hold(self.why_not_operate() or obstacle_to_apply(self.walk_state.gates))
        view = self.query_one("#text", LineView)
        asked = startable and self._asked_at is not None
        width = max(20, view.line_width)
        view.set_lines(progress_lines(change, self._progress(), self.console.clock.wall(), width, asked=asked))

    def _await_start(self, entry: Entry) -> None:
        """Between the typed name and the executor's first word nothing may be started again, and nothing must look idle."""
        if self._asked_at is None:
            return
        refused = [e for e in self.change.events if e.seq > self._heard and e.action == "apply.refused"]
        waited = self.console.clock.mono() - self._asked_at
        if refused or waited > SILENCE_S:
            last = refused[-1] if refused else None
            words = told(last.action, last.detail) if last else f"the executor said nothing for {waited:.0f} s"
            self._asked_at = None
            entry.release()
            self.say(clean_line(words), "crit")
        else:
            entry.working("being started …")

    def _progress(self) -> BuildProgress | None:
        builds = self.snapshot.observation.builds if self.snapshot.observation else ()
        change, name = self.change, self.walk_state.index_name
        for build in builds:
            if change.index_oid is not None and build.index_oid == change.index_oid:
                return build
            if name and build.index.split(".")[-1] == name:
                return build
        return None

    def _gated(self, verdicts: list[Verdict]) -> None:
        self.walk_state.gates = tuple(verdicts)

    def _unread(self, fault: Fault) -> None:
        self.walk_state.gates = None
        self.query_one("#gates", KeyedTable).set_rows([], empty=f"UNKNOWN: {fault.one_line}")

    @on(KeyedTable.Chosen, "#gates")
    def _open(self, event: KeyedTable.Chosen) -> None:
        for verdict in self.walk_state.gates or ():
            if verdict.guard == event.key:
                self.app.push_screen(gate_screen(verdict))

    @on(Entry.Accepted, "#start")
    def _start(self) -> None:
        number, walk = self.change.id, self.walk_state
        self._asked_at = self.console.clock.mono()
        self._heard = max((event.seq for event in self.change.events), default=0)

        def done(change: Change) -> None:
            walk.change = change
            self._polled_at = float("-inf")
            self.console.hurry()
            self.follow()

        self.work_on(lambda: self.engine.apply(number), done, what="the start", failed=self._not_started, group="act")

    def _not_started(self, fault: Fault) -> None:
        self._asked_at = None
        self.query_one(Entry).release()
        self._gated_at = float("-inf")
        self.say(fault.one_line, "crit")

    def why_not(self, action: Action) -> str:
        if action.name == "stop":
            if self.change.state not in ACTIVE_STATES:
                return f"nothing runs: the change is {self.change.state.value}"
            return self.why_not_operate()
        return super().why_not(action)

    def action_stop(self) -> None:
        """Ask for the word, then stop."""
        number = self.change.id
        self.app.push_screen(
            ConfirmScreen(
                self.walk_state,
                Step.BUILD,
                title="Stop the build",
                words=(
                    "The executor cancels its own statement, waits for the backend to end, and removes what is left "
                    "of the index. A drop that has begun is finished instead: cancelling it would not undo it.",
                    self.change.plan.ddl,
                ),
                question="Type stop to stop the build.",
                button="Stop",
                check=exactly("stop"),
                act=lambda _: self.engine.abort(number, "stopped at the console"),
                done=self._stopped,
            )
        )

    def _stopped(self, change: Change) -> None:
        self.walk_state.change = change

    def action_back(self) -> None:
        """Leave. What runs goes on running."""
        change = self.change
        super().action_back()
        if change.state in ACTIVE_STATES:
            screen = self.console.screen
            if isinstance(screen, StepScreen) or hasattr(screen, "say"):
                screen.say(f"change #{change.id} goes on by itself; c and enter take it up again", "warn")

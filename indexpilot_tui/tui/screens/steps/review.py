"""Step 2: what exactly, and do the safeguards allow it? Ends with the proposal."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType

from indexpilot_tui.engine.model.change import Change
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.actions import BACK, Action, bindings
from indexpilot_tui.tui.faults import Fault
from indexpilot_tui.tui.gates import closed_first
from indexpilot_tui.tui.lines import Line, line, wrap
from indexpilot_tui.tui.panes.throttle import GATE_COLUMNS, gate_row
from indexpilot_tui.tui.screens.detail import gate_screen
from indexpilot_tui.tui.screens.steps.base import StepScreen
from indexpilot_tui.tui.screens.steps.drop_text import drop_level
from indexpilot_tui.tui.widgets.entry import Entry, some_words
from indexpilot_tui.tui.widgets.lineview import LineView
from indexpilot_tui.tui.widgets.stepbar import Step
from indexpilot_tui.tui.widgets.table import KeyedTable

RECHECK_S = 5.0
LATER_GATES = frozenset({"approval"})  # cannot pass before there is a change that somebody could approve


def obstacle_to_propose(gates: tuple[Verdict, ...] | None) -> str:
    """Why a change may not be proposed: a gate that only somebody's action opens. One that opens by itself may wait."""
    if gates is None:
        return "the gates are being read"
    shut = [g for g in gates if g.status in (Status.BLOCK, Status.UNKNOWN) and g.guard not in LATER_GATES]
    if not shut:
        return ""
    more = f" (and {len(shut) - 1} more)" if len(shut) > 1 else ""
    return f"{shut[0].guard.replace('_', ' ')} {shut[0].status.value}: {shut[0].evidence}{more}"


def obstacle_to_apply(gates: tuple[Verdict, ...] | None) -> str:
    """Why a change may not start now: any gate that does not pass."""
    if gates is None:
        return "the gates are being read"
    shut = [g for g in gates if not g.allows]
    if not shut:
        return ""
    more = f" (and {len(shut) - 1} more)" if len(shut) > 1 else ""
    return f"{shut[0].guard.replace('_', ' ')} {shut[0].status.value}: {shut[0].evidence}{more}"


class ReviewScreen(StepScreen):
    """The statement, every gate with its figures, and the reason that goes into the log."""

    STEP = Step.REVIEW
    HELP_TITLE = "Review"
    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action("n", "next", "propose", "Go to the reason; enter there proposes the change. It is not applied yet.", 0),
        Action("enter", "gate", "gate", "Open the gate under the cursor.", 2),
        Action("r", "recheck", "read again", "Read the gates again.", 3),
        BACK,
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings(a for a in ACTIONS if a.name != "gate")
    DEFAULT_CSS = """
    ReviewScreen #gates { height: 1fr; min-height: 6; }
    """

    def step_body(self) -> ComposeResult:
        plan = LineView(id="plan", classes="pane", grow=7)
        plan.set_title("What will be done")
        yield plan
        gates = KeyedTable(GATE_COLUMNS, empty="reading the gates …", id="gates")
        gates.add_class("pane")
        yield gates
        if self.walk_state.change is None:
            yield Entry("Why? This goes into the log.", "Propose", some_words("a reason"), id="reason")

    def on_mount(self) -> None:
        self.query_one("#gates").focus()
        super().on_mount()

    def draw(self) -> None:
        walk = self.walk_state
        if self.due(RECHECK_S):
            ddl = walk.change.id if walk.change else walk.ddl
            subject = walk.change or walk.ddl
            self.work_on(
                lambda: self.engine.gates(subject), self._gated, what=f"reading the gates of {ddl}", group="gates",
                failed=self._unread,
            )  # fmt: skip
        plan = self.query_one("#plan", LineView)
        plan.set_lines(self._plan_lines(max(20, plan.line_width)))
        gates = self.query_one("#gates", KeyedTable)
        gates.set_rows([gate_row(v) for v in closed_first(walk.gates or ())])
        shut = [g for g in walk.gates or () if not g.allows]
        state = f"{len(walk.gates)} read, {len(shut)} not open" if walk.gates else "reading"
        gates.set_title(f"Gates · {state} · a change is applied only when all pass")
        for entry in self.query(Entry):
            entry.hold(self._why_not_propose())

    def _plan_lines(self, width: int) -> list[Line]:
        walk = self.walk_state
        out = wrap(walk.change.plan.ddl if walk.change else walk.ddl, width, "bold")
        if (f := walk.forecast) is not None:
            cost = f"cost {fmt.count(f.cost_before)} → {fmt.count(f.cost_after)}"
            out.append(line(("forecast ", "dim"), f"{cost}, confidence {f.confidence.level.upper()}"))
            if f.drop is not None:
                out.append(drop_level(f.drop))
            if f.confidence.level != "high":
                out += wrap("; ".join(f.confidence.reasons[:1]), width, "dim")
        return out

    def _gated(self, verdicts: list[Verdict]) -> None:
        self.walk_state.gates = tuple(verdicts)

    def _unread(self, fault: Fault) -> None:
        self.walk_state.gates = None
        self.query_one("#gates", KeyedTable).set_rows([], empty=f"UNKNOWN: {fault.one_line}")
        self.say(fault.one_line, "crit")

    def _why_not_propose(self) -> str:
        return self.why_not_operate() or obstacle_to_propose(self.walk_state.gates)

    def why_not(self, action: Action) -> str:
        if action.name == "next" and self.walk_state.change is None:
            return self._why_not_propose()
        return super().why_not(action)

    def action_next(self) -> None:
        """To the reason, or on, when it is proposed already."""
        if self.walk_state.change is not None:
            self.follow()
        else:
            self.query_one(Entry).focus_input()

    def action_recheck(self) -> None:
        """Read the gates again."""
        self._polled_at = float("-inf")
        self.touch()

    @on(KeyedTable.Chosen, "#gates")
    def _open(self, event: KeyedTable.Chosen) -> None:
        for verdict in self.walk_state.gates or ():
            if verdict.guard == event.key:
                self.app.push_screen(gate_screen(verdict))

    @on(Entry.Accepted, "#reason")
    def _proposed(self, event: Entry.Accepted) -> None:
        walk, reason = self.walk_state, event.value

        def done(change: Change) -> None:
            walk.change = change
            self.console.hurry()
            self.go(Step.APPROVE)

        self.work_on(
            lambda: self.engine.propose(walk.ddl, reason),
            done,
            what="the proposal",
            group="propose",
            failed=self._not_proposed,
        )

    def _not_proposed(self, fault: Fault) -> None:
        self.query_one(Entry).release()
        self.say(fault.one_line, "crit")

    def action_back(self) -> None:
        """To the forecast."""
        self.go(Step.SIMULATE)

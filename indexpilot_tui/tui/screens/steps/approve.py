"""Step 3: another login approves exactly this plan."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType

from indexpilot_tui.engine.model.change import Change, State
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.actions import BACK, Action, bindings
from indexpilot_tui.tui.faults import Fault
from indexpilot_tui.tui.feed import change_tone
from indexpilot_tui.tui.lines import Line, line, rule, wrap
from indexpilot_tui.tui.screens.steps.base import StepScreen
from indexpilot_tui.tui.screens.steps.confirm import ConfirmScreen
from indexpilot_tui.tui.widgets.entry import Entry, exactly, some_words
from indexpilot_tui.tui.widgets.lineview import LineView
from indexpilot_tui.tui.widgets.stepbar import Step

POLL_S = 2.0


class ApproveScreen(StepScreen):
    """Polls until somebody has approved or rejected, then goes on by itself."""

    STEP = Step.APPROVE
    HELP_TITLE = "Approve"
    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action("w", "withdraw", "withdraw", "Take the proposal back.", 1),
        Action("x", "reject", "reject", "Refuse somebody else's proposal, with a reason.", 2),
        BACK,
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)

    def step_body(self) -> ComposeResult:
        view = LineView(id="text", classes="pane fill")
        view.set_title("Approval")
        yield view
        if self._may_approve():
            yield Entry(
                f"Type the name of the index to approve change #{self.change.id} on {self.console.label}: "
                f"{self.walk_state.index_name}",
                "Approve",
                exactly(self.change.plan.index),
                id="approval",
            )

    def on_mount(self) -> None:
        if self._may_approve():
            self.query_one(Entry).focus_input()
        else:
            self.query_one("#text").focus()
        super().on_mount()

    def _own(self) -> bool:
        return self.change.requested_by == self.engine.facts.session_user

    def _may_approve(self) -> bool:
        open_ = self.change.state is State.PROPOSED and not self.why_not_operate()
        return open_ and (self.engine.can_approve_alone or not self._own())

    def draw(self) -> None:
        if self.due(POLL_S) and not self.change.ended:
            self.poll_change()
        view = self.query_one("#text", LineView)
        for entry in self.query(Entry):
            if entry.display and self.change.state is not State.PROPOSED:
                entry.display = False
                view.focus()
        view.set_lines(self._text(max(20, view.line_width)))

    def _text(self, width: int) -> list[Line]:
        change = self.change
        out = [line((change.state.value.upper(), change_tone(change)), f"  change #{change.id}: {change.kind} index"), ()]
        out += wrap(change.plan.ddl, width, "bold")
        out += [
            (),
            line(("target      ", "dim"), f"{self.console.label}, database {clean_line(change.plan.database)}"),
            line(("table       ", "dim"), clean_line(f"{change.plan.schema}.{change.plan.table}")),
            line(("requested   ", "dim"), f"{clean_line(change.requested_by)}, "
                 f"{fmt.clock(change.requested_at, with_date=True)}"),
            line(("reason      ", "dim"), clean_line(change.reason)),
            line(("plan sha256 ", "dim"), change.plan_sha256),
        ]  # fmt: skip
        if change.plan.terms:
            terms = change.plan.terms
            limits = f"{clean_line(str(terms.get('environment')))}, safeguards {clean_line(str(terms.get('sha256')))[:16]}"
            out.append(line(("limits      ", "dim"), limits))
        out += wrap(f"way back    {clean_line(change.back, 400)}", width, "dim")
        out += [(), rule("who approves", width)]
        for approval in change.approvals:
            words = f"{clean_line(approval.approver)} at {fmt.clock(approval.at, with_date=True)}"
            out.append(line(("approved ", "ok"), words))
        if change.outcome:
            out += wrap(clean_line(change.outcome), width)
        if change.state is State.PROPOSED:
            out += wrap(self._who(), width)
        return out

    def _who(self) -> str:
        number = self.change.id
        if not self._own():
            return f"You may approve it as {self.engine.facts.session_user}: the approval binds this very plan by its hash."
        if self.engine.can_approve_alone:
            return (
                "In real life a second person does this. This demo has a second login standing by; what you type below "
                "approves as that login, so that you can walk the whole way alone."
            )
        return (
            "You proposed it, so somebody else must approve. A second person runs:\n\n"
            f"    indexpilot changes show {number} {self.console.label}\n"
            f"    indexpilot changes approve {number} {self.console.label}\n\n"
            "This screen goes on by itself when that has happened. You may leave; c lists the change."
        )

    @on(Entry.Accepted, "#approval")
    def _approve(self) -> None:
        number, walk = self.change.id, self.walk_state

        def done(change: Change) -> None:
            walk.change = change
            self.console.hurry()
            self.follow()

        self.work_on(lambda: self.engine.approve(number), done, what="the approval", failed=self._failed, group="act")

    def _failed(self, fault: Fault) -> None:
        self.query_one(Entry).release()
        self.say(fault.one_line, "crit")

    def why_not(self, action: Action) -> str:
        if action.name in ("withdraw", "reject"):
            if self.change.state is not State.PROPOSED:
                return f"it is {self.change.state.value}"
            if action.name == "withdraw" and not self._own():
                return "it is not yours: reject it instead"
            if action.name == "reject" and self._own():
                return "it is yours: withdraw it instead"
            return self.why_not_operate()
        return super().why_not(action)

    def action_withdraw(self) -> None:
        """Ask for the reason, then withdraw."""
        number = self.change.id
        self._end("Withdraw the proposal", lambda reason: self.engine.withdraw(number, reason))

    def action_reject(self) -> None:
        """Ask for the reason, then reject."""
        number = self.change.id
        self._end("Reject the proposal", lambda reason: self.engine.reject(number, reason))

    def _end(self, title: str, act: Callable[[str], Awaitable[Change]]) -> None:
        screen = ConfirmScreen(
            self.walk_state,
            Step.APPROVE,
            title=title,
            words=(f"Change #{self.change.id} ends here. Nothing was changed on the target.", self.change.plan.ddl),
            question="Why? This goes into the log.",
            button=title.split(maxsplit=1)[0],
            check=some_words("a reason"),
            act=act,
            done=self._ended,
        )
        self.app.push_screen(screen)

    def _ended(self, change: Change) -> None:
        self.walk_state.change = change

    def action_back(self) -> None:
        """Back to the review; the proposal stands."""
        if self.walk_state.forecast is not None:
            self.go(Step.REVIEW)
        else:
            super().action_back()

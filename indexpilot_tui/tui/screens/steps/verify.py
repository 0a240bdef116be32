"""Step 5: is it there, and did it help? Then keep it or take it back."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from indexpilot_tui.engine.model.change import Change, State
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.actions import BACK, Action, bindings
from indexpilot_tui.tui.feed import change_tone
from indexpilot_tui.tui.lines import Line, elide, line, rule, width_of, wrap
from indexpilot_tui.tui.screens.steps.back import RollBackScreen
from indexpilot_tui.tui.screens.steps.base import StepScreen
from indexpilot_tui.tui.screens.steps.progress_text import MEANING, event_line
from indexpilot_tui.tui.statement import in_one_line
from indexpilot_tui.tui.widgets.lineview import LineView
from indexpilot_tui.tui.widgets.stepbar import Step

if TYPE_CHECKING:
    from indexpilot_tui.engine.model.change import QueryVerdict

POLL_S = 2.0
TONES = {"improved": "ok", "regressed": "crit", "no evidence": "plain"}


def verify_lines(change: Change, now: datetime, width: int) -> list[Line]:
    """The catalog's answer, the comparison per statement, and what is still running."""
    state = change.state
    out: list[Line] = [line((state.value.upper().replace("_", " "), change_tone(change)), f"  {MEANING.get(state, '')}")]
    if change.outcome:
        out += wrap(clean_line(change.outcome), width, "bold")
    out += [rule("catalog, read again by OID", width), *_catalog(change)]
    if change.standing is not None and not change.standing.as_planned:
        out += wrap(f"now: {change.standing.sentence}", width, "crit")
    out += wrap(f"after: {clean_line(change.plan.ddl)}", width, "dim")
    if change.verification is not None or not (change.ended or change.parent_id):
        out += _comparison(change, now, width)
    out.append(rule("log of this change (UTC of the database)", width))
    return out + [event_line(event, width) for event in sorted(change.events, key=lambda e: -e.seq)]


def _comparison(change: Change, now: datetime, width: int) -> list[Line]:
    state = change.state
    out: list[Line] = [rule("did it help?", width)]
    if state is State.OBSERVING and change.observe_until is not None:
        left = (change.observe_until - now).total_seconds()
        words = f"{fmt.seconds(left)} to go" if left > 0 else "the window is over; the verdict is being made"
        until = fmt.clock(change.observe_until)
        out.append(line(("watching ", "warn"), f"{words}, until {until}"))
    verification = change.verification
    if verification is None:
        return [*out, line(("no verdict yet: the statements run as they come", "dim"))]
    tone = TONES.get(verification.verdict, "warn")
    out.append(line((verification.verdict.upper(), "bold" if tone == "plain" else tone)))
    out += wrap(f"{clean_line(verification.reason)} (window {fmt.seconds(verification.window_s)})", width)
    out.append(line((f"  {'mean before':>12} {'after ms':>12} {'change':>8} {'calls':>15}  verdict", "dim")))
    for query in verification.queries:
        out += _verdict(query, width)
    return out


def _catalog(change: Change) -> list[Line]:
    if change.kind == "drop" and change.index_oid is None:
        return [line(("the index is not in the catalog any more", "ok"))]
    oid = "not recorded" if change.index_oid is None else str(change.index_oid)
    valid = {True: ("valid", "ok"), False: ("INVALID", "crit"), None: ("validity not read", "warn")}[change.index_valid]
    return [line((clean_line(change.plan.index), "bold"), f"  oid {oid}  ", valid)]


def _verdict(query: QueryVerdict, width: int) -> list[Line]:
    before = fmt.rate(query.mean_before_ms) if query.calls_before else fmt.NOT_MEASURED
    after = fmt.rate(query.mean_after_ms) if query.calls_after else fmt.NOT_MEASURED
    measured = query.calls_before and query.calls_after
    effect = fmt.change_pct(query.mean_before_ms, query.mean_after_ms) if measured else fmt.NOT_MEASURED
    calls = f"{fmt.count(query.calls_before)} → {fmt.count(query.calls_after)}"
    tone = TONES.get(query.verdict, "warn")
    head, tail = f"  {before:>12} {after:>12} ", f" {calls:>15}  "
    figures: Line = line(head, (f"{effect:>8}", tone), tail, (f"{query.verdict:12} ", tone))
    why = line((elide("    " + clean_line(query.reason), width), "dim"))
    rest = width - width_of(figures)
    if rest < 40:  # too narrow for a statement that says anything: it gets a line of its own
        return [figures, line("    ", in_one_line(clean_line(query.query), width - 4)), why]
    return [(*figures, (in_one_line(clean_line(query.query), rest), "plain")), why]


class VerifyScreen(StepScreen):
    """Polls while the window is open."""

    STEP = Step.VERIFY
    HELP_TITLE = "Verify"
    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action("K", "keep", "keep", "Keep the index and end the watch.", 1),
        Action(
            "R",
            "roll_back",
            "roll back",
            "Show the way back and its cost; it asks for the index's name.",
            0,
        ),
        BACK,
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)

    def step_body(self) -> ComposeResult:
        view = LineView(id="text", classes="pane fill")
        view.set_title("Verify")
        yield view

    def on_mount(self) -> None:
        self.query_one("#text").focus()
        super().on_mount()

    def draw(self) -> None:
        if self.due(POLL_S) and not self.change.ended:
            self.poll_change()
        view = self.query_one("#text", LineView)
        view.set_lines(verify_lines(self.change, self.console.clock.wall(), max(20, view.line_width)))

    def why_not(self, action: Action) -> str:
        if action.name == "keep":
            if self.change.state is not State.OBSERVING:
                over = self.change.state is State.DONE and self.change.kind == "create"
                return (
                    "it stays already: the watch is over" if over else f"it is {self.change.state.value.replace('_', ' ')}"
                )
            return self.why_not_operate()
        if action.name == "roll_back":
            if self.change.state not in (State.OBSERVING, State.DONE):
                return f"it is {self.change.state.value.replace('_', ' ')}"
            if self.walk_state.rolling_back:
                return "this change was itself a roll-back"
            return self.why_not_operate()
        return super().why_not(action)

    def action_keep(self) -> None:
        """Keep: ends the watch, changes nothing in the database."""
        number = self.change.id

        def done(change: Change) -> None:
            self.walk_state.change = change
            self.console.hurry()
            self.say(f"change #{number} is kept", "ok")

        self.work_on(lambda: self.engine.keep(number), done, what="keeping the change", group="act")

    def action_roll_back(self) -> None:
        """To the plan of the way back; nothing happens before the name is typed there."""
        self.app.switch_screen(RollBackScreen(self.walk_state))

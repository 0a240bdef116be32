"""Pane 3: may a change start now, gate by gate, and what is being built."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.content import Content

from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.feed import change_tone
from indexpilot_tui.tui.gates import STATUS_TONES, closed_first, guard_label
from indexpilot_tui.tui.lines import Line, line
from indexpilot_tui.tui.widgets.lean import LeanVertical
from indexpilot_tui.tui.widgets.lineview import LineView
from indexpilot_tui.tui.widgets.table import Column, KeyedTable, Row

if TYPE_CHECKING:
    from indexpilot_tui.engine.model.verdict import Verdict
    from indexpilot_tui.engine.observe.model import BuildProgress
    from indexpilot_tui.tui.feed import Snapshot

GATE_COLUMNS = (
    Column("status", "gate", 7),
    Column("guard", "", 12),
    Column("measured", "measured / limit", 0),
    Column("since", "since", 8, "left", 58),
    Column("evidence", "why", 48, "left", 108),
)


def gate_row(verdict: Verdict, *, known: bool = True) -> Row:
    """One verdict as a row; the key is the guard's name. One that is not `known` any more is grey and in brackets."""
    tone = STATUS_TONES[verdict.status.value] if known else "dim"
    word = verdict.status.value.upper()
    figures = verdict.measured + (f" / {verdict.limit}" if verdict.limit else "")
    return Row(
        verdict.guard,
        {
            "status": (word if known else f"({word if len(word) < 6 else '?'})", tone),
            "guard": (guard_label(verdict.guard), "plain" if known else "dim"),
            "measured": (figures or verdict.evidence, "plain" if verdict.allows and known else tone),
            "since": (fmt.hour(verdict.since) if verdict.since else fmt.NOT_MEASURED, "dim"),
            "evidence": (verdict.evidence, "dim"),
        },
    )


def build_lines(builds: tuple[BuildProgress, ...], width: int) -> list[Line]:
    """What is being built: two lines each, a third when it waits for somebody."""
    out: list[Line] = []
    for build in builds:
        out.append(line((f"{build.index or 'index'} ", "bold"), (build.phase, "dim")))
        if build.total:  # a bar without a total would read as 0 %
            share = f"{build.done / build.total * 100:3.0f} %"
            out.append(line(fmt.bar(build.done, build.total, max(6, width - 8)), f" {share}"))
        if build.blocker_pid:
            lockers = f"{build.lockers_done}/{build.lockers_total}"
            out.append(line((f"waits for pid {build.blocker_pid} (lockers {lockers})", "warn")))
    return out


class ThrottlePane(LeanVertical):
    """The target-wide gates and, below them, running builds and open changes."""

    def __init__(self) -> None:
        super().__init__(id="throttle")
        self.border_title = Content("3 Throttle & build")
        self._title = ""

    def compose(self) -> ComposeResult:
        yield KeyedTable(GATE_COLUMNS, empty="reading the gates …", id="gates")
        yield LineView(id="builds", grow=8, focusable=False)

    def show(self, snapshot: Snapshot, now: datetime) -> None:
        """Draw the newest verdicts."""
        gates = self.query_one("#gates", KeyedTable)
        if snapshot.throttle is not None:
            known = not snapshot.throttle_error
            gates.set_rows([gate_row(v, known=known) for v in closed_first(snapshot.throttle)])
        elif snapshot.throttle_error:
            gates.set_rows([], empty=f"UNKNOWN: {snapshot.throttle_error}")
        self.age(snapshot, now)
        word = {True: "OPEN", False: "CLOSED", None: "UNKNOWN"}[snapshot.gate_open]
        if word != self._title:
            self._title = word
            self.border_title = Content(f"3 Throttle & build · {word}")

    def age(self, snapshot: Snapshot, now: datetime) -> None:
        """Draw what is below the gates, as old as it is now."""
        below = self.query_one("#builds", LineView)
        below.set_lines(self._below(snapshot, now, below.line_width))

    def _below(self, snapshot: Snapshot, now: datetime, width: int) -> list[Line]:
        builds = snapshot.observation.builds if snapshot.observation else ()
        out = build_lines(builds, width)
        for change in [c for c in snapshot.changes if not c.ended][: 3 if builds else 5]:
            age = fmt.ago(now, change.state_since)
            out.append(
                line(
                    f"#{change.id} ",
                    (change.state.value.replace("_", " "), change_tone(change)),
                    f" {change.kind} {change.plan.index} ",
                    (age, "dim"),
                )
            )
        if not out:
            out.append(line(("nothing is being built, no change is open", "dim")))
        return out

    def verdict(self, snapshot: Snapshot) -> Verdict | None:
        """The verdict under the cursor."""
        key = self.query_one("#gates", KeyedTable).selected
        return next((v for v in snapshot.throttle or () if v.guard == key), None)

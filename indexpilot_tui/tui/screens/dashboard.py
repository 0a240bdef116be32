"""The first screen: where the time goes, what the indexes are worth, whether it is safe to act."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Input

from indexpilot_tui.engine.observe.model import Group
from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.actions import Action, bindings
from indexpilot_tui.tui.lines import Line, line
from indexpilot_tui.tui.moment import moment
from indexpilot_tui.tui.panes.events import EventsPane
from indexpilot_tui.tui.panes.health import HealthPane
from indexpilot_tui.tui.panes.hotspots import HotspotsPane
from indexpilot_tui.tui.panes.throttle import ThrottlePane
from indexpilot_tui.tui.screens.activity import ActivityScreen
from indexpilot_tui.tui.screens.base import ConsoleScreen
from indexpilot_tui.tui.screens.detail import finding_screen, gate_screen
from indexpilot_tui.tui.screens.query import QueryScreen
from indexpilot_tui.tui.screens.signals import SignalsScreen
from indexpilot_tui.tui.widgets.lean import LeanContainer
from indexpilot_tui.tui.widgets.lineview import LineView
from indexpilot_tui.tui.widgets.strip import StatusStrip
from indexpilot_tui.tui.widgets.table import KeyedTable

if TYPE_CHECKING:
    from indexpilot_tui.tui.feed import Snapshot

PANES = ("hotspots", "health", "throttle", "events")
ASK_MARK = "mark: nothing for now, 14:02 (UTC), or -5 for five minutes ago; esc leaves it"
NAMES = ("Hotspots", "Index health", "Throttle", "Events")


class Dashboard(ConsoleScreen):
    """Four panes, or one at a time with tabs where there is no room for four."""

    HELP_TITLE = "First screen"
    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action("enter", "open", "detail", "Open the row under the cursor: statement, finding or gate.", 1),
        Action("i", "simulate", "simulate", "Forecast an index change for the statement or finding under the cursor.", 0),
        Action("slash", "filter", "filter", "Filter this pane by a regular expression; ! in front turns it round.", 3),
        Action("less_than_sign,greater_than_sign", "sort", "sort", "Sort the hotspots by another column.", 5),
        Action("a", "activity", "activity", "Who blocks whom and what would free them; old snapshots; what runs long.", 1),
        Action(
            "s", "signals", "signals", "The raw signals behind the throttle: value, limit, past, age; unknown with why.", 2
        ),
        Action("w", "window", "window", "Hotspots of the last reading, of 1, 5 or 60 minutes, or since the mark.", 2),
        Action("b", "group", "by", "Hotspots by query, by table, by user or by database.", 2),
        Action("m", "mark", "mark", "Set a mark, now or at a time: what joins the top since then is shown with a plus.", 4),
        Action("space", "pause", "pause", "Hold the picture still. Reading goes on, so that going on is instant.", 3),
        Action("1,2,3,4", "pane(1)", "pane", "Go to a pane.", 4),
        Action("escape", "unfilter", "", "Take the filter off."),
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(a for a in ACTIONS if a.name not in ("pane", "sort")),
        *[(str(n), f"pane({n})", NAMES[n - 1]) for n in range(1, 5)],
        ("less_than_sign", "sort(-1)", "Sort by the column before"),
        ("greater_than_sign", "sort(1)", "Sort by the next column"),
    ]

    _of: Snapshot | None = None  # what was drawn last
    _drawn: tuple[object, ...] = ()

    def body(self) -> ComposeResult:
        yield LineView(id="tabs", focusable=False)
        with LeanContainer(id="grid"):
            for pane in (HotspotsPane(), ThrottlePane(), HealthPane(), EventsPane()):
                pane.add_class("pane")
                yield pane
        yield LineView(id="running", focusable=False)
        yield Input(id="filter", compact=True)
        yield Input(id="mark", compact=True, placeholder=ASK_MARK)

    def on_mount(self) -> None:
        self.query_one("#hotspots").add_class("-current")
        self.query_one("#hotspots").focus()
        super().on_mount()

    @property
    def current(self) -> str:
        """The id of the pane that has (or last had) the focus."""
        for name in PANES:
            if self.query_one(f"#{name}").has_class("-current"):
                return name
        return PANES[0]

    def on_descendant_focus(self) -> None:
        """The pane that got the focus is the current one."""
        super().on_descendant_focus()
        if not self.ready:
            return
        node = self.focused
        while node is not None and node.id not in PANES:
            node = node.parent if isinstance(node.parent, Widget) else None
        if node is not None:
            for name in PANES:
                self.query_one(f"#{name}").set_class(name == node.id, "-current")
            self.refresh_footer()
            self._show_tabs(self.snapshot)

    def tick(self) -> None:
        """Most seconds bring no new data: the panes stay as they are, but for the ages of open changes."""
        if not (self.ready and self.is_current and self._of is self.snapshot and self._drawn == self._state()):
            self.touch()
            return
        self.query_one(StatusStrip).show(self.console.strip_state())
        self.query_one(ThrottlePane).age(self.snapshot, self.console.clock.wall())
        self.refresh_footer()  # an engine may have come meanwhile: keys that were greyed are none now

    def _state(self) -> tuple[object, ...]:
        """What decides beside the snapshot how panes and keys look. Where the operator's keys change more, they draw it."""
        tables = self.query(KeyedTable).results(KeyedTable)
        return (self.query_one(EventsPane).size, *((t.size, t.rows, t.selected) for t in tables))

    def touch(self) -> None:
        super().touch()
        if self.ready:
            self._of, self._drawn = self.snapshot, self._state()

    def live(self, snapshot: Snapshot) -> None:
        self.query_one(HotspotsPane).show(snapshot)
        self.query_one(HealthPane).show(snapshot)
        self.query_one(ThrottlePane).show(snapshot, self.console.clock.wall())
        self.query_one(EventsPane).show(snapshot)
        self._show_tabs(snapshot)
        self._show_running(snapshot)

    def _show_tabs(self, snapshot: Snapshot) -> None:
        health = snapshot.observation.health if snapshot.observation else None
        alarms = {
            "health": any(f.severity == "critical" for f in health.findings) if health else False,
            "throttle": snapshot.throttle is not None and snapshot.gate_open is not True,
        }
        spans: list[tuple[str, str]] = [(" ", "plain")]
        for number, name in enumerate(PANES):
            label = f"{number + 1} {NAMES[number]}{'!' if alarms.get(name) else ''}"
            here = name == self.current
            spans.append((f"[{label}]" if here else f" {label} ", "accent" if here else "plain"))
            spans.append(("  ", "plain"))
        self.query_one("#tabs", LineView).set_lines([tuple(spans)])

    def _show_running(self, snapshot: Snapshot) -> None:
        builds = snapshot.observation.builds if snapshot.observation else ()
        widget = self.query_one("#running", LineView)
        widget.set_class(bool(builds), "-on")
        if builds:
            first = builds[0]
            share = f"{first.done / first.total * 100:.0f} %" if first.total else ""
            words: Line = line((" BUILD ", "inverse"), f" {first.index} {share} {first.phase}")
            if first.blocker_pid:
                words += ((f" waits for pid {first.blocker_pid}", "warn"),)
            widget.set_lines([words])

    def why_not(self, action: Action) -> str:
        if action.name in ("open", "simulate"):
            return self._nothing_here(action.name == "simulate")
        if action.name == "sort" and self.current != "hotspots":
            return "only the hotspots can be sorted (1)"
        if action.name in ("window", "group", "mark", "activity", "signals") and self.console.engine is None:
            return "not connected yet"
        if action.name == "filter" and self.current not in ("hotspots", "health"):
            return "only the hotspots and the index health have a filter"
        return super().why_not(action)

    def _nothing_here(self, simulate: bool) -> str:
        if self.console.engine is None:
            return "not connected yet"
        pane, snapshot = self.current, self.snapshot
        if pane == "hotspots":
            return self._no_statement(simulate)
        if pane == "health":
            finding = self.query_one(HealthPane).finding(snapshot)
            if finding is None:
                return "no finding under the cursor"
            return "this finding has no single statement that would fix it" if simulate and not finding.fix else ""
        if pane == "throttle" and not simulate:
            return "" if self.query_one(ThrottlePane).verdict(snapshot) else "no gate under the cursor"
        return "nothing to simulate here: choose a statement (1) or a finding (2)" if simulate else "nothing to open here"

    def _no_statement(self, simulate: bool) -> str:
        pane = self.query_one(HotspotsPane)
        if pane.hotspot(self.snapshot) or (not simulate and pane.named(self.snapshot)):
            return ""
        by_query = pane.view.group is Group.QUERY
        return "no statement under the cursor" if by_query else "no single statement: b goes back to queries"

    @on(KeyedTable.Chosen)
    def _chosen(self) -> None:
        self.action_open()

    @on(KeyedTable.Moved)
    def _moved(self) -> None:
        self.refresh_footer()

    def action_open(self) -> None:
        """Detail of the row under the cursor."""
        snapshot = self.snapshot
        if self.console.engine is None:
            return
        if self.current == "hotspots" and (spot := self.query_one(HotspotsPane).hotspot(snapshot)):
            self.app.push_screen(QueryScreen(spot, self.query_one(HotspotsPane).view))
        elif self.current == "hotspots" and (name := self.query_one(HotspotsPane).named(snapshot)):
            self._look_into(name)
        elif self.current == "health" and (finding := self.query_one(HealthPane).finding(snapshot)):
            self.app.push_screen(finding_screen(finding, snapshot.observation))
        elif self.current == "throttle" and (verdict := self.query_one(ThrottlePane).verdict(snapshot)):
            self.app.push_screen(gate_screen(verdict))

    def action_simulate(self) -> None:
        """Into the stepper with what is under the cursor now."""
        if self.current == "hotspots" and (spot := self.query_one(HotspotsPane).hotspot(self.snapshot)):
            self.console.walk_statement(spot.queryid, spot.query)
        elif self.current == "health" and (finding := self.query_one(HealthPane).finding(self.snapshot)):
            self.console.walk_ddl(finding.fix, f"{finding.kind.value} {finding.index}")

    def action_pane(self, number: int) -> None:
        """Go to a pane."""
        name = PANES[number - 1]
        for other in PANES:
            self.query_one(f"#{other}").set_class(other == name, "-current")
        target = "#gates" if name == "throttle" else f"#{name}"
        self.query_one(target).focus()
        self.touch()

    def action_sort(self, step: int) -> None:
        """Another sort column."""
        pane = self.query_one(HotspotsPane)
        pane.turn(step)
        pane.show(self.snapshot)
        self.say(f"sorted by {pane.order.title}")

    def _look_into(self, name: str) -> None:
        """The statements of the user or on the table under the cursor."""
        pane = self.query_one(HotspotsPane)
        pane.look_by(Group.QUERY)
        pane.set_filter(rf"\b{re.escape(name)}\b")
        pane.show(self.snapshot)
        self.say(f"statements with {name}; esc shows all")
        self.touch()

    def action_window(self) -> None:
        """The next window of the hotspots."""
        pane = self.query_one(HotspotsPane)
        spots = pane.spots(self.snapshot)
        self.say(f"hotspots: {pane.turn_window(marked=spots is not None and spots.mark is not None)}")
        pane.show(self.snapshot)

    def action_group(self) -> None:
        """Hotspots by something else."""
        pane = self.query_one(HotspotsPane)
        group = pane.turn_group()
        if group is Group.DATABASE:
            self.engine.look_at_databases()
        pane.show(self.snapshot)
        self.say(f"hotspots by {group.value}")
        self.touch()

    def action_activity(self) -> None:
        """Sessions and locks."""
        self.app.push_screen(ActivityScreen())

    def action_signals(self) -> None:
        """The raw signals."""
        self.app.push_screen(SignalsScreen())

    def action_mark(self) -> None:
        """Ask for the moment."""
        box = self.query_one("#mark", Input)
        box.add_class("-on")
        box.value = ""
        box.focus()

    @on(Input.Submitted, "#mark")
    def _marked(self, event: Input.Submitted) -> None:
        at, fault = moment(event.value, self.console.clock.wall())
        if fault:
            self.say(fault, "warn")
            return
        set_at = self.engine.mark(at)
        self._close_mark()
        if set_at is None:
            self.say("nothing was read yet, so there is nothing to compare with", "warn")
        else:
            self.say(f"mark at {fmt.hour(set_at)}: w goes to the time since then")
            self.console.hurry()

    def _close_mark(self) -> None:
        self.query_one("#mark", Input).remove_class("-on")
        self.query_one(HotspotsPane).focus()
        self.refresh_footer()

    def action_pause(self) -> None:
        """Hold still, or go on."""
        self.console.toggle_pause()
        since = fmt.hour(self.console.clock.wall())
        self.say(f"paused at {since}; space goes on" if self.console.paused else "live again")
        self.touch()

    def _filterable(self) -> HotspotsPane | HealthPane:
        return self.query_one(HealthPane) if self.current == "health" else self.query_one(HotspotsPane)

    def action_filter(self) -> None:
        """Open the filter line."""
        box = self.query_one("#filter", Input)
        box.add_class("-on")
        box.value = self._filterable().filter.text
        box.focus()

    def action_unfilter(self) -> None:
        """Close the filter line and take the filter off; or leave the mark as it is."""
        if self.query_one("#mark", Input).has_class("-on"):
            self._close_mark()
            return
        pane = self._filterable()
        pane.set_filter("")
        self._close_filter(pane)

    @on(Input.Changed, "#filter")
    def _filtering(self, event: Input.Changed) -> None:
        pane = self._filterable()
        if fault := pane.set_filter(event.value):
            self.say(fault, "warn")
        pane.show(self.snapshot)

    @on(Input.Submitted, "#filter")
    def _filtered(self) -> None:
        self._close_filter(self._filterable())

    def _close_filter(self, pane: HotspotsPane | HealthPane) -> None:
        self.query_one("#filter", Input).remove_class("-on")
        pane.focus()
        pane.show(self.snapshot)
        self.refresh_footer()

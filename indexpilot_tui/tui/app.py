"""The console application: opens the engine, keeps the newest snapshot, and leaves the terminal as it found it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import events
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen
from textual.worker import WorkerFailed

from indexpilot_tui.errors import UNKNOWN, defect
from indexpilot_tui.tui.actions import GLOBAL_ACTIONS, Action, bindings
from indexpilot_tui.tui.clock import Clock
from indexpilot_tui.tui.faults import explain
from indexpilot_tui.tui.feed import Feed, Snapshot
from indexpilot_tui.tui.screens.base import ConsoleScreen
from indexpilot_tui.tui.screens.changes import ChangesScreen
from indexpilot_tui.tui.screens.dashboard import Dashboard
from indexpilot_tui.tui.screens.help import HelpScreen
from indexpilot_tui.tui.screens.sent import SentScreen
from indexpilot_tui.tui.screens.steps.walk import Walk
from indexpilot_tui.tui.screens.trouble import TroubleScreen
from indexpilot_tui.tui.themes import ThemeSet
from indexpilot_tui.tui.widgets.footer import ActionFooter
from indexpilot_tui.tui.widgets.strip import StripState

if TYPE_CHECKING:
    from indexpilot_tui.engine.model.change import Change
    from indexpilot_tui.settings.model import Settings
    from indexpilot_tui.tui.port import ConsoleEngine

_log = logging.getLogger("indexpilot.tui")
OpenEngine = Callable[[Callable[[str], None]], Awaitable["ConsoleEngine"]]  # given: where to tell how far it has come
CLOSE_TIMEOUT_S = 10.0  # engine.close cancels its running query first; a server that does not answer must not hold us


class ConsoleApp(App[int]):
    """Holds what all screens share. Every screen is full and opaque."""

    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = True
    TITLE = "IndexPilot"
    BINDINGS: ClassVar[list[BindingType]] = bindings(GLOBAL_ACTIONS)
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012 - as Textual declares it
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]  # noqa: RUF012

    def __init__(
        self,
        open_engine: OpenEngine,
        *,
        settings: Settings,
        target_label: str,
        banner: str = "",
        clock: Clock | None = None,
        themes: ThemeSet | None = None,
    ) -> None:
        if themes is None:
            from indexpilot_tui.tui.theme_files import load_themes

            themes = load_themes(settings.themes_dir)
        loaded = themes
        self._own_variables = next(iter(loaded.themes.values())).variables() if loaded.themes else {}
        # NO_COLOR alone still writes greys; with the terminal's own colours it writes none at all
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self._open_engine, self._settings = open_engine, settings
        self.label, self.banner = target_label, banner
        self.clock = clock or Clock()
        self.engine: ConsoleEngine | None = None
        self.feed: Feed | None = None
        self.shown = Snapshot()
        self.paused = False
        self._status = 0
        self._last_key: events.Key | None = None
        self._connecting = f"connecting to {target_label} …"
        self._theme_faults = list(loaded.refused)
        for theme in loaded.themes.values():
            self.register_theme(theme.to_textual())
        wanted = settings.tui.theme
        if wanted in self.available_themes:
            self.theme = wanted
        elif loaded.themes:
            self.theme = next(iter(loaded.themes))
            self._theme_faults.append(f"theme {wanted!r} is not there; using {self.theme}")

    @property
    def environment(self) -> str:
        """production, staging, development or demo; what is not known yet counts as production."""
        if self.engine is not None:
            return self.engine.target.environment
        known = self._settings.targets.get(self.label)
        return known.environment if known else "demo" if self.banner else "production"

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our own CSS variables, so that Textual's built-in themes parse too."""
        return dict(self._own_variables)

    def on_mount(self) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            asyncio.get_running_loop().add_signal_handler(number, self._told_to_end, number)
        self.push_screen(Dashboard())
        self.set_interval(1.0, self._tick)
        self.connect()

    def _told_to_end(self, number: signal.Signals) -> None:
        self.exit(return_code=128 + number)

    def _handle_exception(self, error: Exception) -> None:
        """A defect ends the console. Textual would print the local variables of all frames: a password may be among them."""
        if self._exception is None:  # as in App: a test's pilot raises it again
            self._exception = error
            self._exception_event.set()
        self._return_code = UNKNOWN
        self.bell()
        self._exit_renderables.append(Text(defect(error.error if isinstance(error, WorkerFailed) else error)))
        self._close_messages_no_wait()

    def connect(self) -> None:
        """Open the engine in a worker; the screen is there already."""
        self._connecting = f"connecting to {self.label} …"
        self.run_worker(self._connect(), group="engine", exclusive=True, description="connecting")

    def _opening(self, words: str) -> None:
        self._connecting = words
        self._tick()

    async def _connect(self) -> None:
        try:
            engine = await self._open_engine(self._opening)
        except Exception as exc:  # noqa: BLE001 - told on the screen and logged; the operator decides what next
            fault = explain(exc, f"connecting to {self.label}")
            self._connecting = "NOT CONNECTED"
            self._status = fault.exit_status
            self.push_screen(TroubleScreen(fault))
            return
        self.engine = engine
        self._status = 0
        for screen in self.screen_stack:
            for name in ("production", "staging", "development", "demo"):
                screen.set_class(name == self.environment, f"-env-{name}")
        self.feed = Feed(engine, self.clock, self._publish)
        for text in self._theme_faults:
            self.feed.note("warn", text)
        await self.feed.run()

    def _publish(self, snapshot: Snapshot) -> None:
        if not self.paused:
            self.shown = snapshot
        self._tick()

    @property
    def stale_after_s(self) -> float:
        """The age from which what is shown is called stale."""
        return max(10.0, 3 * self._settings.observe.interval_seconds)

    def _tick(self) -> None:
        if not self.paused:
            self.shown = self.shown.aged(self.clock.mono(), self.stale_after_s)
        screen = self.screen
        if isinstance(screen, ConsoleScreen):
            screen.tick()

    def toggle_pause(self) -> None:
        """Hold the picture, or show the newest at once."""
        self.paused = not self.paused
        if not self.paused and self.feed is not None:
            self.shown = self.feed.snapshot

    def strip_state(self) -> StripState:
        """What the strip shows now; it stays live while the picture below is held still."""
        live = self.feed.snapshot if self.paused and self.feed is not None else self.shown
        return StripState(
            self.label,
            self.environment,
            self.engine,
            live.aged(self.clock.mono(), self.stale_after_s),
            self.clock.wall(),
            self.clock.mono(),
            stale_after_s=self.stale_after_s,
            paused=self.paused,
            connecting=self._connecting,
        )

    def why_not(self, action: Action) -> str:
        """Why an action that works on every screen does nothing now."""
        if action.name == "changes":
            if self.engine is None:
                return "not connected yet"
            return "" if self.engine.control_available else self.engine.control_reason
        return ""

    def hurry(self) -> None:
        """Refresh soon: something was just done."""
        if self.feed is not None:
            self.feed.hurry()

    async def on_event(self, event: events.Event) -> None:
        """A key press takes the last message away before it can make a new one."""
        if isinstance(event, events.Key) and event is not self._last_key and isinstance(self.screen, ConsoleScreen):
            self._last_key = event  # it comes here again when it has bubbled up
            for footer in self.screen.query(ActionFooter):
                footer.hush()
        await super().on_event(event)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Greys the keys of every screen."""
        for entry in GLOBAL_ACTIONS:
            if entry.name == action and self.why_not(entry):
                return None
        return True

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette: the actions of the screen in front, and the themes."""
        if isinstance(screen, ConsoleScreen):
            for action in screen.all_actions():
                if action.name != "command_palette" and not screen.why_not(action):
                    yield SystemCommand(action.help, f"key {action.shown_keys}", self._runner(action))
        for name in self.available_themes:
            if name.startswith("indexpilot"):
                yield SystemCommand(f"Theme {name}", "Change the colours", lambda name=name: setattr(self, "theme", name))

    def _runner(self, action: Action) -> Callable[[], None]:
        def run() -> None:
            screen = self.screen
            self.call_later(self.run_action, action.do, self if action.do.startswith("app.") else screen)

        return run

    def walk_statement(self, queryid: int, query: str) -> None:
        """Into the stepper with a statement; the engine is asked for candidates."""
        self._walk(Walk(origin=query, queryid=queryid))

    def walk_ddl(self, ddl: str, origin: str) -> None:
        """Into the stepper with a statement that is known."""
        self._walk(Walk(origin=origin, ddl=ddl, candidates=(ddl,) if ddl else ()))

    def walk_change(self, change: Change) -> None:
        """Take a change up again where it stands."""
        self._walk(Walk(origin=change.reason, ddl=change.plan.ddl, change=change))

    def _walk(self, walk: Walk) -> None:
        from indexpilot_tui.tui.screens.steps.route import screen_for

        self.push_screen(screen_for(walk))

    async def action_quit(self) -> None:
        """Leave; the exit status tells of a target that was never reached."""
        self.exit(return_code=self._status)

    def action_help(self) -> None:
        """Keys of the screen in front."""
        screen = self.screen
        if isinstance(screen, ConsoleScreen) and not isinstance(screen, HelpScreen):
            entries = [(action, screen.why_not(action)) for action in screen.all_actions()]
            self.push_screen(HelpScreen(screen.HELP_TITLE, entries))

    def action_changes(self) -> None:
        """The list of changes."""
        if not isinstance(self.screen, ChangesScreen):
            self.push_screen(ChangesScreen())

    def action_sent(self) -> None:
        """The log of statements."""
        if not isinstance(self.screen, SentScreen):
            self.push_screen(SentScreen())

    async def shut(self) -> None:
        """Close the engine; a server that does not answer does not hold us for more than a few seconds."""
        engine, self.engine = self.engine, None
        if engine is not None:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await engine.close()
            except TimeoutError:
                _log.warning("the engine did not close within %.0f s; left without it", CLOSE_TIMEOUT_S)


def run_console(
    open_engine: OpenEngine, *, settings: Settings, themes: ThemeSet, target_label: str, banner: str = ""
) -> int:
    """Run the console until the operator leaves; returns the exit status.

    `open_engine` is called in a worker after the first paint, with a function that shows how far it has come; its
    IndexPilotError becomes one message with the remedy, and
    the status, when the operator then quits. `banner` is a line that stays on top (the demo's). Any-motion mouse reports
    are only switched on with `tui.mouse`: over SSH they cost, and without them text can be selected.
    """
    app = ConsoleApp(open_engine, settings=settings, target_label=target_label, banner=banner, themes=themes)

    async def main() -> int:
        try:
            await app.run_async(mouse=settings.tui.mouse)
        finally:
            await app.shut()
        return app.return_code or 0

    return asyncio.run(main())

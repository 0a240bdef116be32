"""What every screen of the console shares: the strip above, the footer below, and who redraws when."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from textual import events
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input
from textual.worker import WorkType

from indexpilot_tui.errors import RefusedError
from indexpilot_tui.tui.actions import GLOBAL_ACTIONS, Action
from indexpilot_tui.tui.faults import Fault, explain
from indexpilot_tui.tui.lines import TONES, Line, line, pad
from indexpilot_tui.tui.terminal import MIN_COLUMNS, MIN_ROWS
from indexpilot_tui.tui.widgets.footer import ActionFooter, footer_line
from indexpilot_tui.tui.widgets.lean import Ground, LeanVertical
from indexpilot_tui.tui.widgets.lineview import LineView
from indexpilot_tui.tui.widgets.strip import StatusStrip, strip_lines

if TYPE_CHECKING:
    from indexpilot_tui.tui.app import ConsoleApp
    from indexpilot_tui.tui.feed import Snapshot
    from indexpilot_tui.tui.port import ConsoleEngine

T = TypeVar("T")
PRINTABLE = ("slash", "question_mark", "space", "less_than_sign", "greater_than_sign")


class ConsoleScreen(Ground, Screen[None]):
    """A full, opaque screen. Subclasses give `ACTIONS`, `BINDINGS`, `body` and, where something lives, `live`.

    `live` is called with each new snapshot and once a second, but only while the screen is in front: a covered screen is
    not touched, and is brought up to date when it comes back.
    """

    # the tones of all its lines: held by every widget of lines they were most of what Textual keeps of a screen
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"line--{tone}" for tone in (*TONES, "cursor")}
    DEFAULT_CSS = """
    ConsoleScreen > .line--plain { color: $foreground; }
    ConsoleScreen > .line--dim { color: $ip-dim; }
    ConsoleScreen > .line--bold { color: $foreground; text-style: bold; }
    ConsoleScreen > .line--head { color: $ip-head; text-style: bold; }
    ConsoleScreen > .line--accent { color: $accent; text-style: bold; }
    ConsoleScreen > .line--ok { color: $ip-ok; }
    ConsoleScreen > .line--warn { color: $ip-warn; text-style: bold; }
    ConsoleScreen > .line--crit { color: $ip-crit; text-style: bold; }
    ConsoleScreen > .line--add { color: $ip-ok; }
    ConsoleScreen > .line--del { color: $ip-crit; }
    ConsoleScreen > .line--badge { background: $ip-frame-development; color: $ip-frame-text; text-style: bold; }
    ConsoleScreen > .line--inverse { background: $foreground; color: $background; text-style: bold; }
    ConsoleScreen > .line--alarm { background: $ip-frame-production; color: $ip-frame-text; text-style: bold; }
    ConsoleScreen > .line--cursor { background: $ip-cursor; color: $foreground; text-style: bold; }
    """
    ACTIONS: ClassVar[tuple[Action, ...]] = ()
    HELP_TITLE: ClassVar[str] = ""
    AUTO_FOCUS: ClassVar[str | None] = ""
    _focused_before: Widget | None = None

    def on_compose(self) -> None:
        """The environment's colours from the first paint on."""
        self.add_class(f"-env-{self.console.environment}")

    @property
    def console(self) -> ConsoleApp:
        """The app, by its own type."""
        from indexpilot_tui.tui.app import ConsoleApp

        return cast(ConsoleApp, self.app)

    @property
    def engine(self) -> ConsoleEngine:
        """The engine; screens that need it are only opened when it is there."""
        engine = self.console.engine
        if engine is None:
            raise RefusedError("not connected", remedy="wait until the target answers")
        return engine

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot (the frozen one while paused)."""
        return self.console.shown

    @classmethod
    def all_actions(cls) -> tuple[Action, ...]:
        """This screen's keys, then those that work everywhere."""
        own = {action.keys for action in cls.ACTIONS}
        return cls.ACTIONS + tuple(a for a in GLOBAL_ACTIONS if a.keys not in own)

    def compose(self) -> ComposeResult:
        # drawn before the first paint, so that going from screen to screen does not blank them
        width = self.app.size.width
        yield StatusStrip(strip_lines(self.console.strip_state(), width), id="strip")
        if self.console.banner:
            yield LineView([self._banner(width)], id="banner", focusable=False)
        with LeanVertical(id="body"):
            yield from self.body()
        yield ActionFooter()
        yield LineView(id="too-small", focusable=False)

    def _banner(self, width: int) -> Line:
        return line((pad(f" {self.console.banner}", width), "badge"))

    def body(self) -> ComposeResult:
        """The widgets between strip and footer."""
        yield from ()

    def live(self, snapshot: Snapshot) -> None:
        """Draw what is new. Called only while in front."""

    def why_not(self, action: Action) -> str:
        """Why an action does nothing now; empty: it works. Greys the key and is told when it is pressed."""
        return self.console.why_not(action)

    def on_mount(self) -> None:
        self.touch()

    def on_screen_resume(self) -> None:
        """Back in front: everything is drawn as it is now."""
        self.call_after_refresh(self.touch)

    def on_resize(self, event: events.Resize) -> None:
        """Too small is said plainly; the rest follows by the breakpoints."""
        tiny = event.size.width < MIN_COLUMNS or event.size.height < MIN_ROWS
        if tiny and not self.has_class("-tiny"):
            self._focused_before = self.focused  # hiding the body takes the focus away
        elif not tiny and self._focused_before is not None:
            self.call_after_refresh(self._focused_before.focus)
            self._focused_before = None
        self.set_class(tiny, "-tiny")
        if tiny:
            size = f"{event.size.width}x{event.size.height}"
            words = [f"{size} is too small", f"needs {MIN_COLUMNS}x{MIN_ROWS}", "a running build is not affected", "q quits"]
            self.query_one("#too-small", LineView).set_lines([line(word) for word in words])
        self.call_after_refresh(self.touch)

    def touch(self) -> None:
        """Redraw whatever differs from what is on the screen."""
        if not self.is_current or not self.ready:
            return
        self.query_one(StatusStrip).show(self.console.strip_state())
        for banner in self.query("#banner").results(LineView):
            banner.set_lines([self._banner(self.size.width)])
        self.live(self.snapshot)
        self.refresh_footer()

    def tick(self) -> None:
        """Once a second: the clock and the ages."""
        self.touch()

    def refresh_footer(self) -> None:
        """The keys as they can be used now."""
        width = self.size.width or self.app.size.width
        if self.ready:
            self.query_one(ActionFooter).show(footer_line(self.all_actions(), self.why_not_now, width))

    def why_not_now(self, action: Action) -> str:
        """As `why_not`, and letters go into the text while one is being typed."""
        letters = all(len(key) == 1 or key in PRINTABLE for key in action.keys.split(","))
        if letters and isinstance(self.focused, Input):
            return "you are typing; tab leaves the field"
        return self.why_not(action)

    def on_descendant_focus(self) -> None:
        """Other keys work now."""
        self.refresh_footer()

    @property
    def ready(self) -> bool:
        """Composed, and not being taken down: a late answer of the engine may find the screen without its widgets."""
        return self.is_mounted and self.is_attached and self.query_one_optional(ActionFooter) is not None

    def say(self, text: str, tone: str = "plain") -> None:
        """One message in the footer, until the next key."""
        if self.ready:
            self.query_one(ActionFooter).say(text, tone)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """None (greyed, no effect) where `why_not` has a reason."""
        for entry in self.ACTIONS:
            if entry.name == action and self.why_not(entry):
                return None
        return True

    def on_key(self, event: events.Key) -> None:
        """Reached only by keys that did nothing else: a greyed one tells its reason."""
        if isinstance(self.focused, Input) and event.is_printable:
            return
        for entry in self.all_actions():
            if event.key in entry.keys.split(",") or (event.character or "") in entry.keys.split(","):
                if reason := self.why_not(entry):
                    self.say(f"{entry.shown_keys}: {reason}", "warn")
                return

    def work_on(
        self,
        call: Callable[[], Awaitable[T]],
        done: Callable[[T], None],
        *,
        what: str,
        failed: Callable[[Fault], None] | None = None,
        group: str = "call",
    ) -> None:
        """Call the engine in a worker of this screen; a newer call of the same group replaces an older one.

        `done` gets the result, `failed` (default: a message in the footer) the fault. Leaving the screen cancels.
        """

        async def run() -> None:
            try:
                result = await call()
            except Exception as exc:  # noqa: BLE001 - told on the screen and logged; the console must outlive a defect
                fault = explain(exc, what)
                (failed or (lambda f: self.say(f.one_line, "crit")))(fault)
            else:
                done(result)
            self.touch()

        begun: WorkType[None] = run  # no coroutine is left over when the screen closes first
        self.run_worker(begun, group=group, exclusive=True, description=what)

    def action_back(self) -> None:
        """One step back."""
        self.app.pop_screen()

    def action_pause(self) -> None:
        """Hold still, or go on."""
        self.console.toggle_pause()
        self.say("paused; space goes on" if self.console.paused else "live again")
        self.touch()

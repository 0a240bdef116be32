"""The status strip: where am I, may I act, how old is what I see. The same two lines on every screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.gates import guard_label
from indexpilot_tui.tui.lines import Line, Segment, elide, fit, line, pad
from indexpilot_tui.tui.widgets.lineview import LineView

if TYPE_CHECKING:
    from indexpilot_tui.engine.journal.records import Bypass
    from indexpilot_tui.engine.postgres.session import Facts
    from indexpilot_tui.tui.feed import Snapshot
    from indexpilot_tui.tui.port import ConsoleEngine

WORDS = {"production": "PROD", "staging": "STAGING", "development": "DEV", "demo": "DEMO"}


@dataclass(frozen=True, slots=True)
class StripState:
    """What the strip needs; `now` is the wall clock, `mono` ours; `stale_after_s` the age from which data is stale."""

    label: str
    environment: str
    engine: ConsoleEngine | None
    snapshot: Snapshot
    now: datetime
    mono: float
    stale_after_s: float
    paused: bool = False
    connecting: str = ""


class StatusStrip(LineView, can_focus=False):
    """Two lines, and a red third one while an emergency bypass is in force. Only the one that changed is repainted (the
    clock: once a second, one line)."""

    DEFAULT_CSS = "StatusStrip { overflow-y: hidden; background: $surface; }"

    def __init__(self, lines: Sequence[Line], *, id: str | None = None) -> None:
        super().__init__(lines, id=id, grow=3)

    def show(self, state: StripState) -> None:
        """Draw the state."""
        width = self.size.width or self.app.size.width
        self.set_lines(strip_lines(state, width))


def strip_lines(state: StripState, width: int) -> tuple[Line, ...]:
    """The lines, fitted to `width` cells; what matters least gives way first."""
    lines = (fit(_identity(state), width), fit(_condition(state), width))
    bypass = state.snapshot.bypass
    return lines if bypass is None else (*lines, _alarm(bypass, width))


def _alarm(bypass: Bypass, width: int) -> Line:
    """What is lifted, until when, by whom and why; the reason gives way first."""
    what = f" BYPASS: {', '.join(sorted(bypass.scope))} lifted until {fmt.clock(bypass.until)}"
    who = f" by {bypass.by}{'' if bypass.reviewed else ', not reviewed'}"
    return line((pad(f"{what}{who}: {bypass.reason}", width), "alarm"))


def _identity(state: StripState) -> list[Segment]:
    word = WORDS.get(state.environment, state.environment.upper())
    place = (line((f" {word} ", "badge"), (f" {state.label}", "bold")),)
    segments = [Segment(place)]
    if state.engine is not None:
        facts = state.engine.facts
        segments.append(Segment((line(_address(state.label, facts)), line()), 7))
        role, alarm = ("standby", "warn") if facts.in_recovery else ("primary", "plain")
        segments.append(Segment((line((role, alarm)),)))
        number = fmt.version(facts.server_version)
        segments.append(Segment((line(f"PostgreSQL {number}"), line(f"PG {number}")), 5))
        segments.append(_tls(facts))
        looking = (line(("READ-ONLY", "bold")), line(("RO", "bold")))
        mode = (line((" OPERATE ", "inverse")),) if state.engine.operate else looking
        segments.append(Segment(mode, 2))
        segments.append(Segment((line(facts.session_user), line()), 4))
    return segments


def _address(label: str, facts: Facts) -> str:
    """Where the target is, unless its name says so already."""
    if facts.tls.unix_socket:
        return "" if facts.database in label else facts.database
    address = f"{facts.host}:{facts.port}/{facts.database}"
    return "" if f"{facts.host}/{facts.database}" in label else address


def _tls(facts: Facts) -> Segment:
    tls = facts.tls
    if tls.unix_socket:
        return Segment((line("unix socket"), line("socket")), 3)
    if not tls.in_use:
        return Segment((line(("NO TLS", "crit")),))
    tone = "ok" if tls.authenticated else "warn"
    proof = "" if tls.authenticated else " not verified"
    forms = (
        line((f"{tls.version} {tls.cipher}{proof}", tone)),
        line((f"{tls.version}{proof}", tone)),
        line((f"TLS{' ?' if proof else ''}", tone)),
    )
    return Segment(forms, ranks=(6, 3))


def _condition(state: StripState) -> list[Segment]:
    seen, snapshot = state.snapshot.observation, state.snapshot
    # what moves every second comes first: a terminal is sent a line from its left edge to its last changed cell
    segments = [Segment((line((f" {fmt.clock(state.now)}", "bold")),), 0), Segment(_age(state), 0)]
    if state.engine is not None:
        segments.append(Segment(_gate(snapshot), 1))
    if state.paused:
        segments.insert(1, Segment((line((" PAUSED ", "inverse")),), 0))
    if seen is not None:
        act = seen.activity
        load = f"active {fmt.count(act.active_backends)}/{fmt.count(act.max_connections)}"
        total = f"SQL {fmt.count(seen.hotspots.total_ms_per_s)} ms/s"
        locks = f"lock waits {fmt.count(act.lock_waiters)}"
        oldest = f"oldest xact {fmt.seconds(act.oldest_xact_s)}"
        segments.append(
            Segment(
                (
                    line(f"{load} · {total} · {locks} · {oldest}"),
                    line(f"{load} · {total} · {locks}"),
                    line(f"{load} · {locks}"),
                    line(load),
                    line(),
                ),
                4,
            )
        )
        spent = snapshot.spent
        words = f"we cost {fmt.count(spent.statements)} stmts {fmt.count(spent.ms)} ms/min"
        reading = f" · read {seen.cost.statements} stmts {seen.cost.server_ms:.1f} ms"
        short = f"cost {fmt.count(spent.ms)} ms/min"
        if seen.refused:  # each is named, with its GRANT, among the events and in the log of statements
            hidden = f" · {len(seen.refused)} not seen"
            words, reading, short = words + hidden, "", short + hidden
        segments.append(Segment((line((words + reading, "dim")), line((words, "dim")), line((short, "dim")), line()), 5))
    return segments


def _age(state: StripState) -> tuple[Line, ...]:
    snapshot = state.snapshot
    if state.engine is None:
        return (line((state.connecting or "connecting …", "warn")),)
    if snapshot.good_at is None:
        reason = f": {snapshot.error}" if snapshot.error else ""
        return (line(("NO DATA YET" + reason, "crit" if reason else "warn")), line(("NO DATA", "crit")))
    age = state.mono - snapshot.good_at
    if snapshot.error:
        stale = f" STALE {fmt.seconds(age)}"
        why = (f"{stale}: {elide(snapshot.error, cells)} " for cells in (200, 60, 40, 24))
        return (*(line((text, "crit")) for text in why), line((f"{stale} ", "crit")))
    if age > state.stale_after_s:
        return (line((f" STALE {fmt.seconds(age)}: no answer yet ", "crit")), line((f" STALE {fmt.seconds(age)} ", "crit")))
    return (line(f"data {int(age)} s old"), line(f"data {int(age)} s"))


def _gate(snapshot: Snapshot) -> tuple[Line, ...]:
    opened = snapshot.gate_open
    if opened is None:
        why = f": {snapshot.throttle_error}" if snapshot.throttle_error else ""
        short = line(("THROTTLE UNKNOWN", "crit"))
        return (line((f"THROTTLE UNKNOWN{why}", "crit")), line((f"THROTTLE UNKNOWN{elide(why, 40)}", "crit")), short)
    if opened:
        return (line((f"THROTTLE OPEN {len(snapshot.throttle or ())} gates pass", "ok")), line(("THROTTLE OPEN", "ok")))
    first = snapshot.first_obstacle
    if first is None:
        return (line(("THROTTLE UNKNOWN", "crit")),)
    rest = len([v for v in snapshot.throttle or () if not v.allows]) - 1
    more = f" (+{rest})" if rest else ""
    tone = "warn" if first.status.value == "wait" else "crit"
    closed = f"THROTTLE CLOSED {guard_label(first.guard)}"
    reasons = (f"{closed}: {elide(first.evidence, cells)}{more}" for cells in (200, 60, 40, 24))
    return (*(line((text, tone)) for text in reasons), line((f"{closed}{more}", tone)), line(("CLOSED", tone)))

"""The status strip: where am I, may I act, how old is what I see. The same two lines on every screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.lines import Line, Segment, fit, line, pad
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
    segments = [Segment(place, 0)]
    if state.engine is not None:
        facts = state.engine.facts
        role, alarm = ("standby", "warn") if facts.in_recovery else ("primary", "plain")
        segments.append(Segment((line((role, alarm)),), 1))
        number = fmt.version(facts.server_version)
        segments.append(Segment((line(f"PostgreSQL {number}"), line(f"PG {number}")), 4))
        segments.append(Segment(_tls(facts), 3))
        looking = (line(("READ-ONLY", "bold")), line(("RO", "bold")))
        mode = (line((" OPERATE ", "inverse")),) if state.engine.operate else looking
        segments.append(Segment(mode, 2))
        segments.append(Segment((line(facts.session_user), line()), 5))
    return segments


def _tls(facts: Facts) -> tuple[Line, ...]:
    tls = facts.tls
    if tls.unix_socket:
        return (line("unix socket"), line("socket"))
    if not tls.in_use:
        return (line(("NO TLS", "crit")),)
    tone = "ok" if tls.authenticated else "warn"
    proof = "" if tls.authenticated else " not verified"
    return (
        line((f"{tls.version} {tls.cipher}{proof}", tone)),
        line((f"{tls.version}{proof}", tone)),
        line((f"TLS{' ?' if proof else ''}", tone)),
    )


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
        total = f"{fmt.rate(seen.hotspots.total_ms_per_s)} ms/s"
        locks = f"lock waits {fmt.count(act.lock_waiters)}"
        oldest = f"oldest xact {fmt.seconds(act.oldest_xact_s)}"
        segments.append(
            Segment(
                (
                    line(f"{load} {total} {locks} {oldest}"),
                    line(f"{load} {total} {locks}"),
                    line(f"{load} {locks}"),
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
        return (
            line((f" STALE {fmt.seconds(age)}: {snapshot.error} ", "crit")),
            line((f" STALE {fmt.seconds(age)}: {snapshot.error[:40]}… ", "crit")),
            line((f" STALE {fmt.seconds(age)} ", "crit")),
        )
    if age > state.stale_after_s:
        return (line((f" STALE {fmt.seconds(age)}: no answer yet ", "crit")), line((f" STALE {fmt.seconds(age)} ", "crit")))
    return (line(f"data {int(age)} s old"), line(f"data {int(age)} s"))


def _gate(snapshot: Snapshot) -> tuple[Line, ...]:
    opened = snapshot.gate_open
    if opened is None:
        why = f": {snapshot.throttle_error}" if snapshot.throttle_error else ""
        return (line((f"THROTTLE UNKNOWN{why}", "crit")), line(("THROTTLE UNKNOWN", "crit")))
    if opened:
        return (line((f"THROTTLE OPEN {len(snapshot.throttle or ())} gates pass", "ok")), line(("THROTTLE OPEN", "ok")))
    first = snapshot.first_obstacle
    if first is None:
        return (line(("THROTTLE UNKNOWN", "crit")),)
    rest = len([v for v in snapshot.throttle or () if not v.allows]) - 1
    more = f" (+{rest})" if rest else ""
    tone = "warn" if first.status.value == "wait" else "crit"
    return (
        line((f"THROTTLE CLOSED {first.guard}: {first.evidence}{more}", tone)),
        line((f"THROTTLE CLOSED {first.guard}: {first.measured}{more}", tone)),
        line((f"THROTTLE CLOSED {first.guard}{more}", tone)),
        line(("CLOSED", tone)),
    )

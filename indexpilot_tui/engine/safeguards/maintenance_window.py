"""The hours in which changes may start, in the window's own time zone and by the database's clock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer
from indexpilot_tui.settings.model import Window

NAME = "maintenance_window"
SETTING = "production_safeguards.maintenance_window"


@dataclass(frozen=True, slots=True)
class Opening:
    """`open` now; `closes_at` when it closes (only if open), `opens_at` when it opens next (only if closed). In UTC."""

    open: bool
    closes_at: datetime | None
    opens_at: datetime | None


def opening(window: Window, now: datetime) -> Opening:
    """Where `now` (aware) stands in the window.

    A window over midnight belongs to the day on which it starts. Start and end are wall-clock times: on the night when
    clocks change the window is an hour longer or shorter, a start that does not exist that night is the first moment
    after the gap, and of an hour that comes twice the first one starts and the second one ends the window.
    """
    if not window.enabled:
        return Opening(True, None, None)
    local_day = now.astimezone(window.zone).date()
    spans = []
    for offset in range(-2, 9):
        day = local_day + timedelta(days=offset)
        if day.weekday() not in window.days_of_week:
            continue
        last = day if window.end > window.start else day + timedelta(days=1)
        begin = _instant(datetime.combine(day, window.start, window.zone), fold=0)
        end = _instant(datetime.combine(last, window.end, window.zone), fold=1)
        if begin < end:
            spans.append((begin, end))
    inside = [end for begin, end in spans if begin <= now < end]
    if inside:
        return Opening(True, max(inside), None)
    ahead = [begin for begin, _ in spans if begin > now]
    return Opening(False, None, min(ahead) if ahead else None)


def longest(window: Window) -> timedelta:
    """How long the window is open at a time, by the clock on the wall."""
    day = date(2000, 1, 1)
    last = day if window.end > window.start else day + timedelta(days=1)
    return datetime.combine(last, window.end) - datetime.combine(day, window.start)


def _instant(wall: datetime, *, fold: int) -> datetime:
    """The moment of a wall-clock time. One that does not exist (clocks put forward) becomes the end of the gap.

    PEP 495: in a gap fold=0 is read with the offset before it, which names a moment after the gap by as much as the
    time reaches into it; taking the earlier offset's moment of the gap's start needs the difference of both readings.
    """
    early, late = wall.replace(fold=0).astimezone(UTC), wall.replace(fold=1).astimezone(UTC)
    if early > late:  # a gap: fold=0 lies behind it, fold=1 before it
        return _gap_end(late, early, wall)
    return late if fold else early


def _gap_end(before: datetime, after: datetime, wall: datetime) -> datetime:
    """The first moment after a gap, by halving between a moment before it and one after it (to the second)."""
    zone = wall.tzinfo
    offset = before.astimezone(zone).utcoffset()
    low, high = before, after
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)


async def read(ctx: GateContext) -> list[Verdict]:
    """Wait outside the window, with the time at which it opens, and inside when what is planned would not end in it. There
    is no "too far away" that lets one through."""
    window = ctx.settings.production_safeguards.maintenance_window
    if not window.enabled:
        return answer(NAME, Status.PASS, "switched off in the configuration", setting=f"{SETTING}.enabled")
    state = opening(window, ctx.now)
    local = ctx.now.astimezone(window.zone)
    limit = f"{window.start:%H:%M}-{window.end:%H:%M} {window.timezone}"
    told = Verdict(NAME, Status.PASS, f"{local:%a %H:%M}", limit, SETTING, "")
    if state.open and state.closes_at is not None:
        return [await _inside(ctx, state.closes_at, told)]
    if state.opens_at is None:
        return [replace(told, status=Status.BLOCK, evidence="the window never opens")]
    opens = state.opens_at.astimezone(window.zone)
    evidence = f"closed; opens {opens:%a %Y-%m-%d %H:%M} {window.timezone}"
    return [replace(told, status=Status.WAIT, evidence=evidence, retry_at=state.opens_at)]


async def _inside(ctx: GateContext, closes_at: datetime, told: Verdict) -> Verdict:
    """Open: whether there is time enough left for the plan. A way back is not counted: its window has no end."""
    window = ctx.settings.production_safeguards.maintenance_window
    closes = f"open until {closes_at.astimezone(window.zone):%a %H:%M}"
    if ctx.plan is None or ctx.rollback:
        return replace(told, evidence=closes)
    seconds = (await ctx.the_estimate()).seconds
    if seconds is None:
        return replace(told, evidence=f"{closes}; how long this takes is not known")
    needed = timedelta(seconds=seconds)
    takes = f"the change may take {duration(seconds)}"
    if needed >= longest(window):
        why = f"{takes}, longer than the window is ever open: lengthen it for this change"
        return replace(told, status=Status.BLOCK, evidence=why)
    if ctx.now + needed >= closes_at:
        again = opening(window, closes_at).opens_at
        return replace(told, status=Status.WAIT, evidence=f"{closes}; {takes}, too long for what is left", retry_at=again)
    return replace(told, evidence=f"{closes}; {takes}")


def duration(seconds: float) -> str:
    """A length of time, in the two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


GATE = Gate(NAME, SETTING, read, target_wide=True, holds_rollback=False, lifted_by="window")

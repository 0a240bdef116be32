"""The hours in which changes may start, in the window's own time zone and by the database's clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

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
    """Wait outside the window, with the time at which it opens; there is no "too far away" that lets one through."""
    window = ctx.settings.production_safeguards.maintenance_window
    if not window.enabled:
        return answer(NAME, Status.PASS, "switched off in the configuration", setting=f"{SETTING}.enabled")
    state = opening(window, ctx.now)
    local = ctx.now.astimezone(window.zone)
    limit = f"{window.start:%H:%M}-{window.end:%H:%M} {window.timezone}"
    measured = f"{local:%a %H:%M}"
    if state.open and state.closes_at is not None:
        closes = state.closes_at.astimezone(window.zone)
        return answer(NAME, Status.PASS, f"open until {closes:%a %H:%M}", measured=measured, limit=limit, setting=SETTING)
    if state.opens_at is None:
        return answer(NAME, Status.BLOCK, "the window never opens", measured=measured, limit=limit, setting=SETTING)
    opens = state.opens_at.astimezone(window.zone)
    return answer(
        NAME,
        Status.WAIT,
        f"closed; opens {opens:%a %Y-%m-%d %H:%M} {window.timezone}",
        measured=measured,
        limit=limit,
        setting=SETTING,
        retry_at=state.opens_at,
    )


GATE = Gate(NAME, SETTING, read, target_wide=True, holds_rollback=False, lifted_by="window")

"""A change on its way, in words and figures."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rich.cells import cell_len

from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.model.narrative import TABLE_LOCK, told
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.feed import change_tone
from indexpilot_tui.tui.lines import Line, elide, line, rule, wrap

if TYPE_CHECKING:
    from indexpilot_tui.engine.model.change import Change, Event
    from indexpilot_tui.engine.observe.model import BuildProgress

MEANING = {
    State.APPROVED: "approved; nothing has been started",
    State.QUEUED: "queued: it made way for somebody, or waits for its turn",
    State.STARTING: "the executor process is starting",
    State.RUNNING: "the executor process is at work; you may leave, it goes on",
    State.CANCELLING: "being stopped; waiting for the backend to end",
    State.UNKNOWN: "what became of it is being read from the catalog",
    State.VERIFYING: "done by the server; being proven by the catalog",
    State.CLEANING: "what was left of the index is being removed",
    State.OBSERVING: "in place; statements are compared with before",
    State.DONE: "proven by the catalog; it stays",
    State.FAILED: "failed; nothing of it is left",
    State.ROLLED_BACK: "taken back",
    State.NEEDS_OPERATOR: "stopped by a contradiction that a person must resolve",
}


def progress_lines(
    change: Change, build: BuildProgress | None, now: datetime, width: int, *, asked: bool = False
) -> list[Line]:
    """State, statement, progress, obstacles, log. `asked`: its start was asked for, and no executor has taken it up yet."""
    head = change.state.value.upper().replace("_", " ")
    since = f"  for {fmt.ago(now, change.state_since)}"
    meaning = "its executor is being started" if asked else MEANING.get(change.state, "")
    out: list[Line] = [line((head, change_tone(change)), f"  {meaning}", ("" if change.ended else since, "dim"))]
    if change.outcome:
        out += wrap(clean_line(change.outcome), width, "bold")
    out += wrap(clean_line(change.plan.ddl), width)
    out += _steps(change, width)
    if change.state is State.NEEDS_OPERATOR:
        out += _ways_out(change, width)
    if build is not None:
        out += _build(build, width)
    elif change.state is State.RUNNING:
        out += _without_progress(change, width)
    out.append(rule("log of this change (UTC of the database)", width))
    out += [event_line(event, width) for event in sorted(change.events, key=lambda e: -e.seq)]
    return out


def _without_progress(change: Change, width: int) -> list[Line]:
    """What the observer has seen last, where the server has no row of progress: a build that waits for its table's lock has
    none, and that is not 0 %."""
    seen = [event for event in change.events if event.action in ("ddl.intent", "phase")]
    if not seen or seen[-1].detail.get("phase") != TABLE_LOCK:
        return [line(("the server reports no progress at this moment", "dim"))]
    held = seen[-1].detail.get("held_by") or ()
    behind = f", held by {'; '.join(str(who) for who in held)}" if held else ""
    return wrap(clean_line(f"WAITS: {TABLE_LOCK}{behind}"), width, "warn")


def _steps(change: Change, width: int) -> list[Line]:
    """Of a partitioned table: how many of its steps are done, and which one is at work."""
    if not change.plan.steps:
        return []
    done = {e.detail.get("position") for e in change.events if e.action == "part.outcome" and e.detail.get("ok")}
    of = len(change.plan.steps)
    out = [line(("steps  ", "dim"), (fmt.bar(len(done), of, 20), "accent"), f" {len(done)} of {of} done")]
    begun = [e.detail for e in change.events if e.action == "part.intent"]
    if begun and not change.ended and begun[-1].get("position") not in done:
        out += wrap(f"now    {clean_line(str(begun[-1].get('ddl', '')))}", width, "bold")
    return out


def _ways_out(change: Change, width: int) -> list[Line]:
    """What a person can do about it."""
    asked = [event for event in change.events if event.action == "needs_operator"]
    commands = asked[-1].detail.get("commands", ()) if asked else ()
    return [entry for command in commands for entry in wrap(clean_line(str(command), 400), width, "accent")]


def _build(build: BuildProgress, width: int) -> list[Line]:
    share = f"{build.done / build.total * 100:.0f} %" if build.total else "size not known yet"
    counts = f"{fmt.count(build.done)} of {fmt.count(build.total)}" if build.total else ""
    bar = fmt.bar(build.done, build.total, max(10, min(50, width - 45))) + " " if build.total else ""
    out: list[Line] = [
        (),
        line(("phase  ", "dim"), (build.phase, "bold")),
        line(("done   ", "dim"), (bar, "accent"), f"{share}  ", (counts, "dim")),
        line(("lockers ", "dim"), f"{build.lockers_done} of {build.lockers_total} waited for"),
    ]  # fmt: skip
    if build.blocker_pid:
        out.append(line(("WAITS for pid ", "warn"), (str(build.blocker_pid), "warn"),
                        ("  an older transaction must end first; it queues nobody", "dim")))  # fmt: skip
    out.append(line(("backend ", "dim"), f"pid {build.pid}"))
    out.append(())
    return out


def event_line(event: Event, width: int) -> Line:
    """One row of the mutation log."""
    head = f"{fmt.hour(event.at)} "
    who = f"{clean_line(event.actor, 20)} "
    tone = "crit" if "fail" in event.action or event.action.endswith(".refused") else "plain"
    rest = max(0, width - len(head) - cell_len(who))
    return line((head, "dim"), (who, "dim"), (elide(clean_line(told(event.action, event.detail), 600), rest), tone))

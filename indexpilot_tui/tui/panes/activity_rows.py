"""The rows of the activity screen: the tree of blockers first, then who holds something, then what runs."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.lines import Span
from indexpilot_tui.tui.statement import in_one_line
from indexpilot_tui.tui.widgets.table import Column

if TYPE_CHECKING:
    from indexpilot_tui.engine.observe.blocking_model import Blocked, Blocking, Holder, Running, SessionRow

COLUMNS = (
    Column("who", "pid", 14),
    Column("user", "user", 10, "left", 60),
    Column("state", "state", 12),
    Column("age", "xact age", 8, "right"),
    Column("waits", "waits", 8, "right", 70),
    Column("lock", "lock", 34, "left", 100),
    Column("what", "what", 0, shorten=in_one_line),
)
_DEEPEST = 5  # levels of indent


@dataclass(frozen=True, slots=True)
class Thing:
    """One row and what is told of it below the table."""

    key: Hashable
    cells: tuple[tuple[str, Span], ...]
    mark: Span
    remedy: str
    frees: int
    facts: tuple[str, ...]
    session: SessionRow | None


def things_of(seen: Blocking, *, tree_only: bool) -> tuple[Thing, ...]:
    """All rows of one look."""
    found = [_blocked(line) for line in seen.tree]
    if not tree_only:
        found += [_holder(holder) for holder in seen.holders]
        found += [_running(running) for running in seen.running]
    return tuple(found)


def cells_of(thing: Thing) -> dict[str, Span]:
    return dict(thing.cells)


def _pid(session: SessionRow) -> str:
    return f"xid {-session.pid}" if session.prepared else str(session.pid)


def _state(session: SessionRow) -> Span:
    if session.wait.startswith("Lock:"):
        return ("waits: lock", "crit")
    if session.idle_in_transaction:
        return ("idle in xact", "warn")
    return (session.state or session.kind or "?", "plain")


def _who(session: SessionRow) -> tuple[str, ...]:
    place = f"{session.user}@{session.database}" if session.user else session.database
    parts = [
        place,
        session.application and f"application {session.application}",
        session.client and f"from {session.client}",
    ]
    ages = [f"transaction {fmt.seconds(session.xact_s)}" if session.xact_s is not None else ""]
    ages += [f"statement {fmt.seconds(session.query_s)}" if session.query_s is not None else ""]
    ages += [f"in this state {fmt.seconds(session.state_s)}" if session.state_s is not None else ""]
    ages += [f"snapshot {fmt.count(session.xmin_age)} transactions old" if session.xmin_age is not None else ""]
    ages += [f"waits for {session.wait}" if session.wait else ""]
    return tuple(" · ".join(p for p in group if p) for group in ([session.kind, *parts], ages) if any(group))


def _blocked(item: Blocked) -> Thing:
    session = item.session
    root = not session.blocked_by
    branch = "" if item.depth == 0 else "  " * (min(item.depth, _DEEPEST) - 1) + "└ "
    lock = item.wants if item.wants else item.holds
    facts = [*_who(session)]
    facts += [f"wants {item.wants}"] if item.wants else []
    facts += [f"holds {item.holds}"] if item.holds else []
    facts += [f"waits for pid {', '.join(map(str, item.also))}, too"] if item.also else []
    waited = item.waits_s
    return Thing(
        key=session.pid,
        cells=(
            ("who", (branch + _pid(session), "bold" if root else "plain")),
            ("user", (session.user, "plain")),
            ("state", _state(session)),
            ("age", (fmt.seconds(session.xact_s), "plain")),
            ("waits", (fmt.seconds(waited) if waited is not None else f"×{item.frees}", "warn" if waited else "crit")),
            ("lock", (lock, "dim")),
            ("what", (session.query, "plain")),
        ),
        mark=("!", "crit") if root else (" ", "plain"),
        remedy=item.remedy,
        frees=item.frees,
        facts=tuple(facts),
        session=session,
    )


def _holder(holder: Holder) -> Thing:
    session = holder.session
    return Thing(
        key=session.pid,
        cells=(
            ("who", (_pid(session), "plain")),
            ("user", (session.user, "plain")),
            ("state", _state(session)),
            ("age", (fmt.seconds(session.xact_s), "warn")),
            ("lock", (holder.why, "dim")),
            ("what", (session.query, "plain")),
        ),
        mark=("·", "warn"),
        remedy=holder.remedy,
        frees=0,
        facts=(holder.why, *_who(session)),
        session=session,
    )


def _running(running: Running) -> Thing:
    share = f"{running.done / running.total * 100:.0f} %" if running.total else fmt.NOT_MEASURED
    facts = [f"{running.kind} of {running.relation or running.database}: {running.phase}, {share}"]
    if running.waits_for:
        facts.append(f"waits for pid {running.waits_for}")
    return Thing(
        key=("running", running.pid, running.kind),
        cells=(
            ("who", (str(running.pid), "plain")),
            ("state", (running.kind, "accent")),
            ("waits", (share, "plain")),
            ("lock", (running.phase, "dim")),
            ("what", (f"{running.relation or running.database} {fmt.bar(running.done, running.total, 10)}", "plain")),
        ),
        mark=(" ", "plain"),
        remedy=f"it waits for pid {running.waits_for} to end" if running.waits_for else "",
        frees=0,
        facts=tuple(facts),
        session=None,
    )

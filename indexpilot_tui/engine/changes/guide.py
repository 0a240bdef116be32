"""The way back as a plan to read: what was saved, the statements, the steps and the proof. Nothing is written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from indexpilot_tui.engine.changes.catalog import index_by_oid, index_text
from indexpilot_tui.engine.changes.planning_existing import ddl_for
from indexpilot_tui.engine.changes.planning_parts import TRIES, plain_drop_ddl
from indexpilot_tui.engine.changes.rollback import TAKEN_BACK_FROM, plan_of_return, plan_rollback, restoring
from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.model.change import END_STATES, Change
from indexpilot_tui.engine.model.wayback import Rehearsal, WayBack
from indexpilot_tui.engine.postgres.ddl import parse_index_statement
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean, clean_line
from indexpilot_tui.engine.safeguards.approval import ROLLBACK_COVERED
from indexpilot_tui.engine.safeguards.gates import database_now
from indexpilot_tui.errors import IndexPilotError, RefusedError

REHEARSED = "rehearsed"
_GATES = "the gates are asked again; the maintenance window and the rate limit do not hold a way back"
_OBSERVED = "an observer lets through whoever queues behind it, by cancelling our own statement"
_RETURN_PROOF = (
    "the index is valid, ready and live, by OID",
    "its definition is the saved one, letter by letter",
    "comment, storage parameters, statistics targets, CLUSTER mark and replica identity are the saved ones",
)
_LABELS = {
    "comment": "comment",
    "tablespace": "tablespace",
    "options": "storage parameters",
    "statistics": "statistics targets",
    "clustered": "CLUSTER mark",
    "replica_identity": "replica identity",
}


async def way_back(session: Session, journal: Journal, change: Change) -> WayBack:
    """The rollback of a change as it would be carried out now; of one that was not carried out yet, as it will be. What the
    build of an index costs is for the caller to add: it takes a forecast."""
    why_not, plan_steps = await _why_not(session, change)
    partitioned = bool(change.plan.steps) or bool(plan_steps)
    covered = await _covered(session, change)
    proposed = next(
        (c.id for c in await journal.changes(200) if c.parent_id == change.id and c.state not in END_STATES), None
    )
    common: dict[str, Any] = {
        "change_id": change.id, "why_not": why_not, "covered": covered, "proposed": proposed,
        "rehearsal": last_rehearsal(change),
    }  # fmt: skip
    if change.kind == "reindex":
        return WayBack(kind="none", statements=(), saved=_evidence(change), steps=(), proof=(), **common)
    if change.kind == "create":
        return WayBack(
            kind="drop", statements=(_drop_ddl(change),), saved=_made(change), steps=_drop_steps(partitioned=partitioned),
            proof=_drop_proof(change), frees_bytes=await _size(session, change), **common,
        )  # fmt: skip
    return WayBack(
        kind="create", statements=statements_of_return(change), saved=_saved(change), steps=_return_steps(change),
        proof=_RETURN_PROOF, **common,
    )  # fmt: skip


async def _why_not(session: Session, change: Change) -> tuple[str, tuple[Any, ...]]:
    """What stands against it now."""
    if change.state not in TAKEN_BACK_FROM:
        if change.ended:
            return f"change {change.id} is {change.state.value}: there is nothing to take back", ()
        return f"change {change.id} is {change.state.value}: it has to be carried out first", ()
    try:
        return "", (await plan_rollback(session, change)).steps
    except IndexPilotError as exc:
        return exc.message, ()


async def _covered(session: Session, change: Change) -> str:
    now = await database_now(session)
    valid = [a for a in change.approvals if a.plan_sha256 == change.plan_sha256 and now - a.at <= ROLLBACK_COVERED]
    if not valid:
        return "it needs an approval of its own: that of the change is older than a day, or there is none"
    last = valid[-1]
    until = last.at + timedelta(seconds=ROLLBACK_COVERED.total_seconds())
    return f"covered by the approval of {clean_line(last.approver, 80)} until {until:%Y-%m-%d %H:%M %Z}"


def last_rehearsal(change: Change) -> Rehearsal | None:
    """The newest rehearsal in the change's log."""
    for event in reversed(change.events):
        if event.action == REHEARSED:
            return Rehearsal.from_json(event.detail, event.at, event.actor)
    return None


async def _size(session: Session, change: Change) -> int | None:
    verified = [e.detail for e in change.events if e.action == "verified"]
    if verified and "partitions" in verified[-1]:
        return int(verified[-1]["size_bytes"])
    facts = await index_by_oid(session, change.index_oid) if change.index_oid is not None else None
    text = await index_text(session, facts.oid) if facts is not None else None
    return text[1] if text is not None else None


def _drop_ddl(change: Change) -> str:
    plan = change.plan
    return plain_drop_ddl(plan.schema, plan.index) if plan.steps else ddl_for("drop", plan.schema, plan.index)


def statements_of_return(change: Change) -> tuple[str, ...]:
    """What makes a dropped index again, in order; empty where there was no working index."""
    plan = change.plan
    try:
        back = plan_of_return(change, (plan.schema, plan.table, plan.owner))
    except RefusedError:
        return ()
    return (back.ddl, *(statement.as_string(None) for statement in restoring(back)))


def _made(change: Change) -> tuple[tuple[str, str], ...]:
    rows = [("made by", clean_line(change.plan.ddl, 400))]
    if change.index_oid is not None:
        rows.append(("index OID", str(change.index_oid)))
    return tuple(rows)


def _saved(change: Change) -> tuple[tuple[str, str], ...]:
    saved = change.plan.saved
    rows = [("definition", clean_line(str(saved.get("definition", "")), 1000))]
    for key, label in _LABELS.items():
        value = saved.get(key)
        if key in ("clustered", "replica_identity"):
            rows.append((label, "yes" if value else "no"))
        elif key == "statistics":
            targets = ", ".join(f"column {n}: {t}" for n, t in sorted((value or {}).items()))
            rows.append((label, targets or "default"))
        elif key == "options":
            rows.append((label, clean_line(", ".join(value or ())) or "default"))
        else:
            rows.append((label, clean(str(value)) if value else "none" if key == "comment" else "default"))
    rows.append(("size before", f"{saved.get('size_bytes', 0)} bytes"))
    since = saved.get("scans_since")
    rows.append(("scans before", f"{saved.get('scans')}{f' since {since}' if since else ''}"))
    return tuple(rows)


def _evidence(change: Change) -> tuple[tuple[str, str], ...]:
    """A rebuild: what stood before and what stands now."""
    saved = change.plan.saved
    before = {"oid": change.plan.index_oid, "relfilenode": saved.get("relfilenode"), "size_bytes": saved.get("size_bytes")}
    after: dict[str, Any] = {}
    for event in change.events:
        if event.action == "verified":
            before, after = event.detail.get("before", before), event.detail.get("after", {})
    shown = [("nothing to go back to", "a rebuild makes the same index anew; the old one is gone, and nothing was lost")]
    for key, label in (("oid", "index OID"), ("relfilenode", "relfilenode"), ("size_bytes", "bytes")):
        shown.append((label, f"{before.get(key)} before" + (f", {after.get(key)} after" if after else "")))
    return tuple(shown)


def _drop_steps(*, partitioned: bool) -> tuple[str, ...]:
    if partitioned:
        deed = (
            f"DROP INDEX: PostgreSQL has no concurrent way for a partitioned table, so it locks the table and all its"
            f" partitions for a moment; it waits for that lock a second at a time, up to {TRIES} times, and lets traffic"
            " through in between"
        )
        return (_GATES, deed, "the catalog is read again by OID")
    return (
        _GATES,
        "DROP INDEX CONCURRENTLY: waits for every transaction that uses the table, readers too, and stops nobody;"
        " replay on a standby waits for its readers",
        _OBSERVED,
        "the catalog is read again by OID",
    )


def _drop_proof(change: Change) -> tuple[str, ...]:
    oid = f"OID {change.index_oid}" if change.index_oid is not None else "its OID"
    return (f"no index with {oid} in the catalog", "no INVALID index of ours is left on the table")


def _return_steps(change: Change) -> tuple[str, ...]:
    steps = [
        _GATES,
        "CREATE INDEX CONCURRENTLY from the saved definition: reads the table twice, waits for writers and old snapshots,"
        " stops nobody",
        _OBSERVED,
    ]
    rest = len(statements_of_return(change)) - 1
    if rest > 0:
        steps.append(f"{rest} more statement{'s' if rest > 1 else ''} for what a definition does not say")
    keys = parse_index_statement(str(change.plan.saved["definition"]), only=True).tree.index_stmt.index_params
    if any(not key.index_elem.name for key in keys):
        steps.append("ANALYZE of the table: the planner has no statistics for a new index on an expression")
    return (*steps, "the catalog is read again by OID")

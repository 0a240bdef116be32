"""From an index that the catalog calls valid (or gone) to one that is proven: read again by OID, finished, told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql

from indexpilot_tui.engine.changes import group, rebuild
from indexpilot_tui.engine.changes.catalog import IndexFacts, index_by_oid, index_text
from indexpilot_tui.engine.changes.executor import Door, outcome_of
from indexpilot_tui.engine.changes.guard import Rules
from indexpilot_tui.engine.changes.measured import of_build
from indexpilot_tui.engine.changes.rollback import kept_way_back, restoring
from indexpilot_tui.engine.changes.settle import find_ours, fresh_eye, needs_operator, other_server
from indexpilot_tui.engine.changes.stats import save_stats
from indexpilot_tui.engine.changes.truth import proof
from indexpilot_tui.engine.changes.watch import watch
from indexpilot_tui.engine.changes.work import Work
from indexpilot_tui.engine.journal.journal import Claim, StaleEpochError
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.safeguards.clearance import Clearance, clear_own
from indexpilot_tui.engine.safeguards.gates import database_now, refusals
from indexpilot_tui.errors import IndexPilotError, RefusedError


@dataclass(slots=True)
class Proof:
    """What the catalog says. `wrong`: why a person has to look. `covered`: of a partitioned table, partitions and size.
    `lost`: what the index had before beside its definition and has no more."""

    facts: IndexFacts | None = None
    wrong: str = ""
    covered: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


async def _read(work: Work, eye: Session) -> Proof:
    found = Proof(wrong=other_server(work, eye))
    if found.wrong:
        return found
    if work.plan.kind == "drop":
        left = await index_by_oid(eye, work.plan.index_oid or 0)
        found.wrong = f"the index is still there ({left.flags})" if left is not None else ""
        return found
    if work.plan.steps:
        truth = await group.truth_of(work)
        found.facts, (found.wrong, found.covered) = truth.root, await proof(eye, work.plan, truth)
    elif work.rebuilding:
        seen = await rebuild.look(eye, work.plan, work.before, work.copy_oid)
        found.facts, found.wrong = seen.current, seen.wrong or ("" if seen.replaced else "the index was not replaced")
    else:
        found.facts, found.wrong = await find_ours(work, eye)
    facts = found.facts
    if not found.wrong and (facts is None or not (facts.valid and facts.ready and facts.live)):
        found.wrong = f"the index is not there as it should be ({facts.flags if facts else 'gone'})"
    return found


async def verify(work: Work) -> None:
    """Read the catalog again by OID, record what it says, finish what belongs to the index, begin the observation."""
    eye = await fresh_eye(work)
    found = await _read(work, eye)
    if found.wrong:
        await needs_operator(work, found.wrong, [])
        return
    facts = found.facts
    text = await index_text(eye, facts.oid) if facts is not None else None
    journal = await work.hold.journal()
    await journal.set_index(work.change.id, work.hold.epoch, facts.oid if facts else None, True if facts else None)
    if facts is not None:
        await _finish_index(work, facts)
        found.lost = await _lost(work, eye, facts, text)
    await work.close_door()
    if facts is not None and not work.rollback and work.plan.kind == "create":
        back = await kept_way_back(eye, replace(work.change, index_oid=facts.oid))
        if back is not None:
            await journal.keep_way_back(work.change.id, work.hold.epoch, back)
    detail = await _told(work, eye, found, text)
    await save(work, "end")
    if work.rollback:
        await work.hold.advance(State.DONE, "verified", detail)
        return
    until = await database_now(eye) + timedelta(seconds=work.settings.verification.window_seconds)
    await work.hold.advance(State.OBSERVING, "verified", {**detail, "observe_until": until})


async def _lost(work: Work, eye: Session, facts: IndexFacts, text: tuple[str, int] | None) -> list[str]:
    """What an index that stood before has no more: of a rebuild, and of a way back from a drop, its definition too."""
    if work.rebuilding:
        return await rebuild.lost_properties(eye, work.plan, facts.oid)
    if work.parent is None or work.parent.plan.kind != "drop":
        return []
    lost = await rebuild.lost_properties(eye, work.plan, facts.oid)
    if text is not None and text[0] != work.plan.saved.get("definition"):
        lost.append(f"definition: {text[0]}")
    return lost


async def _told(work: Work, eye: Session, found: Proof, text: tuple[str, int] | None) -> dict[str, Any]:
    """The row of the log that says what was proven, with the outcome in one sentence."""
    facts, lost = found.facts, found.lost
    server = f"{eye.facts.host}:{eye.facts.port}, timeline {eye.facts.timeline}"
    if facts is None:
        outcome = _built(work, None, 0)
        return {"oid": work.plan.index_oid, "gone": True, "server": server, "outcome": outcome}
    size = found.covered.get("size_bytes", text[1] if text else 0)
    detail: dict[str, Any] = {"oid": facts.oid, "valid": True, "ready": True, "live": True, "size_bytes": size}
    detail |= {"server": server, "definition": text[0] if text else "", **found.covered}
    detail |= await of_build(eye, facts.oid, work.plan.ddl)
    if work.rebuilding:
        after = await rebuild.standing(eye, replace(work.plan, index_oid=facts.oid))
        detail |= {"before": _evidence(work.before), "after": _evidence(after), "lost": lost}
        return {**detail, "outcome": _rebuilt(work.before, after, lost)}
    outcome = _built(work, facts, size)
    if found.covered:
        outcome += f", on {found.covered['covered']} partitions"
    if work.rollback:
        detail["lost"] = lost
        outcome += f"; not as before: {', '.join(lost)}" if lost else "; all that was saved is back"
    return {**detail, "outcome": outcome}


def _built(work: Work, facts: IndexFacts | None, size: int) -> str:
    if facts is None:
        return "the index is gone"
    after = f" (although: {work.why.sentence})" if work.why.sentence else ""
    return f"the index is valid, {size} bytes{after}"


def _evidence(standing: dict[str, Any]) -> dict[str, Any]:
    return {key: standing.get(key) for key in ("oid", "relfilenode", "size_bytes")}


def _rebuilt(before: dict[str, Any], after: dict[str, Any], lost: list[str]) -> str:
    words = (
        f"the index was built anew: OID {before.get('oid')} is {after['oid']} now, relfilenode {before.get('relfilenode')}"
        f" is {after['relfilenode']}, {before.get('size_bytes')} bytes are {after['size_bytes']}"
    )
    return f"{words}; not as before: {', '.join(lost)}" if lost else words


async def _finish_index(work: Work, facts: IndexFacts) -> None:
    """ANALYZE for an index on expressions (the planner guesses without: measured), and what a way back restores. Only
    after the index is valid: during a build either would kill it. Failing here does not undo a valid index."""
    statements: list[tuple[str, list[sql.Composed]]] = []
    if work.rollback:
        statements.append(("restore", restoring(work.plan)))
    if facts.has_expressions:
        table = sql.Identifier(work.plan.schema, work.plan.table)
        statements.append(("analyze", [sql.SQL("analyze {}").format(table)]))
    for action, texts in statements:
        if not texts:
            continue
        try:
            if work.door is None or work.door.session.closed:
                work.door = await Door.open(work.target, work.settings, work.hold, work.plan)
            if work.door is None:
                raise RefusedError("another session holds the lock for changes of this table")
            for text in texts:
                context = await work.gate_context(claimed=True)
                answer = await clear_own(context, Claim(work.change.id, work.hold.epoch, work.plan, None), "finish")
                if not isinstance(answer, Clearance):
                    raise RefusedError("; ".join(v.evidence for v in refusals(answer)))
                task = await work.door.start_finishing(answer, action, text)
                ended = await watch(work, work.door.backend, Rules("finish", None), task)
                why = {"given_up": ended.stop.sentence} if ended.stop is not None else {}
                await work.hold.note(f"{action}.outcome", {**outcome_of(ended.error), **why})
        except StaleEpochError:
            raise
        except (IndexPilotError, psycopg.Error) as exc:
            await work.hold.note(f"{action}.outcome", outcome_of(exc))


async def save(work: Work, phase: str) -> None:
    try:
        shapes = work.shapes if phase == "observed" else None
        journal = await work.hold.patient_journal()
        await save_stats(journal, await work.eye(), work.change.id, work.hold.epoch, phase, work.plan, shapes)
    except StaleEpochError:
        raise
    except IndexPilotError as exc:
        await work.hold.note("stats.missing", {"phase": phase, "why": exc.message})

"""Index health: every index of the user schemas with its state and use, and the findings that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from indexpilot_tui.engine.observe.ask import Asker, Refusal, Rows, question
from indexpilot_tui.engine.observe.indexes.facts import IndexFacts, facts_of
from indexpilot_tui.engine.observe.indexes.findings import findings_of
from indexpilot_tui.engine.observe.indexes.reader import HealthReader, Known
from indexpilot_tui.engine.observe.indexes.situation import Situation
from indexpilot_tui.engine.observe.indexes.standby_use import ask_standbys
from indexpilot_tui.engine.observe.model import FindingKind, HealthFinding, IndexHealth, IndexRow
from indexpilot_tui.engine.observe.rota import Answer
from indexpilot_tui.engine.observe.source import source_of
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import ServerError
from indexpilot_tui.settings.model import Settings, Target

CAPTURED = ("health_facts", "indexes", "foreign_keys")
MOST_UNUSED = 200  # findings that only say "too young to tell", the largest indexes first: more of them tell nothing more


@dataclass(frozen=True, slots=True)
class HealthUnreadable:
    """Why there is no index health this time. Cleaned text."""

    reason: str


def health_from(known: Known, settings: Settings) -> IndexHealth:
    """The IndexHealth from what has been read, at the time of the reading."""
    fact = known.facts
    indexes = list(known.indexes.values())
    situation = Situation(
        now=fact["at"],
        stats_since=fact["stats_since"],
        in_recovery=fact["in_recovery"],
        standbys=fact["standbys"],
        min_age_days=settings.observe.unused_min_age_days,
        asked=known.standbys,
        twins=known.twins,
        tables=known.tables,
        conflicts=known.conflicts,
    )
    findings, more = _fewer(findings_of(indexes, known.foreign_keys or (), situation, known.bloat))
    notes = _notes(known)
    if more:
        notes.append(f"{more} more indexes had no scan so far, in too short a time to tell")
    return IndexHealth(
        indexes=IndexRows(indexes),
        findings=findings,
        stats_since=fact["stats_since"],
        read_at=_time(fact["at"]),
        notes=tuple(notes),
    )


def _fewer(findings: tuple[HealthFinding, ...]) -> tuple[tuple[HealthFinding, ...], int]:
    """Without the many that only say that it is too early to tell; how many were left out."""
    early = [f for f in findings if f.kind is FindingKind.UNUSED and f.severity == "info" and not f.fix]
    if len(early) <= MOST_UNUSED:
        return findings, 0
    kept = {id(f) for f in sorted(early, key=lambda f: -(f.size_bytes or 0))[:MOST_UNUSED]}
    dropped = {id(f) for f in early} - kept
    return tuple(f for f in findings if id(f) not in dropped), len(dropped)


def _notes(known: Known) -> list[str]:
    notes: list[str] = []
    locked = sorted({f.table_shown for f in known.indexes.values() if f.locked})
    if locked:
        shown = ", ".join(clean_line(name, 100) for name in locked[:5])
        notes.append(
            f"{len(locked)} tables are locked exclusively now; their indexes are shown without size and definition "
            f"and not compared: {shown}"
        )
    if "foreign_keys" in known.refused:
        notes.append(f"foreign keys were not read: {known.refused['foreign_keys']}")
    notes += [str(refusal) for name, refusal in known.refused.items() if name != "foreign_keys"]
    if known.facts["in_recovery"]:
        notes.append("this is a standby: scans are those of this node; builds on the primary cannot be seen from here")
    if known.facts["stats_since"] is None:
        notes.append("since when scans are counted is not known")
    for use in known.standbys or ():
        if use.reason:
            notes.append(f"the standby {use.name} could not be asked for its scans: {use.reason}")
    return notes


def health_of(answers: Mapping[str, Rows | Refusal], settings: Settings) -> IndexHealth | HealthUnreadable:
    """The IndexHealth from captured answers to the questions `CAPTURED`. Without the indexes there is none."""
    facts, indexes, foreign_keys = (answers[name] for name in CAPTURED)
    if isinstance(facts, Refusal) or isinstance(indexes, Refusal):
        refusal = facts if isinstance(facts, Refusal) else indexes
        return HealthUnreadable(str(refusal))
    known = Known(facts=facts[0])
    known.indexes = {row["oid"]: facts_of(row) for row in indexes}
    if isinstance(foreign_keys, Refusal):
        known.refused["foreign_keys"] = foreign_keys
    else:
        known.foreign_keys = foreign_keys
    return health_from(known, settings)


async def read_health(
    session: Session, settings: Settings, asker: Asker | None = None, *, target: Target | None = None
) -> IndexHealth:
    """Read index health now, one question after another; the standbys that `target` names are asked for their scans.

    Raises ServerError when the indexes cannot be read.
    """
    known = await read_known(session, settings, asker or Asker())
    if target is not None and not session.facts.in_recovery:
        known.standbys = await ask_standbys(target, settings, session.facts)
    refused = [str(r) for name, r in known.refused.items() if name in ("health_facts", "index_state", "indexes")]
    if not known.complete:
        raise ServerError(f"index health could not be read: {'; '.join(refused) or 'no answer'}")
    return health_from(known, settings)


async def read_known(session: Session, settings: Settings, asker: Asker, known: Known | None = None) -> Known:
    """What index health is made of, read now."""
    budget = settings.observe.server_ms_per_minute_budget
    reader = HealthReader(session.facts.server_version, budget, lambda: None, known or Known())
    probe = (await asker.ask(session, [question("probe", session.facts.server_version)]))["probe"]
    if not isinstance(probe, Refusal):
        source = source_of(probe[0])
        reader.source = source if source.schema else None
    asking = reader.round()
    wanted = next(asking, None)
    while wanted is not None:
        answer = (await asker.ask(session, [wanted]))[wanted.name]
        try:
            wanted = asking.send(Answer(answer))
        except StopIteration:
            break
    return reader.known


class IndexRows(Sequence[IndexRow]):
    """The indexes as rows to show, each made when it is looked at: there may be 20,000."""

    def __init__(self, facts: Sequence[IndexFacts]) -> None:
        self._facts = facts

    def __len__(self) -> int:
        return len(self._facts)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [index_row(facts) for facts in self._facts[place]]
        return index_row(self._facts[place])


def index_row(facts: IndexFacts) -> IndexRow:
    """An IndexRow, its texts cleaned."""
    return IndexRow(
        oid=facts.oid,
        table_oid=facts.table_oid,
        name=facts.shown,
        table=facts.table_shown,
        method=clean_line(facts.method),
        size_bytes=facts.size_bytes,
        scans=facts.scans,
        last_scan=facts.last_scan,
        valid=facts.valid,
        ready=facts.ready,
        live=facts.live,
        unique=facts.unique,
        primary=facts.primary,
        constraint=clean_line(facts.constraint),
        replica_identity=facts.replica_identity,
        building=facts.building,
    )


def _time(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError(f"the server's clock reads {value!r}")
    return value

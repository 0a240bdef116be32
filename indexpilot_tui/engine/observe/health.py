"""Index health: every index of the user schemas with its state and use, and the findings that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from indexpilot_tui.engine.observe.ask import Asker, Question, Refusal, Rows, question
from indexpilot_tui.engine.observe.findings import Situation, findings_of
from indexpilot_tui.engine.observe.model import IndexHealth, IndexRow
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean, clean_line
from indexpilot_tui.errors import ServerError
from indexpilot_tui.settings.model import Settings

_NAMES = ("health_facts", "indexes", "foreign_keys")


@dataclass(frozen=True, slots=True)
class HealthUnreadable:
    """Why there is no index health this time. Cleaned text."""

    reason: str


def health_questions(server_version: int) -> list[Question]:
    """The three questions of a reading of health."""
    return [question(name, server_version) for name in _NAMES]


def health_of(answers: Mapping[str, Rows | Refusal], settings: Settings) -> IndexHealth | HealthUnreadable:
    """The IndexHealth from the answers to `health_questions`. Without the indexes there is none."""
    facts, indexes, foreign_keys = (answers[name] for name in _NAMES)
    if isinstance(facts, Refusal) or isinstance(indexes, Refusal):
        refusal = facts if isinstance(facts, Refusal) else indexes
        return HealthUnreadable(str(refusal))
    fact = facts[0]
    notes: list[str] = []
    locked = sorted({f"{row['schema_name']}.{row['table_name']}" for row in indexes if row["locked"]})
    if locked:
        shown = ", ".join(clean_line(name, 100) for name in locked[:5])
        notes.append(
            f"{len(locked)} tables are locked exclusively now; their indexes are shown without size and definition "
            f"and not compared: {shown}"
        )
    if isinstance(foreign_keys, Refusal):
        notes.append(f"foreign keys were not read: {foreign_keys}")
    if fact["in_recovery"]:
        notes.append("this is a standby: scans are those of this node; builds on the primary cannot be seen from here")
    if fact["stats_since"] is None:
        notes.append("since when scans are counted is not known")
    situation = Situation(
        now=fact["at"],
        stats_since=fact["stats_since"],
        in_recovery=fact["in_recovery"],
        standbys=fact["standbys"],
        min_age_days=settings.observe.unused_min_age_days,
    )
    return IndexHealth(
        indexes=tuple(index_row(row) for row in indexes),
        findings=findings_of(indexes, [] if isinstance(foreign_keys, Refusal) else foreign_keys, situation),
        stats_since=fact["stats_since"],
        read_at=_time(fact["at"]),
        notes=tuple(notes),
    )


async def read_health(session: Session, settings: Settings, asker: Asker | None = None) -> IndexHealth:
    """Read index health now, in one round trip. Raises ServerError when the indexes cannot be read."""
    answers = await (asker or Asker()).ask(session, health_questions(session.facts.server_version))
    health = health_of(answers, settings)
    if isinstance(health, HealthUnreadable):
        raise ServerError(f"index health could not be read: {health.reason}")
    return health


def index_row(row: Mapping[str, Any]) -> IndexRow:
    """An IndexRow from a row of `indexes.sql`."""
    return IndexRow(
        oid=row["oid"],
        table_oid=row["table_oid"],
        name=clean_line(f"{row['schema_name']}.{row['index_name']}"),
        table=clean_line(f"{row['schema_name']}.{row['table_name']}"),
        method=clean_line(row["method"]),
        definition=clean(row["definition"] or ""),
        size_bytes=row["size_bytes"],
        scans=row["scans"],
        last_scan=row["last_scan"],
        valid=row["valid"],
        ready=row["ready"],
        live=row["live"],
        unique=row["is_unique"],
        primary=row["is_primary"],
        constraint=clean_line(row["constraint_name"]),
        replica_identity=row["is_replica_identity"],
        building=row["in_progress"],
    )


def _time(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError(f"the server's clock reads {value!r}")
    return value

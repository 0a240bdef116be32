"""What one look at sessions, locks and running work gives. Frozen, texts cleaned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from indexpilot_tui.engine.postgres.text import clean_line


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session, its texts cleaned. Ages in seconds, `xmin_age` in transactions; None is not known or does not apply."""

    pid: int
    database: str
    user: str
    application: str
    client: str
    kind: str
    state: str
    wait: str
    query: str
    xact_s: float | None
    query_s: float | None
    state_s: float | None
    xmin_age: int | None
    blocked_by: tuple[int, ...] = ()
    prepared: str = ""  # of a prepared transaction: its identifier, as COMMIT PREPARED wants it

    @property
    def idle_in_transaction(self) -> bool:
        return self.state.startswith("idle in transaction")


@dataclass(frozen=True, slots=True)
class Blocked:
    """A line of the tree. `depth` 0: it waits for nobody. `frees`: how many sessions wait for it, directly or not. `wants`
    and `holds` in words; `waits_s` since when. `also`: others that it waits for, too. `remedy`: what would free it."""

    session: SessionRow
    depth: int
    frees: int
    wants: str
    holds: str
    waits_s: float | None
    also: tuple[int, ...]
    remedy: str


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who keeps rows from being cleaned or a build from ending, and blocks nobody now. `why` in words."""

    session: SessionRow
    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Running:
    """Work of the server that tells how far it is."""

    kind: str
    pid: int
    database: str
    relation: str
    phase: str
    done: float
    total: float
    waits_for: int | None


@dataclass(frozen=True, slots=True)
class Blocking:
    """One look. `hidden`: sessions whose state may not be seen; `unread`: questions that were refused, with the GRANT."""

    at: datetime
    tree: tuple[Blocked, ...]
    holders: tuple[Holder, ...]
    running: tuple[Running, ...]
    hidden: int = 0
    unread: tuple[str, ...] = ()

    @property
    def waiting(self) -> int:
        """Sessions that wait for another one's lock."""
        return sum(1 for line in self.tree if line.session.blocked_by)


def session_row(row: Mapping[str, Any]) -> SessionRow:
    """From a row of `sessions.sql`."""
    kind, event = row["wait_kind"] or "", row["wait_event"] or ""
    return SessionRow(
        pid=row["pid"],
        database=clean_line(row["database"] or "", 128),
        user=clean_line(row["user_name"] or "", 128),
        application=clean_line(row["application"] or "", 128),
        client=clean_line(row["client"] or "", 64),
        kind=clean_line(row["kind"] or "", 64),
        state=clean_line(row["state"] or "", 64),
        wait=clean_line(f"{kind}:{event}" if kind else "", 128),
        query=clean_line(row["query"] or "", 4000),
        xact_s=row["xact_s"],
        query_s=row["query_s"],
        state_s=row["state_s"],
        xmin_age=row["xmin_age"],
        blocked_by=tuple(dict.fromkeys(row["blocked_by"] or ())),
    )


def prepared_row(row: Mapping[str, Any]) -> SessionRow:
    """A prepared transaction as if it were a session; its pid is minus its number in `prepared_xacts.sql`."""
    return SessionRow(
        pid=-int(row["xid"]),
        database=clean_line(row["database"], 128),
        user=clean_line(row["owner"], 128),
        application="",
        client="",
        kind="prepared transaction",
        state="prepared",
        wait="",
        query=clean_line(f"PREPARE TRANSACTION {_literal(row['gid'])}", 300),
        xact_s=row["age_s"],
        query_s=None,
        state_s=None,
        xmin_age=row["xmin_age"],
        prepared=clean_line(_literal(row["gid"]), 300),
    )


def running_row(row: Mapping[str, Any]) -> Running:
    """From a row of `progress.sql`."""
    relation = row["relation"] or (f"oid {row['relation_oid']}" if row["relation_oid"] else "")
    return Running(
        kind=clean_line(row["kind"] or "", 64),
        pid=row["pid"],
        database=clean_line(row["database"] or "", 128),
        relation=clean_line(relation, 200),
        phase=clean_line(row["phase"] or "", 128),
        done=float(row["done"] or 0),
        total=float(row["total"] or 0),
        waits_for=row["waits_for"],
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

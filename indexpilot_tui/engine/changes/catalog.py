"""The catalog's truth about one index, one table and one backend, always read anew."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.errors import ServerError

PACKAGE = "indexpilot_tui.engine.changes"


def question(name: str, session: Session) -> str:
    """The SQL text of a question of this room for the session's server."""
    return load(PACKAGE, name, session.facts.server_version)


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """One index now, read without a lock on it or its table (an ALTER TABLE that waits would hold up the read)."""

    oid: int
    schema: str
    name: str
    table_oid: int
    valid: bool
    ready: bool
    live: bool
    unique: bool
    has_expressions: bool
    building: bool
    partitioned: bool = False  # the index of a partitioned table itself: no storage, and valid once all its parts are
    parent: int | None = None  # the index that this one is a part of

    @property
    def flags(self) -> str:
        return ", ".join(
            word if on else f"not {word}" for word, on in (("valid", self.valid), ("ready", self.ready), ("live", self.live))
        )


@dataclass(frozen=True, slots=True)
class Backend:
    """One server process; the start time tells it from a later one with the same id."""

    pid: int
    start: datetime


async def index_by_oid(session: Session, oid: int) -> IndexFacts | None:
    """The index with this OID, or None when there is none (any more)."""
    return await _index(session, oid, None, None)


async def index_by_name(session: Session, schema: str, name: str) -> IndexFacts | None:
    """The index with this name, or None."""
    return await _index(session, None, schema, name)


async def _index(session: Session, oid: int | None, schema: str | None, name: str | None) -> IndexFacts | None:
    row = await session.row(question("index", session), {"oid": oid, "schema": schema, "name": name})
    return _facts(row) if row is not None else None


async def indexes_of(session: Session, tables: list[int]) -> list[IndexFacts]:
    """Every index of these tables (by OID), in no order."""
    return [_facts(row) for row in await session.rows(question("part_indexes", session), {"tables": tables})]


def _facts(row: dict[str, Any]) -> IndexFacts:
    return IndexFacts(
        oid=row["oid"],
        schema=row["schema"],
        name=row["name"],
        table_oid=row["table_oid"],
        valid=row["valid"],
        ready=row["ready"],
        live=row["live"],
        unique=row["is_unique"],
        has_expressions=row["has_expressions"],
        building=row["building"],
        partitioned=row["relkind"] == "I",
        parent=row["parent"],
    )


async def index_text(session: Session, oid: int) -> tuple[str, int] | None:
    """Definition (raw server text: clean it before it is shown) and size in bytes of an index, or None when it is gone.

    This one takes locks: it waits behind an ALTER TABLE that waits, up to the session's lock_timeout (ServerError).
    """
    row = await session.row(question("index_text", session), {"oid": oid})
    return (row["definition"], row["size_bytes"] or 0) if row and row["definition"] else None


async def table_now(session: Session, table_oid: int) -> tuple[str, str, str] | None:
    """Schema, name and owner of a table by OID, or None when it is gone."""
    row = await session.row(question("table_now", session), {"table_oid": table_oid})
    return (row["schema"], row["name"], row["owner"]) if row else None


async def own_backend(session: Session) -> Backend:
    """The server process of this session. Raises ServerError when the server does not tell."""
    row = await session.row(question("own_backend", session))
    if row is None or row["backend_start"] is None:
        raise ServerError("the server does not tell which process serves this session")
    return Backend(row["pid"], row["backend_start"])


async def backend_alive(session: Session, backend: Backend) -> bool:
    """Whether that very process is still there."""
    params = {"pid": backend.pid, "backend_start": backend.start}
    return await session.row(question("backend", session), params) is not None

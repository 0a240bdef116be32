"""What tables went through: rows written, HOT updates, scans. From `tables.sql`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from indexpilot_tui.engine.observe.ask import Asker, Refusal, question
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.errors import ServerError


class TableCounters(NamedTuple):
    """Counters of one table since the reset, in the order of the columns of `tables.sql`. Names are raw."""

    oid: int
    schema: str
    name: str
    inserted: int
    updated: int
    hot_updated: int
    deleted: int
    seq_scans: int
    seq_rows: int
    live: int
    dead: int
    blocks_fetched: int
    blocks_hit: int

    @property
    def index_writes(self) -> int:
        """How often an entry was put into each of its indexes: inserts, and updates that were not HOT (a partial index or
        one on unchanged values in a summarising index gets fewer: this is the most)."""
        return self.inserted + self.updated - self.hot_updated


async def read_tables(
    session: Session, oids: Sequence[int] | None = None, asker: Asker | None = None
) -> dict[int, TableCounters]:
    """Counters of these tables now (None: of all user tables), by oid. Raises ServerError when they cannot be read."""
    wanted = question("tables", session.facts.server_version, bulk=True, oids=None if oids is None else list(oids))
    answer = (await (asker or Asker()).ask(session, [wanted]))["tables"]
    if isinstance(answer, Refusal):
        raise ServerError(f"table counters could not be read: {answer}")
    return {row[0]: TableCounters._make(row) for row in answer[0]["rows"]}


def hot_ratio(older: Mapping[int, TableCounters], newer: Mapping[int, TableCounters]) -> float | None:
    """The share (0..1) of the updates between two readings that touched no index; None when there was no update, or where
    counters went back."""
    updated = hot = 0
    for oid, now in newer.items():
        before = older.get(oid)
        if before is None or now.updated < before.updated or now.hot_updated < before.hot_updated:
            continue
        updated += now.updated - before.updated
        hot += now.hot_updated - before.hot_updated
    return hot / updated if updated else None

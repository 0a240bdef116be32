"""One index as the catalog and the statistics have it: the row of `indexes.sql`, kept small. Raw names: to build
statements of."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.postgres.text import clean_line


@dataclass(slots=True)
class IndexFacts:
    """`keys` are attribute numbers of key and included columns, 0 for an expression, whose text then is in `elements`;
    `opclasses`, `collations`, `options` are of the key columns. `predicate` is empty for none; None where it could not be
    read. `rows` is reltuples (-1: never counted). Scans are None where they are not known."""

    oid: int
    table_oid: int
    schema: str
    name: str
    table: str
    method: str
    key_count: int
    keys: tuple[int, ...]
    opclasses: tuple[int, ...]
    collations: tuple[int, ...]
    options: tuple[int, ...]
    elements: tuple[str, ...] = ()
    predicate: str | None = ""
    has_expressions: bool = False
    has_predicate: bool = False
    parameters: tuple[tuple[int, str], ...] = ()  # of operator classes, by place
    partitioned: bool = False
    parent_oid: int = 0
    attached: bool = False
    valid: bool = True
    ready: bool = True
    live: bool = True
    unique: bool = False
    primary: bool = False
    exclusion: bool = False
    clustered: bool = False
    replica_identity: bool = False
    immediate: bool = True
    nulls_not_distinct: bool = False
    constraint: str = ""
    constraint_deferrable: bool = False
    referenced_by_fk: bool = False
    of_extension: bool = False
    reloptions: str = ""
    tablespace: int = 0
    size_bytes: int | None = None
    rows: float = -1.0
    scans: int | None = None
    last_scan: datetime | None = None
    locked: bool = False
    busy: bool = False
    building: bool = False

    @property
    def shown(self) -> str:
        """`schema.name`, cleaned."""
        return clean_line(f"{self.schema}.{self.name}")

    @property
    def table_shown(self) -> str:
        return clean_line(f"{self.schema}.{self.table}")

    @property
    def usable(self) -> bool:
        return self.valid and self.ready and self.live and not self.building

    def drop_ddl(self) -> str:
        """DROP INDEX CONCURRENTLY; empty for an index of a partitioned table, which cannot be dropped so."""
        if self.partitioned or self.attached:
            return ""
        return sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(self.schema, self.name)).as_string()

    def rebuild_ddl(self) -> str:
        """REINDEX INDEX CONCURRENTLY; empty where PostgreSQL cannot."""
        if self.partitioned or self.exclusion:
            return ""
        return sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(sql.Identifier(self.schema, self.name)).as_string()


def facts_of(row: Mapping[str, Any]) -> IndexFacts:
    """From a row of `indexes.sql`; one that an older version captured lacks some columns."""
    count: int = row["key_count"]
    elements: Sequence[str] = row["elements"] or ()
    return IndexFacts(
        oid=row["oid"],
        table_oid=row["table_oid"],
        schema=sys.intern(row["schema_name"]),
        name=row["index_name"],
        table=sys.intern(row["table_name"]),
        method=sys.intern(row["method"]),
        key_count=count,
        keys=_numbers(row["keys"]),
        opclasses=_numbers(row["opclasses"]),
        collations=_numbers(row["collations"]),
        options=_numbers(row["options"]),
        elements=tuple(elements),
        predicate=row["predicate"] if row["has_predicate"] else "",
        has_expressions=row["has_expressions"],
        has_predicate=row["has_predicate"],
        partitioned=row["partitioned"],
        parent_oid=row.get("parent_oid", 0),
        attached=row["attached"],
        valid=row["valid"],
        ready=row["ready"],
        live=row["live"],
        unique=row["is_unique"],
        primary=row["is_primary"],
        exclusion=row["is_exclusion"],
        clustered=row["is_clustered"],
        replica_identity=row["is_replica_identity"],
        immediate=row.get("is_immediate", True),
        nulls_not_distinct=row["nulls_not_distinct"],
        constraint=row["constraint_name"],
        constraint_deferrable=row.get("constraint_deferrable", False),
        referenced_by_fk=row["referenced_by_fk"],
        of_extension=row["of_extension"],
        reloptions=sys.intern(row["reloptions"]),
        tablespace=row.get("tablespace", 0),
        size_bytes=row["size_bytes"],
        rows=row["table_rows"],
        scans=row["scans"],
        last_scan=row["last_scan"],
        locked=row["locked"],
        busy=row["busy"],
        building=row["in_progress"],
    )


_SEEN: dict[str, tuple[int, ...]] = {}


def _numbers(text: str) -> tuple[int, ...]:
    """Of an int2vector or oidvector. The same few vectors come again and again: each is kept once."""
    known = _SEEN.get(text)
    if known is None:
        if len(_SEEN) > 20_000:
            _SEEN.clear()
        known = _SEEN[text] = tuple(int(part) for part in text.split())
    return known


@dataclass(frozen=True, slots=True)
class Twins:
    """Operator classes that are two names of one (varchar_ops and text_ops): each by the least oid of its set."""

    same: Mapping[int, int] = field(default_factory=dict)

    def of(self, opclass: int) -> int:
        return self.same.get(opclass, opclass)


def twins_of(sets: Sequence[Sequence[int]] | None) -> Twins:
    """From `opclass_twins` of `health_facts.sql`."""
    return Twins({oid: min(group) for group in sets or () for oid in group})

"""What was read from a target: definitions, statistics, sizes and settings of the relations that matter. No rows.

Every text here is as the server gave it, because the shadow has to execute it; nothing of it may be shown uncleaned.
Sizes are pages of 8192 bytes. Object ids are the target's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Column:
    number: int
    name: str
    type: str
    type_oid: int
    not_null: bool
    dropped: bool
    generated: str  # '' | s(tored) | v(irtual)
    expression: str | None
    collation_schema: str | None  # only where it differs from the type's own
    collation_name: str | None
    collation_locale: str | None = None  # of a libc collation


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, partitioned table, materialized view or view. `parents` are partition parents or inheritance parents."""

    oid: int
    schema: str
    name: str
    kind: str  # relkind: r p m v f
    options: tuple[str, ...]
    is_partition: bool
    bound: str | None
    part_key: str | None
    view: str | None
    parents: tuple[int, ...]
    columns: tuple[Column, ...]
    row_security: bool

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Index:
    """`columns` are the table's column numbers in index order, key columns first; 0 is an expression."""

    oid: int
    table_oid: int
    schema: str
    name: str
    partitioned: bool
    method: str
    definition: str
    key_columns: int
    columns: tuple[int, ...]
    parent: int | None
    constraint_name: str | None
    constraint_definition: str | None
    unique: bool = False


@dataclass(frozen=True, slots=True)
class TableConstraint:
    table_oid: int
    name: str
    kind: str  # c | f
    definition: str


@dataclass(frozen=True, slots=True)
class ColumnStats:
    """One row of pg_stats; the arrays as text, in the server's output format. `relation` may be an expression index."""

    schema: str
    relation: str
    column: str
    inherited: bool
    null_frac: str
    avg_width: int
    n_distinct: float  # as in pg_statistic: negative is a share of the rows
    mcv: str | None
    mcf: str | None
    histogram: str | None
    correlation: str | None
    mce: str | None
    mcef: str | None
    elem_counts: str | None
    range_lengths: str | None
    range_empty: str | None
    range_bounds: str | None


@dataclass(frozen=True, slots=True)
class ExtendedStats:
    oid: int
    table_oid: int
    schema: str
    name: str
    definition: str
    inherited: bool
    ndistinct: bytes | None
    dependencies: bytes | None
    columns: tuple[str, ...] = ()
    expressions: tuple[str, ...] = ()  # they follow the columns
    mcv: tuple[tuple[str, ...], ...] = ()  # the most common combinations, as texts
    mcv_nulls: tuple[tuple[bool, ...], ...] = ()
    mcf: tuple[float, ...] = ()
    mcf_base: tuple[float, ...] = ()
    expression_stats: tuple[ColumnStats | None, ...] = ()

    @property
    def known(self) -> bool:
        """Whether there is anything beside the definition (ANALYZE has run, and this role may see its result)."""
        return bool(self.ndistinct or self.dependencies or self.mcv or any(self.expression_stats))


@dataclass(frozen=True, slots=True)
class UserType:
    oid: int
    schema: str
    name: str
    kind: str  # typtype: e d c r b m
    is_array: bool
    base: str | None
    labels: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...]
    subtype: str | None
    extension: str | None


@dataclass(frozen=True, slots=True)
class Size:
    """Of one table or index. `pages` is the file's, the rest what the catalog has from the last VACUUM or ANALYZE."""

    pages: int
    relpages: int
    reltuples: float
    all_visible: int

    @property
    def rows(self) -> float:
        """Rows as the planner would estimate them: the last known density times the size of now (estimate_rel_size)."""
        if self.reltuples < 0 or self.relpages == 0:
            return max(self.reltuples, 0.0)
        return self.reltuples / self.relpages * self.pages


@dataclass(frozen=True, slots=True)
class Activity:
    """Counters of one table since its statistics were reset. `analyzed_s_ago` is None when it never was."""

    readable: bool
    modified: int
    updated: int
    hot_updated: int
    analyzed_s_ago: float | None
    tablespace_options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServerTraits:
    version: int
    collate: str
    encoding: str
    search_path: tuple[str, ...]
    block_size: int
    maintenance_work_mem: int  # bytes
    extensions: tuple[tuple[str, str], ...]  # name, schema
    settings: tuple[tuple[str, str], ...]  # in base units
    statistics_reader: bool = False  # the definer function of setup-sql is there for this role


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`resolved` maps each (schema or '', name) that was asked for to the OID it means under the target's search_path,
    or to None: no such relation."""

    server: ServerTraits
    relations: dict[int, Relation]
    indexes: dict[int, Index]
    constraints: tuple[TableConstraint, ...]
    stats: tuple[ColumnStats, ...]
    extended: tuple[ExtendedStats, ...]
    types: tuple[UserType, ...]
    sizes: dict[int, Size]
    activity: dict[int, Activity]
    resolved: dict[tuple[str, str], int | None]
    read_statements: int
    read_ms: float
    notes: tuple[str, ...] = ()
    _cache: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def structure(self) -> str:
        """A digest of everything that makes another shadow database necessary when it changes."""
        if "structure" not in self._cache:
            self._cache["structure"] = _digest(
                self.server.version // 10000, self.server.collate, self.server.extensions,
                sorted(self.relations.items()), sorted(self.indexes.items()), self.constraints, self.types,
                [(e.oid, e.definition) for e in self.extended],
            )  # fmt: skip
        return self._cache["structure"]

    def statistics(self) -> str:
        """A digest of the column statistics, which can be replaced in place."""
        if "statistics" not in self._cache:
            self._cache["statistics"] = _digest(self.stats, self.extended)
        return self._cache["statistics"]

    def table(self, oid: int) -> Relation | None:
        """The table, partitioned table or materialized view with this OID."""
        found = self.relations.get(oid)
        return found if found is not None and found.kind in ("r", "p", "m") else None

    def column_stats(self, relation: Relation, column: str) -> ColumnStats | None:
        """Statistics of one column: of the table with its children where it has them, else of the table alone."""
        found = [s for s in self.stats if (s.schema, s.relation, s.column) == (relation.schema, relation.name, column)]
        return max(found, key=lambda s: s.inherited, default=None)

    def members(self, oid: int) -> list[int]:
        """The tables with storage behind a table: itself, or the leaves of a partitioned one."""
        relation = self.relations[oid]
        children = [r.oid for r in self.relations.values() if oid in r.parents]
        own = [oid] if relation.kind in ("r", "m") else []
        return own + [leaf for child in children for leaf in self.members(child)]

    def rows(self, oid: int) -> float:
        """Estimated rows of a table and its children."""
        return sum(self.sizes[m].rows for m in self.members(oid) if m in self.sizes)

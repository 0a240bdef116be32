"""What was read from a target: definitions, statistics, sizes and settings of the relations that matter. No rows.

Every text here is as the server gave it, because the shadow has to execute it; nothing of it may be shown uncleaned.
Sizes are pages of 8192 bytes. Object ids are the target's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Collation:
    """One that is not the type's own. `locale` is that of its provider: c (libc), i (ICU), b (builtin)."""

    schema: str
    name: str
    locale: str
    provider: str
    deterministic: bool


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
    collation: Collation | None = None  # only where it differs from the type's own
    default: str | None = None
    identity: str = ""  # '' | a(lways) | d (by default)


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, partitioned table, materialized view or view. `parents` are partition parents or inheritance parents;
    `persistence` is relpersistence: p(ermanent), u(nlogged)."""

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
    persistence: str = "p"

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
    collations: tuple[Collation, ...] = ()


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
    """`constrained`: a domain with a CHECK or NOT NULL, whose casts cost the planner something."""

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
    constrained: bool = False
    collation: Collation | None = None  # of a domain, where it differs from its base type's


@dataclass(frozen=True, slots=True)
class Function:
    """One that somebody made on the target. `definition` and `body`: of SQL that is declared immutable alone."""

    oid: int
    schema: str
    name: str
    language: str
    volatility: str  # i s v
    strict: bool
    cost: float
    rows: float
    parallel: str  # s r u
    returns_set: bool
    arguments: str
    identity: str
    result: str
    definition: str | None = None
    body: str | None = None


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
    """Counters of one table since its statistics were reset. `analyzed_s_ago` is None when it never was. `readable`: the
    statistics of all its columns are visible, to this role or through the reader of setup-sql."""

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
    locale: str = ""  # of an ICU or builtin database (`collate` is then icu, or C)
    collations: tuple[Collation, ...] = ()  # that somebody made there


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
    functions: tuple[Function, ...] = ()
    _cache: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def structure(self) -> str:
        """A digest of everything that makes another shadow database necessary when it changes."""
        if "structure" not in self._cache:
            self._cache["structure"] = _digest(
                self.server.version // 10000, self.server.collate, self.server.locale, self.server.extensions,
                self.server.collations,
                sorted(self.relations.items()), sorted(self.indexes.items()), self.constraints, self.types,
                [(e.oid, e.definition) for e in self.extended], self.functions,
            )  # fmt: skip
        return str(self._cache["structure"])

    def statistics(self) -> str:
        """A digest of the column statistics, which can be replaced in place."""
        if "statistics" not in self._cache:
            self._cache["statistics"] = _digest(self.stats, self.extended)
        return str(self._cache["statistics"])

    def table(self, oid: int) -> Relation | None:
        """The table, partitioned table or materialized view with this OID."""
        found = self.relations.get(oid)
        return found if found is not None and found.kind in ("r", "p", "m") else None

    def column_stats(self, relation: Relation, column: str) -> ColumnStats | None:
        """Statistics of one column: of a partitioned table with its partitions, of any other without its children."""
        if "columns" not in self._cache:
            by_column: dict[tuple[str, str, str], list[ColumnStats]] = {}
            for s in self.stats:
                by_column.setdefault((s.schema, s.relation, s.column), []).append(s)
            self._cache["columns"] = by_column
        found: list[ColumnStats] = self._cache["columns"].get((relation.schema, relation.name, column), [])
        return max(found, key=lambda s: s.inherited == (relation.kind == "p"), default=None)

    def members(self, oid: int) -> list[int]:
        """The tables with storage behind a table: itself, or the leaves of a partitioned one. What merely inherits from it
        has indexes and statistics of its own."""
        own = [oid] if self.relations[oid].kind in ("r", "m") else []
        return own + [leaf for child in self.partitions(oid) for leaf in self.members(child)]

    def partitions(self, oid: int) -> list[int]:
        """The partitions of a table, of the next level."""
        if "partitions" not in self._cache:
            below: dict[int, list[int]] = {}
            for r in self.relations.values():
                for parent in r.parents if r.is_partition else ():
                    below.setdefault(parent, []).append(r.oid)
            self._cache["partitions"] = below
        return list(self._cache["partitions"].get(oid, ()))

    def rows(self, oid: int) -> float:
        """Estimated rows of a table and its partitions."""
        return sum(self.sizes[m].rows for m in self.members(oid) if m in self.sizes)

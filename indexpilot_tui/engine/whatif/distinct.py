"""How many distinct keys are there really? What the statistics say of one column, and of several together.

The n_distinct of ANALYZE (Haas and Stokes' Duj1, analyze.c) takes all values as equally frequent. Values that come by chance
are not, and where few are frequent and most are rare it is far too low. Of several columns together the catalog says nothing
by itself; what bounds their combinations is collected here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.whatif.snapshot import ColumnStats, Index, Relation, Snapshot

SAMPLE = 30_000  # 300 rows x default_statistics_target of 100 (std_typanalyze)
ROWS_A_TARGET = 300
_TIMES = ("date", "timestamp", "time")
_STEEP, _FLAT = 9.0, 1.02  # the exponents between which a power law is looked for


@lru_cache(maxsize=512)
def numbers(text: str | None) -> tuple[float, ...]:
    """A float array in its text form."""
    return tuple(float(x) for x in (text or "").strip("{}").split(",") if x)


def absolute_distinct(n_distinct: float, rows: float) -> float:
    """pg_stats.n_distinct as a count: a negative value is a share of the rows."""
    return n_distinct if n_distinct >= 0 else -n_distinct * rows


def sample_of(snapshot: Snapshot, relation: Relation) -> int:
    """How many rows ANALYZE looked at: the largest statistics target of the table's columns times 300. A target is seen in
    the length of what it made; the server's default is what columns have otherwise."""
    target = next((int(v) for n, v in snapshot.server.settings if n == "default_statistics_target" and v.isdigit()), 100)
    for column in relation.columns:
        stats = snapshot.column_stats(relation, column.name)
        if stats is not None:
            bounds = stats.histogram or ""
            target = max(target, len(numbers(stats.mcf)), bounds.count(",") if '"' not in bounds else 0)
    return ROWS_A_TARGET * target


def corrected_distinct(stats: ColumnStats, rows: float, sample: int = SAMPLE) -> float:
    """The distinct values of a column, corrected for what Duj1 does: it gives N / E, with E the mean number of rows that
    share the value of a row.

    For values drawn at random m times on average E is 1 + m, and N / m (1 - exp(-m)) of them have occurred. Where the common
    values are too frequent for that, multiplicities are a power law that ends at the most common value and from whose
    sample ANALYZE would have computed just this n_distinct. A table that fits the sample is counted, not estimated.
    """
    told = absolute_distinct(stats.n_distinct, rows)
    top = max(numbers(stats.mcf), default=0.0)
    filled = rows * (1.0 - float(stats.null_frac))
    if filled <= sample or not 1 < told < filled * 0.999:
        return told
    drawn = filled / told - 1.0
    by_chance = max(told, -math.expm1(-drawn) * filled / drawn)
    mean, seen = sample / told, top * sample
    # Chernoff's bound for a Poisson variable: could any of `told` values be that frequent by chance?
    if seen <= mean or math.log(told) - mean + seen * (1 + math.log(mean / seen)) > math.log(1e-3):
        return by_chance
    return max(by_chance, min(filled, _power_law(round(filled), round(told), max(2, round(top * rows)), sample)))


@lru_cache(maxsize=4096)
def _power_law(rows: int, told: int, most: int, looked_at: int) -> float:
    """Distinct values of a power law of multiplicities 1..most over `rows` rows of which ANALYZE would report `told`."""
    steps: list[tuple[float, float]] = [(float(m), 1.0) for m in range(1, min(most, 60) + 1)]
    low = 60.5
    while low < most:  # beyond, in steps of a tenth
        high = min(low * 1.1, most + 0.5)
        steps.append((math.sqrt(low * high), high - low))
        low = high
    share = min(1.0, looked_at / rows)

    def sampled(exponent: float) -> tuple[float, float]:
        weights = [(m, width * m**-exponent) for m, width in steps]
        scale = rows / sum(m * w for m, w in weights)
        distinct = seen = once = 0.0
        for m, weight in weights:
            count, rate = weight * scale, m * share
            distinct += count
            seen += count * -math.expm1(-rate)
            once += count * rate * math.exp(-rate)
        n = rows * share
        return distinct, n * seen / max(1.0, n - once + once * share)

    low_end, high_end = _FLAT, _STEEP
    for _ in range(40):
        middle = (low_end + high_end) / 2
        if sampled(middle)[1] < told:
            low_end = middle
        else:
            high_end = middle
    return sampled((low_end + high_end) / 2)[0]


@dataclass(frozen=True, slots=True)
class Joint:
    """What is known of several columns together: at most `distinct` combinations (0: nothing is known), and why.
    `between`: they are neither independent nor dependent, the truth is somewhere in between."""

    distinct: float = 0.0
    basis: str = ""
    between: bool = False


def _extended_counts(stored: bytes) -> list[tuple[frozenset[int], float]]:
    """The items of a pg_ndistinct: sets of column numbers with their distinct counts (statext_ndistinct_serialize)."""
    _magic, _kind, items = struct.unpack_from("=III", stored)
    found, at = [], 12
    for _ in range(items):
        count, width = struct.unpack_from("=di", stored, at)
        found.append((frozenset(struct.unpack_from(f"={width}h", stored, at + 12)), float(count)))
        at += 12 + 2 * width
    return found


def _extended(snapshot: Snapshot, relation: Relation, columns: frozenset[int], rows: float) -> Joint:
    best = Joint()
    for e in snapshot.extended:
        if e.table_oid != relation.oid or not e.ndistinct:
            continue
        for numbers_, count in _extended_counts(e.ndistinct):
            if numbers_ == columns:
                best = Joint(absolute_distinct(count, rows), f"statistics object {e.name}")
    return best


def _unique(snapshot: Snapshot, relation: Relation) -> list[Index]:
    return [
        i for i in snapshot.indexes.values()
        if i.table_oid == relation.oid and i.unique and " WHERE " not in i.definition and 0 not in i.columns
    ]  # fmt: skip


def _same_values(a: ColumnStats | None, b: ColumnStats | None, rows_a: float, rows_b: float) -> bool:
    """Whether two columns look as if they held the same values: as many distinct ones, over the same range."""
    if a is None or b is None:
        return False
    kinds = absolute_distinct(a.n_distinct, rows_a), absolute_distinct(b.n_distinct, rows_b)
    ends_a, ends_b = _ends(a), _ends(b)
    if min(kinds) < 10 or max(kinds) > 1.1 * min(kinds) or ends_a is None or ends_b is None:
        return False
    span = max(ends_a[1] - ends_a[0], ends_b[1] - ends_b[0], 1.0)
    return abs(ends_a[0] - ends_b[0]) < 0.01 * span and abs(ends_a[1] - ends_b[1]) < 0.01 * span


def _ends(stats: ColumnStats) -> tuple[float, float] | None:
    """The ends of a histogram of numbers."""
    bounds = (stats.histogram or "").strip("{}").split(",")
    try:
        return float(bounds[0]), float(bounds[-1])
    except ValueError:
        return None


def _referenced(snapshot: Snapshot, relation: Relation, columns: Sequence[int], rows: float) -> Joint:
    """A key of another table that these columns seem to refer to, declared or not: they have no more combinations."""
    names = {c.number: c for c in relation.columns}
    mine = [names[c] for c in columns if c in names]
    for index in snapshot.indexes.values():
        other = snapshot.relations.get(index.table_oid)
        if other is None or other.oid == relation.oid or not index.unique or index.key_columns != len(mine):
            continue
        theirs = {c.number: c for c in other.columns}
        keys = [theirs[n] for n in index.columns[: index.key_columns] if n in theirs]
        other_rows = snapshot.rows(other.oid)
        left = list(keys)
        for column in mine:
            mine_stats = snapshot.column_stats(relation, column.name)
            match = next(
                (k for k in left if k.type == column.type
                 and _same_values(mine_stats, snapshot.column_stats(other, k.name), rows, other_rows)), None,
            )  # fmt: skip
            if match is None:
                break
            left.remove(match)
        else:
            if len(keys) == len(mine) and 0 < other_rows < rows:
                return Joint(other_rows, f"the columns have the values of the key {other.name} ({index.name})")
    return Joint()


def _declared(snapshot: Snapshot, relation: Relation, columns: frozenset[int]) -> Joint:
    """A foreign key over just these columns."""
    numbers_of = {c.name: c.number for c in relation.columns if not c.dropped}
    for c in snapshot.constraints:
        if c.table_oid != relation.oid or c.kind != "f":
            continue
        key = _foreign_key(c.definition)
        if key is None:
            continue
        name = (key.pktable.schemaname, key.pktable.relname)
        target = next((r.oid for r in snapshot.relations.values() if (r.schema, r.name) == name), None)
        if target is not None and frozenset(numbers_of.get(a.string.sval, 0) for a in key.fk_attrs) == columns:
            return Joint(snapshot.rows(target), f"foreign key {c.name}")
    return Joint()


def _foreign_key(definition: str) -> Any:
    """The constraint in pg_get_constraintdef's words, with the table's schema; None where it is no such text."""
    import postgast

    try:
        tree = parsing.parse(f"alter table t add constraint c {definition}")
    except postgast.PgQueryError:
        return None
    command = tree.stmts[0].stmt.alter_table_stmt.cmds[0].alter_table_cmd
    return getattr(command, "def").constraint  # the field's name is a word of Python


def joint(snapshot: Snapshot, relation: Relation, columns: Sequence[int], rows: float) -> Joint:
    """What is known of the combinations of some columns (numbers; `rows` of the whole table)."""
    wanted = frozenset(columns)
    if len(wanted) < 2 or 0 in wanted:
        return Joint()
    for index in _unique(snapshot, relation):
        if set(index.columns[: index.key_columns]) <= wanted:
            return Joint(rows, f"{index.name} is unique")
    for found in (
        _extended(snapshot, relation, wanted, rows), _declared(snapshot, relation, wanted),
        _referenced(snapshot, relation, columns, rows),
    ):  # fmt: skip
        if found.distinct > 0:
            return found
    names = {c.number: c for c in relation.columns}
    both = [snapshot.column_stats(relation, names[c].name) for c in columns if c in names]
    if both and all(s is not None and s.correlation is not None and abs(float(s.correlation)) > 0.98 for s in both):
        total = sum(absolute_distinct(s.n_distinct, rows) for s in both if s is not None)
        return Joint(total, "all its columns follow the order of the rows")
    if len(wanted) == 2 and all(names[c].type.startswith(_TIMES) for c in columns if c in names):
        return Joint(0.0, "two times of one row are seldom independent", between=True)
    return Joint()

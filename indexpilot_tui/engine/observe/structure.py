"""Whether one index makes another superfluous, judged by structure: method, keys with their operator classes, collations
and directions, predicate, expressions, included columns, uniqueness. Never by text or by name. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_REVERSED = 3  # pg_index.indoption: bit 0 DESC, bit 1 NULLS FIRST; a backward scan has both flipped


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One key column. `column` is its attribute number, 0 for an expression, whose text then is in `expression`."""

    column: int
    expression: str
    opclass: int
    collation: int
    option: int

    def same_values(self, other: KeyPart) -> bool:
        return (self.column, self.expression, self.opclass, self.collation) == (
            other.column,
            other.expression,
            other.opclass,
            other.collation,
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """The structure of one index and what it is needed for. `comparable` is False where it could not be read whole."""

    oid: int
    table_oid: int
    method: str
    keys: tuple[KeyPart, ...]
    include: frozenset[int]
    predicate: str
    unique: bool
    nulls_not_distinct: bool
    usable: bool  # valid, ready, live, and nobody works on it
    comparable: bool
    needed: str  # why it may not go whatever other index there is; empty: nothing known
    scans: int | None
    size_bytes: int | None
    reloptions: str

    @property
    def columns(self) -> tuple[int, ...]:
        return tuple(part.column for part in self.keys)


def shape_of(row: Mapping[str, Any]) -> Shape:
    """The Shape from a row of `indexes.sql`."""
    count: int = row["key_count"]
    columns = [int(x) for x in row["keys"].split()]
    opclasses = [int(x) for x in row["opclasses"].split()]
    collations = [int(x) for x in row["collations"].split()]
    options = [int(x) for x in row["options"].split()]
    elements: list[str] = row["elements"] or []
    unread = (row["has_expressions"] and len(elements) < count) or (row["has_predicate"] and row["predicate"] is None)
    keys = tuple(
        KeyPart(
            columns[i],
            elements[i] if columns[i] == 0 and i < len(elements) else "",
            opclasses[i],
            collations[i],
            options[i],
        )
        for i in range(count)
    )
    return Shape(
        oid=row["oid"],
        table_oid=row["table_oid"],
        method=row["method"],
        keys=keys,
        include=frozenset(columns[count:]),
        predicate=row["predicate"] or "",
        unique=row["is_unique"],
        nulls_not_distinct=row["nulls_not_distinct"],
        usable=row["valid"] and row["ready"] and row["live"] and not row["in_progress"],
        comparable=not unread and not row["is_exclusion"] and not row["partitioned"],
        needed=needed_for(row),
        scans=row["scans"],
        size_bytes=row["size_bytes"],
        reloptions=row["reloptions"],
    )


def needed_for(row: Mapping[str, Any]) -> str:
    """What rests on this index besides reading speed, in words, or an empty string."""
    reasons = (
        (row["is_primary"], "it is the primary key"),
        (row["constraint_name"], "it carries a constraint"),
        (row["is_unique"] or row["is_exclusion"], "it keeps rows unique"),
        (row["is_replica_identity"], "it is the replica identity"),
        (row["referenced_by_fk"], "a foreign key points to it"),
        (row["attached"], "it belongs to the index of the partitioned table"),
        (row["of_extension"], "its table belongs to an extension"),
    )
    return next((words for holds, words in reasons if holds), "")


def _directions_agree(a: tuple[KeyPart, ...], b: tuple[KeyPart, ...]) -> bool:
    """Whether `b` gives the order of `a`, forward or backward."""
    forward = all(x.option == y.option for x, y in zip(a, b, strict=False))
    backward = all(x.option == y.option ^ _REVERSED for x, y in zip(a, b, strict=False))
    return forward or backward


def covers(kept: Shape, gone: Shape) -> str:
    """`duplicate` or `left_prefix` when `kept` answers every search and order that `gone` does; else an empty string.

    `gone` must be needed for nothing but reading. A prefix counts for btree only: GIN, GiST and BRIN of several columns
    are used by any of them, and their cost is another.
    """
    comparable = (
        kept.oid != gone.oid
        and kept.table_oid == gone.table_oid
        and not gone.needed
        and kept.usable
        and gone.usable
        and kept.comparable
        and gone.comparable
    )
    same_kind = kept.method == gone.method and kept.predicate == gone.predicate and len(gone.keys) <= len(kept.keys)
    if not (comparable and same_kind):
        return ""
    leading = all(a.same_values(b) for a, b in zip(gone.keys, kept.keys, strict=False))
    if not leading or not _directions_agree(gone.keys, kept.keys):
        return ""
    if not gone.include <= kept.include | {c for c in kept.columns if c}:
        return ""
    if len(gone.keys) == len(kept.keys):
        return "duplicate"
    return "left_prefix" if gone.method == "btree" else ""


def redundant(shapes: list[Shape]) -> list[tuple[Shape, Shape, str]]:
    """(superfluous, the index that covers it, kind), each superfluous index once.

    All of them may go together: covering is transitive, so where the covering index is superfluous as well, the one
    that covers that one covers both, and never do two equal ones cover each other. Of two equal ones the one with
    fewer scans goes; then the larger; then the newer (higher OID).
    """
    found: list[tuple[Shape, Shape, str]] = []
    by_table: dict[int, list[Shape]] = {}
    for shape in shapes:
        by_table.setdefault(shape.table_oid, []).append(shape)
    for group in by_table.values():
        gone: set[int] = set()
        # narrow and least used first, so that of equals the less used goes and wide ones stay to cover
        order = sorted(group, key=lambda s: (len(s.keys), len(s.include), s.scans or 0, -(s.size_bytes or 0), -s.oid))
        for candidate in order:
            best = [(s, covers(s, candidate)) for s in group if s.oid not in gone]
            kinds = [(s, kind) for s, kind in best if kind]
            if not kinds:
                continue
            # an exact duplicate is the better reason; then the index with the fewest columns
            kept, kind = min(kinds, key=lambda pair: (pair[1] != "duplicate", len(pair[0].keys), pair[0].oid))
            gone.add(candidate.oid)
            found.append((candidate, kept, kind))
    return found

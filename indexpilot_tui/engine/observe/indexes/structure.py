"""Whether one index makes another superfluous, judged by structure: method, keys with their operator classes, collations
and directions, predicate, expressions, included columns, uniqueness. Never by text or by name. Pure.

The question is always: does every search, every order and every guarantee that `gone` gives remain when only `kept` is
there?
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from indexpilot_tui.engine.observe.indexes.facts import IndexFacts, Twins
from indexpilot_tui.engine.observe.indexes.predicate import implies, same

_REVERSED = 3  # pg_index.indoption: bit 0 DESC, bit 1 NULLS FIRST; a backward scan has both flipped
ALIKE_ROWS = 0.9  # a partial index of at least this share of the other's rows saves too little to be another index
# methods that look at each key column by itself, so that more of them and in another order serve the same searches
_EACH_BY_ITSELF = ("brin", "gin")


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One key column. `column` is its attribute number, 0 for an expression, whose text then is in `expression`."""

    column: int
    expression: str
    opclass: int
    collation: int
    option: int
    parameters: str

    def same_values(self, other: KeyPart) -> bool:
        return (self.column, self.expression, self.opclass, self.collation, self.parameters) == (
            other.column, other.expression, other.opclass, other.collation, other.parameters,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """The structure of one index and what it is needed for. `comparable` is False where it could not be read whole."""

    facts: IndexFacts
    keys: tuple[KeyPart, ...]
    include: frozenset[int]
    comparable: bool
    needed: str  # why it may not go whatever other index there is; empty: nothing known

    @property
    def oid(self) -> int:
        return self.facts.oid

    @property
    def columns(self) -> tuple[int, ...]:
        return tuple(part.column for part in self.keys)


@dataclass(frozen=True, slots=True)
class Cover:
    """How `kept` covers `gone`. `kind` is `duplicate` (the same, or the same with more included), `left_prefix` (its keys
    lead the other's), `covered` (another index has all its rows and answers its searches, though it is not the same)."""

    gone: Shape
    kept: Shape
    kind: str
    notes: tuple[str, ...] = ()


def shape_of(facts: IndexFacts, twins: Twins = Twins()) -> Shape:  # noqa: B008 - frozen
    count = facts.key_count
    unread = (facts.has_expressions and len(facts.elements) < count) or (facts.has_predicate and facts.predicate is None)
    parameters = dict(facts.parameters)
    keys = tuple(
        KeyPart(
            facts.keys[i],
            facts.elements[i] if facts.keys[i] == 0 and i < len(facts.elements) else "",
            twins.of(facts.opclasses[i]),
            facts.collations[i],
            facts.options[i],
            parameters.get(i + 1, ""),
        )
        for i in range(count)
    )
    # an invalid, half-built or locked one is compared with nothing
    return Shape(facts, keys, frozenset(facts.keys[count:]), not unread and not facts.locked, needed_for(facts))


def needed_for(facts: IndexFacts) -> str:
    """What rests on this index besides reading speed and uniqueness, in words, or an empty string."""
    reasons = (
        (facts.primary, "it is the primary key"),
        (facts.exclusion, "it keeps an exclusion constraint"),
        (facts.constraint, f"it carries the constraint {facts.constraint}"),
        (facts.replica_identity, "it is the replica identity"),
        (facts.referenced_by_fk, "a foreign key points to it"),
        (facts.attached, "it belongs to the index of the partitioned table"),
        (facts.clustered, "CLUSTER goes by it"),
        (facts.of_extension, "its table belongs to an extension"),
    )
    return next((words for holds, words in reasons if holds), "")


def covers(kept: Shape, gone: Shape) -> Cover | None:
    """How `kept` makes `gone` superfluous; None when it does not, or not for certain."""
    a, b = gone.facts, kept.facts
    comparable = (
        a.oid != b.oid
        and a.table_oid == b.table_oid
        and a.method == b.method
        and not gone.needed
        and a.usable
        and b.usable
        and gone.comparable
        and kept.comparable
        and a.partitioned == b.partitioned  # the whole of a partitioned table against another whole
    )
    if not comparable:
        return None
    notes: list[str] = []
    kind = _keys_covered(gone, kept)
    if not kind or not _included(gone, kept):
        return None
    rows = _rows_covered(a, b)
    if rows is None:
        return None
    if rows:
        notes.append(rows)
        kind = "covered"
    if a.unique:
        held = _uniqueness_held(gone, kept)
        if held is None:
            return None
        notes += held
    if a.reloptions != b.reloptions:
        notes.append(f"storage parameters differ: {a.reloptions or 'none'} against {b.reloptions or 'none'}")
    if a.tablespace != b.tablespace:
        notes.append("it lies in another tablespace")
    return Cover(gone, kept, kind, tuple(notes))


def _keys_covered(gone: Shape, kept: Shape) -> str:
    """`duplicate`, `left_prefix`, `covered`, or an empty string."""
    if gone.facts.method in _EACH_BY_ITSELF and len(gone.keys) <= len(kept.keys):
        left = list(kept.keys)
        for part in gone.keys:
            match = next((other for other in left if part.same_values(other)), None)
            if match is None:
                return ""
            left.remove(match)
        if gone.facts.method == "brin" and _ranges(gone.facts) != _ranges(kept.facts):
            return ""
        # GIN of more columns is a larger tree over all their values: it answers the same, at a price
        return "duplicate" if not left else "covered"
    if len(gone.keys) > len(kept.keys):
        return ""
    if not all(a.same_values(b) for a, b in zip(gone.keys, kept.keys, strict=False)):
        return ""
    if not _directions_agree(gone.keys, kept.keys):
        return ""
    if len(gone.keys) == len(kept.keys):
        return "duplicate"
    return "left_prefix" if gone.facts.method == "btree" else ""


def _ranges(facts: IndexFacts) -> str:
    """pages_per_range and the like: BRIN summaries of other ranges answer otherwise."""
    return ", ".join(sorted(part for part in facts.reloptions.split(", ") if part.startswith("pages_per_range")))


def _directions_agree(a: tuple[KeyPart, ...], b: tuple[KeyPart, ...]) -> bool:
    """Whether `b` gives the order of `a`, forward or backward."""
    forward = all(x.option == y.option for x, y in zip(a, b, strict=False))
    backward = all(x.option == y.option ^ _REVERSED for x, y in zip(a, b, strict=False))
    return forward or backward


def _included(gone: Shape, kept: Shape) -> bool:
    """Whether an index-only scan finds what `gone` includes."""
    return gone.include <= kept.include | {c for c in kept.columns if c}


def _rows_covered(gone: IndexFacts, kept: IndexFacts) -> str | None:
    """Empty: the same rows. A note: `kept` has all of them and few more. None: it lacks some, or has many more, so that the
    smaller one is worth having."""
    mine, other = gone.predicate or "", kept.predicate or ""
    if same(mine, other):
        return ""
    if not implies(mine, other):
        return None
    alike = gone.rows > 0 and kept.rows > 0 and gone.rows >= ALIKE_ROWS * kept.rows
    if alike:
        return f"its predicate leaves out few rows ({gone.rows:,.0f} of {kept.rows:,.0f})"
    return None


def _uniqueness_held(gone: Shape, kept: Shape) -> list[str] | None:
    """Notes when `kept` keeps unique what `gone` keeps unique; None when it does not."""
    a, b = gone.facts, kept.facts
    if not b.unique or len(gone.keys) != len(kept.keys) or not same(a.predicate or "", b.predicate or ""):
        return None
    if a.nulls_not_distinct and not b.nulls_not_distinct:
        return None  # it also keeps a second row of nulls out
    if a.immediate and not b.immediate:
        return None  # a deferrable constraint is checked later, and serves neither ON CONFLICT nor a foreign key
    if {part.column for part in gone.keys} != {part.column for part in kept.keys}:
        return None
    return [f"{b.shown} keeps the same columns unique"]


def redundant(shapes: Iterable[Shape]) -> list[Cover]:
    """The superfluous ones, each once, with the index that stays.

    All of them may go together: covering is transitive, so where the covering index is superfluous as well, the one
    that covers that one covers both, and never do two equal ones cover each other. Of two equal ones the one with
    fewer scans goes; then the larger; then the newer (higher OID).
    """
    found: list[Cover] = []
    by_table: dict[int, list[Shape]] = {}
    for shape in shapes:
        by_table.setdefault(shape.facts.table_oid, []).append(shape)
    for group in by_table.values():
        if len(group) > 1:
            found += _redundant_of_table(group)
    return found


def _redundant_of_table(group: Sequence[Shape]) -> list[Cover]:
    gone: set[int] = set()
    found: list[Cover] = []
    # narrow and least used first, so that of equals the less used goes and wide ones stay to cover; a unique one stays
    order = sorted(
        group,
        key=lambda s: (
            len(s.keys), len(s.include), s.facts.unique, s.facts.scans or 0, -(s.facts.size_bytes or 0), -s.oid,
        ),
    )  # fmt: skip
    for candidate in order:
        best = [c for s in group if s.oid not in gone and (c := covers(s, candidate)) is not None]
        if not best:
            continue
        # an exact duplicate is the better reason; then the index with the fewest columns
        rank = ("duplicate", "left_prefix", "covered")
        chosen = min(best, key=lambda c: (rank.index(c.kind), len(c.kept.keys), c.kept.oid))
        gone.add(candidate.oid)
        found.append(chosen)
    return found

"""Candidates from uses: for each place where a table is read, the keys that conditions, joins and orders could start with,
each alone, in combination, and covering what the statement reads; other access methods where an operator needs one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.whatif.advise.candidate import Candidate, btree, quote
from indexpilot_tui.engine.whatif.advise.scope import Use
from indexpilot_tui.engine.whatif.points import array_items
from indexpilot_tui.engine.whatif.shape import absolute_distinct, numbers
from indexpilot_tui.engine.whatif.snapshot import Column, ColumnStats, Relation, Snapshot

MAX_KEYS = 4
MAX_COVER = 9  # columns of a covering index: beyond that it is a second table
MAX_SHARE = 0.6  # of the rows that a partial index holds: with more it saves too little to be worth its narrower use
FEW_VALUES = 60  # distinct values of a status-like column: its values are part of the application, not of the data
MAX_PREDICATES = 3
NO_BTREE = {
    "json", "jsonb", "xml", "point", "box", "polygon", "line", "lseg", "path", "circle", "tsvector", "tsquery", "bytea",
}  # fmt: skip
BRIN_CORRELATION = 0.9  # below it a range of blocks holds nearly all values (brincostestimate uses the correlation)
BRIN_PAGES = 1024  # 8 MB: below it a B-tree is small too
NULL_TEST_IS_NULL = 1  # NullTestType
TRIGRAM = {"~~", "~~*", "~", "~*"}


@dataclass(frozen=True, slots=True)
class Extensions:
    """What the target has installed: a candidate never needs an extension that is not there."""

    names: frozenset[str]

    @property
    def trigram(self) -> bool:
        return "pg_trgm" in self.names


@dataclass(frozen=True, slots=True)
class Predicate:
    """Of a partial index. `columns` as often as it names them; `fixed` need not be keys any more; `parts` its conjuncts."""

    text: str
    columns: tuple[str, ...]
    fixed: tuple[str, ...]
    parts: tuple[str, ...]


class Generator:
    """Makes candidates; remembers why a condition got none."""

    def __init__(self, snapshot: Snapshot, *, partial: bool = True) -> None:
        self.snapshot = snapshot
        self.partial = partial
        self.extensions = Extensions(frozenset(n for n, _ in snapshot.server.extensions))
        self.text_by_bytes = snapshot.server.collate in ("C", "POSIX")

    def of(self, use: Use) -> Iterator[Candidate]:
        """The candidates for one use, the more specific first."""
        relation = use.table
        types = {quote(c.name): c for c in relation.columns if not c.dropped}
        equal = [k for k in self._selective(use.equal, relation) if self._plain(k, types)]
        joined = [k for k in use.joined if self._plain(k, types)]
        ranged = [k for k in use.ranged if self._plain(k, types)]
        sorts = [s for s in use.sorts if all(self._plain(k, types) for k, _, _ in s)]
        groups = [g for g in use.groups if g and all(self._plain(k, types) for k in g)]
        predicates = list(self._predicates(use, relation))
        seen: set[Candidate] = set()
        for keys in self._keys(equal, joined, ranged, groups):
            for candidate in self._variants(use, relation, keys, predicates):
                if candidate not in seen:
                    seen.add(candidate)
                    yield candidate
        for candidate in (*self._sorted(use, relation, equal, sorts, predicates), *self._special(use, relation, types)):
            if candidate not in seen:
                seen.add(candidate)
                yield candidate

    def _plain(self, key: str, types: dict[str, Column]) -> bool:
        if key.startswith("("):
            return True  # an expression: the shadow says what type it has
        kind = _kind(types, key)
        return bool(kind) and kind not in NO_BTREE and not kind.endswith("[]")

    def _selective(self, equal: Iterable[str], relation: Relation) -> list[str]:
        """Columns that select most in front; ties keep the order of the text."""
        rows = self.snapshot.rows(relation.oid)

        def distinct(key: str) -> float:
            stats = self._stats(relation, key)
            return absolute_distinct(stats.n_distinct, rows) if stats is not None else 0.0

        return sorted(equal, key=lambda k: -distinct(k))

    def _stats(self, relation: Relation, key: str) -> ColumnStats | None:
        return self.snapshot.column_stats(relation, key[1:-1].replace('""', '"')) if key.startswith('"') else None

    def _keys(
        self, equal: Sequence[str], joined: Sequence[str], ranged: Sequence[str], groups: Sequence[tuple[str, ...]]
    ) -> Iterator[tuple[str, ...]]:
        def uniq(*keys: str) -> tuple[str, ...]:
            return tuple(dict.fromkeys(keys))[:MAX_KEYS]

        top = list(equal[:3])
        tails = [*ranged[:3]]
        if top:
            yield uniq(*top)
            for tail in tails:
                yield uniq(*top, tail)
                yield uniq(top[0], tail)
            yield from permutations(top, 2)
        for key in (*top, *joined[:5], *tails):
            yield (key,)
        for join in joined[:5]:
            if top:
                yield uniq(join, *top)
                yield uniq(*top, join)
                yield uniq(top[0], join)
            for tail in tails:
                yield uniq(join, tail)
                yield uniq(tail, join)
            for other in joined[:5]:
                if other != join:
                    yield uniq(join, other)
        for group in groups:
            yield uniq(*group)
            if top:
                yield uniq(*top, *group)
            yield group[:1]

    def _variants(
        self, use: Use, relation: Relation, keys: tuple[str, ...], predicates: Sequence[Predicate]
    ) -> Iterator[Candidate]:
        """Keys alone, covering, and partial; a partial index need not hold what only its predicate asks for."""
        yield btree(relation.oid, keys)
        cover = self._cover(use, keys)
        if cover:
            yield btree(relation.oid, keys, cover)
        for predicate in predicates:
            rest = tuple(k for k in keys if k not in predicate.fixed) or keys
            yield btree(relation.oid, rest, (), predicate.text)
            cover = self._cover(use, rest, predicate.columns)
            if cover:
                yield btree(relation.oid, rest, cover, predicate.text)

    def _cover(self, use: Use, keys: tuple[str, ...], proven: Sequence[str] = ()) -> tuple[str, ...]:
        """The other columns that the statement reads, when an index could hold all of them. `proven` are the columns of
        conditions that the index's predicate answers, as often as they are named there."""
        if use.whole or any(k.startswith("(") for k in keys) or not use.columns:
            return ()
        wanted = [c for c, times in use.columns.items() if times > proven.count(c)]
        rest = tuple(sorted(c for c in wanted if c not in keys))
        return rest if rest and len(rest) + len(keys) <= MAX_COVER else ()

    def _predicates(self, use: Use, relation: Relation) -> Iterator[Predicate]:
        """Partial indexes worth a look: all fit conjuncts together, then each alone."""
        if not self.partial:
            return
        fit = [p for text, columns in use.predicates.items() if (p := self._fit(text, columns, relation)) is not None]
        if len(fit) > 1:
            yield Predicate(
                " AND ".join(f"({p.text})" for p in fit), tuple(c for p in fit for c in p.columns),
                tuple(c for p in fit for c in p.fixed), tuple(t for p in fit for t in p.parts),
            )  # fmt: skip
        yield from fit[:MAX_PREDICATES]

    def _fit(self, text: str, columns: tuple[str, ...], relation: Relation) -> Predicate | None:
        """A conjunct that says the same tomorrow: columns against each other, NULL or not, a flag, or a value of a
        column that has few. A constant on a scale (a date, an amount) moves on, and an index must not depend on it."""

        where = parsing.parse(f"select where {text}").stmts[0].stmt.select_stmt.where_clause
        kind = where.WhichOneof("node")
        stats = [self._stats(relation, c) for c in columns]
        first = stats[0] if stats else None
        if first is None or any(s is None for s in stats):
            return None
        share: float | None = None
        if kind == "a_expr" and len(columns) == 2 and len(set(columns)) == 2:
            return Predicate(text, columns, (), (text,)) if not _literals(where) else None
        if len(columns) != 1:
            return None
        if kind == "null_test":
            null = float(first.null_frac)
            share = null if where.null_test.nulltesttype == NULL_TEST_IS_NULL else 1 - null
        elif kind == "column_ref":
            share = value_share(first, "t")
        elif kind == "bool_expr" and where.bool_expr.args[0].WhichOneof("node") == "column_ref":
            share = value_share(first, "f")
        elif kind == "a_expr" and where.a_expr.name[-1].string.sval == "=" and 1 < first.n_distinct <= FEW_VALUES:
            padded = _kind({quote(c.name): c for c in relation.columns if not c.dropped}, columns[0]) in PADDED
            share = sum(value_share(first, v, padded=padded) for v in _literals(where)) or None
        if share is None or share > MAX_SHARE:
            return None
        return Predicate(text, columns, columns if kind != "null_test" or share < 1 else (), (text,))

    def _sorted(
        self, use: Use, relation: Relation, equal: Sequence[str], sorts: Sequence[tuple[tuple[str, bool, int], ...]],
        predicates: Sequence[Predicate],
    ) -> Iterator[Candidate]:  # fmt: skip
        """An index in the order of ORDER BY, equality columns in front. One direction throughout needs none of its own:
        a B-tree is read backwards."""
        for sort in sorts:
            mixed = len({d for _, d, _ in sort}) > 1 or any(n for _, _, n in sort)
            suffixes = tuple(
                (("DESC" if down else "") + ("", " NULLS FIRST", " NULLS LAST")[nulls]).strip() if mixed else ""
                for _, down, nulls in sort
            )
            order = tuple(k for k, _, _ in sort)
            for front in dict.fromkeys([tuple(equal[:3]), tuple(equal[:1]), ()]):
                keep = [(k, s) for k, s in zip(order, suffixes, strict=True) if k not in front]
                keys = (*front, *(k for k, _ in keep))[:MAX_KEYS]
                ends = (*("" for _ in front), *(s for _, s in keep))[:MAX_KEYS]
                if not keep:
                    continue
                yield Candidate(relation.oid, "btree", keys, ends)
                for predicate in predicates:
                    pairs = [(k, e) for k, e in zip(keys, ends, strict=True) if k not in predicate.fixed]
                    if pairs:
                        some, their = zip(*pairs, strict=True)
                        yield Candidate(relation.oid, "btree", some, their, (), predicate.text)
                cover = self._cover(use, keys)
                if cover:
                    yield Candidate(relation.oid, "btree", keys, ends, cover)

    def _special(self, use: Use, relation: Relation, types: dict[str, Column]) -> Iterator[Candidate]:
        oid = relation.oid
        for operator, key, constant in use.searched:
            kind = _kind(types, key)
            if operator in TRIGRAM:
                anchored = constant is not None and constant[:1] not in ("", "%", "_", "^", ".", "*", "(", "[")
                if operator == "~~" and anchored:
                    pattern = "" if self.text_by_bytes else _PATTERN.get(kind, "text_pattern_ops")
                    yield Candidate(oid, "btree", (key,), (pattern,))
                    front = self._selective([k for k in use.equal if self._plain(k, types)], relation)[:2]
                    if front:
                        yield Candidate(oid, "btree", (*front, key), (*("" for _ in front), pattern))
                if self.extensions.trigram:
                    yield Candidate(oid, "gin", (key,), ("gin_trgm_ops",))
                else:
                    use.obstacles.append("searching inside text needs an index of pg_trgm, which is not installed here")
            elif kind == "jsonb" or (not kind and operator in ("@>", "?", "?|", "?&")):
                yield Candidate(oid, "gin", (key,), ("jsonb_path_ops" if operator in ("@>", "@?", "@@") else "",))
            elif kind.endswith("[]") or kind in ("tsvector", "hstore") or (key.startswith("(") and operator == "@@"):
                if operator == "= any":
                    use.obstacles.append(
                        "value = ANY (array column) is not something that GIN can answer; array column @> ARRAY[value] is"
                    )
                else:
                    yield Candidate(oid, "gin", (key,), ("",))
            elif kind.endswith("range") or kind in ("point", "box", "polygon", "circle", "inet", "cidr"):
                yield Candidate(oid, "gist", (key,), ("inet_ops" if kind in ("inet", "cidr") else "",))
        for key in (*use.ranged, *use.equal):
            stats = self._stats(relation, key)
            pages = sum(self.snapshot.sizes[m].pages for m in self.snapshot.members(oid) if m in self.snapshot.sizes)
            if stats is None or stats.correlation is None or pages < BRIN_PAGES or not self._plain(key, types):
                continue
            if abs(float(stats.correlation)) >= BRIN_CORRELATION and key in use.ranged:
                yield Candidate(oid, "brin", (key,), ("",))


PADDED = {"character", "bpchar"}
_PATTERN = {"character varying": "varchar_pattern_ops", "character": "bpchar_pattern_ops", "text": "text_pattern_ops"}


def _kind(types: dict[str, Column], key: str) -> str:
    """The type of a key that is a column, without its modifier; '' for an expression."""
    return types[key].type.split("(")[0] if key in types else ""


def value_share(stats: ColumnStats, value: str, *, padded: bool = False) -> float:
    """The share of the rows with a value: of a common one its frequency, else the mean of the others (var_eq_const).
    `padded`: of a type that stores blanks up to its length and compares without them."""
    values, frequencies = array_items(stats.mcv), numbers(stats.mcf)
    if padded:
        value, values = value.rstrip(" "), [v.rstrip(" ") for v in values]
    if len(values) == len(frequencies) and value in values:
        return frequencies[values.index(value)]
    rest = max(0.0, 1.0 - sum(frequencies) - float(stats.null_frac))
    others = (stats.n_distinct if stats.n_distinct > 0 else 1e6) - len(frequencies)
    return rest / max(1.0, others)


def merged(table: int, parts: Sequence[tuple[float, Candidate]]) -> Iterator[tuple[float, Candidate]]:
    """Covering indexes for what two or three with the same first key do apart, each with its promise: the (gain of the)
    parts together, over the number of columns."""
    fit = [(g, c) for g, c in parts if not c.predicate and not any(c.suffixes)]
    for count in (2, 3):
        for some in combinations(fit, count):
            for keys in dict.fromkeys(c.keys for _, c in some):
                if any(c.keys[0] != keys[0] for _, c in some):
                    continue
                columns = {x for _, c in some for x in (*c.keys, *c.include)}
                include = tuple(sorted(columns - set(keys)))
                if len(columns) <= MAX_COVER:
                    yield sum(g for g, _ in some) / len(columns), btree(table, keys, include)


def _literals(node: Any) -> list[str]:
    """The constants of an expression, as text."""
    import postgast
    from postgast import pg_query_pb2 as pb

    found = []
    for constant in postgast.find_nodes(node, pb.A_Const):
        values = {"sval": constant.sval.sval, "ival": constant.ival.ival, "fval": constant.fval.fval}
        found.append(str(values.get(constant.WhichOneof("val"), "")))
    return found

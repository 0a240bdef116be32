"""Index suggestions for one statement: columns as its conditions use them, and nothing that an index already covers.

Per table: equality columns first (those that select most in front), then one range or sort column; join columns on their
own. A skewed equality constant also gets a partial index. Suggestions are there to be forecast, not to be built unseen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.points import array_items
from indexpilot_tui.engine.whatif.read import read_snapshot
from indexpilot_tui.engine.whatif.scope import Scope
from indexpilot_tui.engine.whatif.shape import absolute_distinct, numbers
from indexpilot_tui.engine.whatif.snapshot import ColumnStats, Relation, Snapshot
from indexpilot_tui.engine.whatif.statements import parse

MOST = 4
SMALL_PAGES = 16  # a table that is read in one go needs no index
RARE = 0.05  # a constant in less than this share of the rows is worth a partial index, where another has most of them
NO_BTREE = {"json", "xml", "point", "box", "polygon", "line", "lseg", "path", "circle", "bytea"}
_RANGE = {"<", "<=", ">", ">=", "~~"}


@dataclass(slots=True)
class Wanted:
    """What a statement does with the columns of one table; lists keep the order of the text."""

    equal: list[str] = field(default_factory=list)
    ranged: list[str] = field(default_factory=list)
    joined: list[str] = field(default_factory=list)
    sorted: list[str] = field(default_factory=list)
    constants: dict[str, str] = field(default_factory=dict)


def _add(items: list[str], name: str) -> None:
    if name not in items:
        items.append(name)


def _operands(expr: Any) -> Iterator[tuple[Any, Any]]:
    yield expr.lexpr, expr.rexpr
    yield expr.rexpr, expr.lexpr


def gather(tree: Any, snapshot: Snapshot) -> dict[int, Wanted]:
    """What the conditions and the sort order of a parsed statement want, by table OID."""
    import postgast
    from postgast import pg_query_pb2 as pb

    scope = Scope(tree, snapshot)
    found: dict[int, Wanted] = {oid: Wanted() for oid in scope.tables}
    for expr in postgast.find_nodes(tree, pb.A_Expr):
        operator = expr.name[-1].string.sval if expr.name else ""
        left, right = scope.column(expr.lexpr), scope.column(expr.rexpr)
        if left and right:
            if operator == "=":
                for oid, name in (left, right):
                    _add(found[oid].joined, name)
            continue
        for side, other in _operands(expr):
            owner = scope.column(side)
            if owner is None or (expr.kind == pb.AEXPR_IN and operator != "="):
                continue
            wanted = found[owner[0]]
            if expr.kind in (pb.AEXPR_BETWEEN, pb.AEXPR_BETWEEN_SYM) or operator in _RANGE:
                _add(wanted.ranged, owner[1])
            elif operator == "=":
                _add(wanted.equal, owner[1])
                if other.WhichOneof("node") == "a_const" and other.a_const.WhichOneof("val") == "sval":
                    wanted.constants[owner[1]] = other.a_const.sval.sval
    for select in postgast.find_nodes(tree, pb.SelectStmt):
        owners = [scope.column(s.sort_by.node) for s in select.sort_clause]
        if owners and owners[0] is not None and not select.group_clause:
            _add(found[owners[0][0]].sorted, owners[0][1])
    return found


def _sets(wanted: Wanted, snapshot: Snapshot, relation: Relation) -> Iterator[tuple[str, ...]]:
    rows = snapshot.rows(relation.oid)

    def distinct(name: str) -> float:
        stats = snapshot.column_stats(relation, name)
        return absolute_distinct(stats.n_distinct, rows) if stats is not None else 0.0

    equal = sorted(wanted.equal, key=lambda n: -distinct(n))[:3]
    tail = next((n for n in [*wanted.ranged, *wanted.sorted] if n not in equal), None)
    if equal and tail:
        yield (*equal, tail)
    if equal:
        yield tuple(equal)
        if len(equal) > 1:
            yield (equal[0],)
    served = any(_covered((name,), snapshot, relation) for name in equal)
    for name in () if served else wanted.joined:  # an indexed equality finds the rows before any join does
        yield (name,)
    if not equal:
        for name in [*wanted.ranged, *wanted.sorted]:
            yield (name,)


def _covered(columns: tuple[str, ...], snapshot: Snapshot, relation: Relation) -> bool:
    """Whether a full B-tree starts with these columns, the first in place and the others in any order."""
    names = {c.number: c.name for c in relation.columns}
    for index in snapshot.indexes.values():
        if index.table_oid != relation.oid or index.method != "btree" or " WHERE " in index.definition:
            continue
        keys = [names.get(n, "") for n in index.columns[: index.key_columns]][: len(columns)]
        if keys[:1] == list(columns[:1]) and set(keys) == set(columns):
            return True
    return False


def _quoted(*names: str) -> str:
    from psycopg import sql

    return sql.Identifier(*names).as_string(None)


def _partial(value: str, stats: ColumnStats | None) -> bool:
    """Whether a constant is rare in a column where another value has most of the rows."""
    values, frequencies = array_items(stats.mcv if stats else None), numbers(stats.mcf if stats else None)
    if len(values) != len(frequencies) or not frequencies or max(frequencies) < 0.5:
        return False
    share = frequencies[values.index(value)] if value in values else 0.0
    return share < RARE


def _for_table(wanted: Wanted, snapshot: Snapshot, relation: Relation) -> Iterator[str]:
    types = {c.name: c.type.split("(")[0] for c in relation.columns}
    table = _quoted(relation.schema, relation.name)
    for name, value in wanted.constants.items():
        if name in types and _partial(value, snapshot.column_stats(relation, name)):
            from psycopg import sql

            others = [n for n in [*wanted.equal, *wanted.sorted, *wanted.ranged] if n != name] or [name]
            literal = sql.Literal(value).as_string(None)
            yield f"CREATE INDEX ON {table} ({_quoted(others[0])}) WHERE {_quoted(name)} = {literal}"
    for columns in _sets(wanted, snapshot, relation):
        usable = all(types.get(c) not in NO_BTREE for c in columns)
        if usable and not _covered(columns, snapshot, relation):
            yield f"CREATE INDEX ON {table} ({', '.join(_quoted(c) for c in columns)})"


async def candidates(session: Session, query: str) -> list[str]:
    """At most four CREATE INDEX statements worth a forecast for one statement, the largest table's first.

    Empty when nothing can be said: a utility or hidden statement, only small tables, or everything is indexed already.
    Raises what reading the target raises.
    """
    parsed = parse(Statement("0", query, 1.0))
    if parsed.refused:
        return []
    snapshot = await read_snapshot(session, parsed.tables)
    wanted = gather(parsed.tree, snapshot)

    def pages(oid: int) -> int:
        return sum(snapshot.sizes[m].pages for m in snapshot.members(oid) if m in snapshot.sizes)

    found: list[str] = []
    for oid in sorted(wanted, key=lambda o: -pages(o)):
        if pages(oid) >= SMALL_PAGES:
            found += [d for d in _for_table(wanted[oid], snapshot, snapshot.relations[oid]) if d not in found]
    return found[:MOST]

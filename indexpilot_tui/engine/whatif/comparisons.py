"""Predicates that compare two columns of one row: what share of the rows satisfies them?

The planner has no statistics for that and takes a constant (scalarineqsel: 1/3 for an inequality), which is right for its
plans and wrong for the size of a partial index. Here the distributions of both columns are laid over each other as if they
were independent, which is a guess too, but one that knows where the values lie.
"""

from __future__ import annotations

import bisect
from datetime import UTC, datetime
from typing import Any

from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.whatif.arrays import array_items
from indexpilot_tui.engine.whatif.distinct import numbers
from indexpilot_tui.engine.whatif.snapshot import ColumnStats, Relation, Snapshot

DEFAULT_INEQUALITY = 1 / 3  # DEFAULT_INEQ_SEL, selfuncs.h
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_NUMBERS = ("smallint", "integer", "bigint", "numeric", "real", "double precision", "oid")
_TIMES = ("date", "timestamp")


def compared_columns(predicate: str) -> list[tuple[str, str, str]]:
    """Inequalities between two columns among the ANDed conditions of a predicate: left, operator (< <= > >=), right."""
    import postgast
    from postgast import pg_query_pb2 as pb

    try:
        where = parsing.parse(f"select where {predicate}").stmts[0].stmt.select_stmt.where_clause
    except postgast.PgQueryError:
        return []
    anded = where.HasField("bool_expr") and where.bool_expr.boolop == pb.AND_EXPR
    terms = list(where.bool_expr.args) if anded else [where]
    found = []
    for term in terms:
        if not term.HasField("a_expr") or term.a_expr.kind != pb.AEXPR_OP:
            continue
        sides = [_column(term.a_expr.lexpr), _column(term.a_expr.rexpr)]
        operator = term.a_expr.name[-1].string.sval
        if all(sides) and operator in _TURNED:
            found.append((sides[0], operator, sides[1]))
    return found


def _column(node: Any) -> str:
    if node.HasField("column_ref") and node.column_ref.fields:
        return str(node.column_ref.fields[-1].string.sval)
    return ""


def share_correction(snapshot: Snapshot, relation: Relation, predicate: str) -> float:
    """By how much the planner's share of the rows for a predicate is to be multiplied; 1.0 where nothing is known better."""
    types = {c.name: c.type for c in relation.columns}
    factor = 1.0
    for left, operator, right in compared_columns(predicate):
        both = []
        for name in (left, right):
            stats = snapshot.column_stats(relation, name)
            both.append(_points(stats, types.get(name, "")) if stats is not None else [])
        below = _share_below(*both) if all(both) else None
        if below is not None:
            factor *= (below if operator in ("<", "<=") else 1.0 - below) / DEFAULT_INEQUALITY
    return factor


def _position(text: str, type_: str) -> float:
    """A value as a number that orders like it. Raises ValueError for one that has none (infinity, BC)."""
    if type_.startswith(_TIMES):
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return float(text)


def _points(stats: ColumnStats, type_: str) -> list[tuple[float, float]]:
    """Values of a column with their weights, in order; [] when the statistics or the type do not allow it."""
    if not type_.startswith((*_NUMBERS, *_TIMES)):
        return []
    common, frequencies, bounds = array_items(stats.mcv), numbers(stats.mcf), array_items(stats.histogram)
    if len(common) != len(frequencies):
        return []
    rest = max(0.0, 1.0 - float(stats.null_frac) - sum(frequencies))
    try:
        points = [(_position(v, type_), f) for v, f in zip(common, frequencies, strict=True)]
        points += [(_position(v, type_), rest / len(bounds)) for v in bounds]
    except ValueError:
        return []
    return sorted(points)


def _share_below(left: list[tuple[float, float]], right: list[tuple[float, float]]) -> float | None:
    """The chance that a value of `left` is below one of `right`; equal ones count half."""
    values, totals, total = [v for v, _ in right], [0.0], 0.0
    for _, weight in right:
        total += weight
        totals.append(total)
    mass = sum(w for _, w in left)
    if total <= 0 or mass <= 0:
        return None
    below = 0.0
    for value, weight in left:
        first, last = bisect.bisect_left(values, value), bisect.bisect_right(values, value)
        below += weight * (total - (totals[first] + totals[last]) / 2)
    return below / (mass * total)

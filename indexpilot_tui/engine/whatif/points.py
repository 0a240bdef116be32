"""Constants for the parameters of a normalised statement, from the statistics: common, rare and middle values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.arrays import array_items
from indexpilot_tui.engine.whatif.index import MadeIndex
from indexpilot_tui.engine.whatif.shape import numbers
from indexpilot_tui.engine.whatif.snapshot import ColumnStats, Relation, Snapshot
from indexpilot_tui.engine.whatif.statements import Parsed, parameter_numbers, substituted

__all__ = ["MAX_POINTS", "Point", "array_items", "choose", "compared", "predicate_constants"]

MAX_POINTS = 3


@dataclass(frozen=True, slots=True)
class Point:
    """A statement with constants in place of some parameters. `label` names them (cleaned)."""

    label: str
    parsed: Parsed


def compared(tree: Any) -> Iterator[tuple[str, str, int]]:
    """(column, operator, parameter number) of every comparison of a column with a parameter, casts aside."""
    import postgast
    from postgast import pg_query_pb2 as pb

    def column(node: Any) -> str | None:
        if node.WhichOneof("node") == "type_cast":
            return column(node.type_cast.arg)
        if node.WhichOneof("node") == "column_ref" and node.column_ref.fields:
            return str(node.column_ref.fields[-1].string.sval) or None
        return None

    def number(node: Any) -> int | None:
        kind = node.WhichOneof("node")
        if kind == "type_cast":
            return number(node.type_cast.arg)
        if kind == "list" and len(node.list.items) == 1:
            return number(node.list.items[0])
        return int(node.param_ref.number) if kind == "param_ref" else None

    for expr in postgast.find_nodes(tree, pb.A_Expr):
        operator = expr.name[-1].string.sval if expr.name else ""
        for left, right in ((expr.lexpr, expr.rexpr), (expr.rexpr, expr.lexpr)):
            name, parameter = column(left), number(right)
            if name is not None and parameter is not None:
                yield name, operator, parameter


def _candidates(stats: ColumnStats) -> list[tuple[str, str]]:
    """(what, value): the rarest and the commonest of the common values, and the middle of the histogram."""
    values, frequencies = array_items(stats.mcv), numbers(stats.mcf)
    found: list[tuple[str, str]] = []
    if values and len(values) == len(frequencies):
        rare = min(range(len(values)), key=lambda i: frequencies[i])
        common = max(range(len(values)), key=lambda i: frequencies[i])
        found.append((f"{100 * frequencies[rare]:.2g} % of the rows", values[rare]))
        if common != rare:
            found.append((f"{100 * frequencies[common]:.2g} % of the rows", values[common]))
    bounds = array_items(stats.histogram)
    if bounds:
        found.append(("the middle of the histogram", bounds[len(bounds) // 2]))
    return found[:MAX_POINTS]


def predicate_constants(predicate: str) -> dict[str, list[str]]:
    """The constants that a partial index's predicate compares each column with."""
    import postgast
    from postgast import pg_query_pb2 as pb

    found: dict[str, list[str]] = {}
    for expr in postgast.find_nodes(_reparse(f"select where {predicate}"), pb.A_Expr):
        columns = [c.fields[-1].string.sval for c in postgast.find_nodes(expr, pb.ColumnRef) if c.fields]
        for constant in postgast.find_nodes(expr, pb.A_Const):
            kind = constant.WhichOneof("val")
            value = {"sval": constant.sval.sval, "ival": str(constant.ival.ival), "fval": constant.fval.fval}.get(kind or "")
            if value is not None and len(set(columns)) == 1:
                found.setdefault(columns[0], []).append(value)
    return found


def choose(snapshot: Snapshot, parsed: Parsed, made: Sequence[MadeIndex]) -> list[Point]:
    """Points for one statement: constants for the parameters that are compared with columns of the new index (its keys
    and its predicate). Empty when there is none, or no statistics to take them from."""
    relations: list[Relation] = []
    for name in parsed.tables:
        relation = snapshot.relations.get(snapshot.resolved.get(name) or 0)
        if relation is not None:
            relations.append(relation)
    interesting = " ".join([*(a.expression for m in made for a in m.attributes), *(m.predicate or "" for m in made)])
    fixed = predicate_constants(made[0].predicate) if made and made[0].predicate else {}
    found: list[Point] = []
    for column, operator, number in compared(parsed.tree):
        if column not in interesting:
            continue
        stats = next((s for r in relations if (s := snapshot.column_stats(r, column)) is not None), None)
        candidates = [("the index's own predicate", v) for v in dict.fromkeys(fixed.get(column, [])[:MAX_POINTS])]
        for what, value in [*candidates, *(_candidates(stats) if stats is not None else [])]:
            text = substituted(parsed.tree, {number: value})
            label = clean_line(f"{column} {operator} {value[:40]!r} ({what})")
            tree = _reparse(text)
            left = len(parameter_numbers(tree))
            found.append(Point(label, replace(parsed, sql=text, parameters=left, tree=tree)))
    return found[: MAX_POINTS * 2]


def _reparse(text: str) -> Any:

    return parsing.parse(text)

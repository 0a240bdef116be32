"""Constants for the parameters of a normalised statement: common, rare and middle values of the statistics, values that lie
outside, what the server runs now, and what a partial index asks for.

A generic plan is one price of a statement, and custom plans have others. A point sets every parameter whose column has
statistics, all of them to the same kind of value; the others stay parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import postgast

from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.arrays import array_items
from indexpilot_tui.engine.whatif.made import MadeIndex
from indexpilot_tui.engine.whatif.scope import Scope
from indexpilot_tui.engine.whatif.shape import numbers
from indexpilot_tui.engine.whatif.snapshot import ColumnStats, Snapshot
from indexpilot_tui.engine.whatif.statements import Parsed, parameter_numbers, substituted

__all__ = ["KINDS", "TURNED", "Point", "Unshown", "array_items", "choose", "compared", "predicate_constants"]

KINDS = ("common", "rare", "median", "outside")
_ANY = 3  # values for an array in `= any($1)`
_OBSERVED = 3  # statements that run now, of one kind
TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_LIMITS = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1}


@dataclass(frozen=True, slots=True)
class Point:
    """A statement with constants in place of parameters. `kind` is one of KINDS, observed or predicate; `label` (cleaned)
    names the constants."""

    kind: str
    label: str
    parsed: Parsed


class Unshown(dict[int, str]):
    """Constants by parameter that are planned with and shown nowhere: values of rows."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A column compared with a parameter, the operator as if the column stood on the left (`turned`: it did not).
    `array`: the parameter holds several values; `items` parameters share a list."""

    column: str
    node: Any
    operator: str
    number: int
    array: bool = False
    items: int = 1
    turned: bool = False


def compared(tree: Any) -> Iterator[tuple[str, str, int]]:
    """(column, operator, parameter number) of every comparison of a column with one parameter, casts aside; the operator
    as if the column stood on the left."""
    for c in comparisons(tree):
        if not c.array and c.items == 1:
            yield c.column, c.operator, c.number


def comparisons(tree: Any) -> Iterator[Comparison]:
    """Every comparison of a column with a parameter, casts aside; each parameter of a list on its own."""
    from postgast import pg_query_pb2 as pb

    for expr in postgast.find_nodes(tree, pb.A_Expr):
        operator = expr.name[-1].string.sval if expr.name else ""
        for sign, left, right, turned in (
            (operator, expr.lexpr, expr.rexpr, False), (TURNED.get(operator, operator), expr.rexpr, expr.lexpr, True),
        ):  # fmt: skip
            name = _column(left)
            if name is None:
                continue
            if expr.kind in (pb.AEXPR_BETWEEN, pb.AEXPR_BETWEEN_SYM):
                ends = [_parameter(x) for x in right.list.items]
                yield from (
                    Comparison(name, left, s, n, items=2) for s, n in zip((">=", "<="), ends, strict=False) if n is not None
                )
            elif right.WhichOneof("node") == "list":
                listed = [n for x in right.list.items if (n := _parameter(x)) is not None]
                yield from (Comparison(name, left, sign, n, items=len(right.list.items)) for n in listed)
            elif (number := _parameter(right)) is not None:
                array = expr.kind in (pb.AEXPR_OP_ANY, pb.AEXPR_OP_ALL)
                yield Comparison(name, left, sign, number, array, turned=turned)


def _column(node: Any) -> str | None:
    while node.WhichOneof("node") == "type_cast":
        node = node.type_cast.arg
    if node.WhichOneof("node") == "column_ref" and node.column_ref.fields:
        return str(node.column_ref.fields[-1].string.sval) or None
    return None


def _parameter(node: Any) -> int | None:
    while node.WhichOneof("node") == "type_cast":
        node = node.type_cast.arg
    return int(node.param_ref.number) if node.WhichOneof("node") == "param_ref" else None


class _Values:
    """What to put in the place of parameters that are compared with one column. `shares` are those of the common values."""

    def __init__(self, stats: ColumnStats, type_: str) -> None:
        values, shares = array_items(stats.mcv), numbers(stats.mcf)
        pairs = zip(values, shares, strict=True) if len(values) == len(shares) else ()
        self.common = sorted(pairs, key=lambda p: (-p[1], p[0]))
        self.bounds = array_items(stats.histogram)
        self.type = type_.split("(", maxsplit=1)[0]

    def equal(self, kind: str, nth: int) -> tuple[str, str] | None:
        """The nth value of a kind, and what is known of it; None where the statistics have none."""
        if kind == "outside":
            beyond = self._beyond()
            return (beyond, "beyond the histogram") if beyond is not None else None
        if kind == "median" and self.bounds:
            return self.bounds[(len(self.bounds) // 2 + nth) % len(self.bounds)], "the middle of the histogram"
        if self.common:
            at = nth if kind == "common" else -1 - nth if kind == "rare" else len(self.common) // 2 + nth
            value, share = self.common[at % len(self.common)]
            return value, f"{100 * share:.2g} % of the rows"
        if self.bounds:
            return self.bounds[nth % len(self.bounds)], "one of many values"
        return None

    def bound(self, kind: str, operator: str) -> tuple[str, str] | None:
        """A bound such that an open range holds most rows (common), half of them (median), few (rare) or none (outside)."""
        upwards = operator in (">", ">=")
        if kind == "outside":
            beyond = self._beyond(up=upwards)
            return (beyond, "beyond the histogram") if beyond is not None else None
        if len(self.bounds) < 4:
            return self.equal(kind, 0)
        last = len(self.bounds) - 1
        share = {"common": 0.02, "median": 0.5, "rare": 0.98}[kind]
        at = round(last * (share if upwards else 1 - share))
        return self.bounds[at], f"about {100 * (1 - share):.0f} % of the histogram"

    def like(self, kind: str, nth: int) -> tuple[str, str] | None:
        found = self.equal(kind, nth)
        if found is None:
            return None
        return f"{found[0][: max(3, len(found[0]) // 2)]}%", f"as {found[1]}"

    def _beyond(self, *, up: bool = True) -> str | None:
        """A value past the end of the histogram, for types that are known to have one."""
        ends = (self.bounds[0], self.bounds[-1]) if len(self.bounds) > 1 else None
        if ends is None:
            return None
        if self.type in (*_LIMITS, "numeric", "real", "double precision"):
            return self._number_beyond(*ends, up=up)
        if self.type in ("date", "timestamp without time zone", "timestamp with time zone"):
            return self._time_beyond(*ends, up=up)
        if self.type in ("text", "character varying", "citext"):
            return f"{ends[1][:40]}zzz" if up else ""
        return None

    def _number_beyond(self, low: str, high: str, *, up: bool) -> str | None:
        try:
            least, most = Decimal(low), Decimal(high)
            value = most + (most - least) / 10 + 1 if up else least - (most - least) / 10 - 1
        except InvalidOperation:
            return None  # NaN, Infinity
        if not value.is_finite():
            return None
        if self.type in _LIMITS:
            return str(int(value)) if abs(int(value)) <= _LIMITS[self.type] else None
        return f"{value:f}"

    def _time_beyond(self, low: str, high: str, *, up: bool) -> str | None:
        read = date.fromisoformat if self.type == "date" else datetime.fromisoformat
        try:
            least, most = read(low), read(high)
            step = (most - least) / 10 + timedelta(days=1)
            return str(most + step if up else least - step)
        except (ValueError, OverflowError, TypeError):
            return None  # infinity, BC


def predicate_constants(predicate: str) -> dict[str, list[str]]:
    """The constants that a partial index's predicate compares each column with."""
    from postgast import pg_query_pb2 as pb

    found: dict[str, list[str]] = {}
    try:
        tree = parsing.parse(f"select where {predicate}")
    except postgast.PgQueryError:
        return found
    for expr in postgast.find_nodes(tree, pb.A_Expr):
        columns = [c.fields[-1].string.sval for c in postgast.find_nodes(expr, pb.ColumnRef) if c.fields]
        for constant in postgast.find_nodes(expr, pb.A_Const):
            kind = constant.WhichOneof("val")
            value = {"sval": constant.sval.sval, "ival": str(constant.ival.ival), "fval": constant.fval.fval}.get(kind or "")
            if value is not None and len(set(columns)) == 1:
                found.setdefault(columns[0], []).append(value)
    return found


def _statistics(snapshot: Snapshot, scope: Scope, c: Comparison) -> _Values | None:
    """Of the column that is meant; of a view's column, those of the only table that has one of that name."""
    owner = scope.column(c.node)
    if owner is not None:
        tables = [snapshot.relations[owner[0]]]
    else:
        tables = [r for r in snapshot.relations.values() if r.kind in ("r", "p", "m") and not r.is_partition]
    found = [
        (stats, column.type)
        for r in tables
        for column in r.columns
        if column.name == c.column and (stats := snapshot.column_stats(r, c.column)) is not None
    ]
    return _Values(*found[0]) if len(found) == 1 else None


def choose(
    snapshot: Snapshot, parsed: Parsed, made: Sequence[MadeIndex] = (), observed: Sequence[Mapping[int, str]] = ()
) -> list[Point]:
    """Points for one statement. `made` is the index of the change, for its predicate; `observed` the constants (by
    parameter) with which the statement runs now. Empty when there is nothing to take constants from."""
    wanted: list[tuple[str, dict[int, tuple[str, str]]]] = []
    found = list(comparisons(parsed.tree))
    scope = Scope(parsed.tree, snapshot)
    known = {c.number: _statistics(snapshot, scope, c) for c in found}
    for kind in KINDS:
        wanted.append((kind, _constants(kind, found, known)))
    fixed = predicate_constants(made[0].predicate) if made and made[0].predicate else {}
    for nth in range(max((len(v) for v in fixed.values()), default=0)):
        at = {
            c.number: (c.column, fixed[c.column][nth])
            for c in found
            if c.operator == "=" and not c.array and nth < len(fixed.get(c.column, ()))
        }
        rest = {n: v for n, v in _constants("median", found, known).items() if n not in at}
        if at:
            texts = {n: (f"{column} = {_shown(v)} (the index's own predicate)", v) for n, (column, v) in at.items()}
            wanted.append(("predicate", rest | texts))
    names = {c.number: c.column for c in found}
    for constants in observed[:_OBSERVED]:
        told = (lambda _: "as pg_qualstats saw it") if isinstance(constants, Unshown) else _shown
        running = {n: (f"{names.get(n, f'${n}')}: {told(v)}", v) for n, v in constants.items()}
        wanted.append(("observed", running))
    return list(_points(parsed, wanted))


def _shown(value: str) -> str:
    return repr(value if len(value) <= 40 else f"{value[:40]}…")


def _constants(kind: str, found: Sequence[Comparison], known: Mapping[int, _Values | None]) -> dict[int, tuple[str, str]]:
    """(what, value) by parameter."""
    chosen: dict[int, tuple[str, str]] = {}
    count: dict[str, int] = {}
    for c in found:
        values = known[c.number]
        if values is None or c.number in chosen:
            continue
        nth = count.get(c.column, 0)
        if c.array:
            each = [v for n in range(_ANY) if (v := values.equal(kind, nth + n)) is not None]
            distinct = list(dict.fromkeys(v for v, _ in each))
            pair = ("{" + ",".join(_quoted(v) for v in distinct) + "}", each[0][1]) if each else None
        elif c.operator in TURNED:
            pair = values.bound(kind, c.operator)
        elif c.operator in ("~~", "~~*"):
            pair = values.like(kind, nth)
        elif c.operator in ("=", "<>"):
            pair = values.equal(kind, nth)
        else:
            pair = None
        if pair is not None:
            chosen[c.number] = (f"{c.column} {c.operator} {_shown(pair[0])} ({pair[1]})", pair[0])
            count[c.column] = nth + 1
    return chosen


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _points(parsed: Parsed, wanted: Sequence[tuple[str, dict[int, tuple[str, str]]]]) -> Iterator[Point]:
    seen: set[str] = set()
    for kind, constants in wanted:
        if not constants:
            continue
        text = substituted(parsed.tree, {n: value for n, (_, value) in constants.items()})
        if text in seen:
            continue
        seen.add(text)
        tree = parsing.parse(text)
        label = clean_line(f"{kind}: " + ", ".join(what for what, _ in constants.values()), 300)
        yield Point(kind, label, replace(parsed, sql=text, parameters=len(parameter_numbers(tree)), tree=tree))

"""Which columns a statement looks for by equality, from PostgreSQL's own parse tree. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from indexpilot_tui.engine.postgres import parsing


@dataclass(frozen=True, slots=True)
class Filters:
    """`equal`: (schema or "", table, column) of `column = value` and `column in (values)`; a column without a table name
    is listed for each table of the statement. `order`: the columns of a plain ORDER BY of a statement on one table."""

    equal: frozenset[tuple[str, str, str]]
    order: tuple[str, ...]

    def looks_for(self, schema: str, table: str, column: str) -> bool:
        return (schema, table, column) in self.equal or ("", table, column) in self.equal


NOTHING = Filters(frozenset(), ())


def filters_of(sql: str) -> Filters:
    """The filters of one statement; nothing for what the parser does not take (a cut text, a utility statement)."""
    import postgast
    from postgast import pg_query_pb2 as pb

    try:
        tree = parsing.parse(sql)
    except postgast.PgQueryError:
        return NOTHING
    ranges = list(postgast.find_nodes(tree, pb.RangeVar))
    tables = {(r.alias.aliasname or r.relname): (r.schemaname, r.relname) for r in ranges}
    equal: set[tuple[str, str, str]] = set()
    for expr in postgast.find_nodes(tree, pb.A_Expr):
        if expr.kind not in (pb.AEXPR_OP, pb.AEXPR_IN, pb.AEXPR_OP_ANY) or _operator(expr) != "=":
            continue
        for side, other in ((expr.lexpr, expr.rexpr), (expr.rexpr, expr.lexpr)):
            names = _column(side)
            if not names or _column(other):
                continue  # no column, or column = column: a join
            qualifier = names[-2] if len(names) > 1 else ""
            matching = [t for alias, t in tables.items() if not qualifier or alias == qualifier]
            equal.update((schema, table, names[-1]) for schema, table in matching)
    order = tuple(_order(tree)) if len(ranges) == 1 else ()
    return Filters(frozenset(equal), order)


def _operator(expr: Any) -> str:
    return str(expr.name[-1].string.sval) if expr.name else ""


def _column(node: Any) -> list[str]:
    """The parts of a column's name; nothing for anything else."""
    if node.WhichOneof("node") != "column_ref":
        return []
    parts = [field.string.sval for field in node.column_ref.fields if field.WhichOneof("node") == "string"]
    return parts if len(parts) == len(node.column_ref.fields) else []


def _order(tree: Any) -> Iterator[str]:
    import postgast
    from postgast import pg_query_pb2 as pb

    for item in postgast.find_nodes(tree, pb.SortBy):
        names = _column(item.node)
        if not names or item.sortby_dir not in (pb.SORTBY_DEFAULT, pb.SORTBY_ASC):
            return
        yield names[-1]

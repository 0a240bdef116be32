"""Is the index in the catalog the one that was planned? Compared by structure, not by text."""

from __future__ import annotations

from typing import Any

from indexpilot_tui.engine.postgres.ddl import IndexStatement, parse_index_statement

# of pg_query's enums SortByDir and SortByNulls
_DESC, _NULLS_FIRST, _NULLS_DEFAULT = 3, 2, 1


def differences(planned: str, found: str) -> list[str]:
    """What tells the definition in the catalog (`pg_get_indexdef`) from the planned DDL; empty when nothing does.

    The server writes expressions and predicates anew (casts, parentheses) and leaves out default operator classes and
    collations, so: columns, order, NULLS, method, uniqueness, INCLUDE must be equal, an operator class or collation must
    be equal where the server shows one, and of expressions and predicates the columns in them. What was planned may be a
    step on a partitioned table, which says ON ONLY itself.
    """
    a, b = parse_index_statement(planned, only=True), parse_index_statement(found, only=True)
    found_out = [
        f"{what}: planned {x}, found {y}"
        for what, x, y in (
            ("method", a.method, b.method),
            ("unique", a.unique, b.unique),
            ("columns", len(a.columns), len(b.columns)),
            ("INCLUDE", _names(a), _names(b)),
            ("nulls not distinct", _stmt(a).nulls_not_distinct, _stmt(b).nulls_not_distinct),
            ("predicate on", _columns_in(_stmt(a).where_clause), _columns_in(_stmt(b).where_clause)),
            ("predicate", bool(a.where), bool(b.where)),
        )
        if x != y
    ]
    pairs = zip(_stmt(a).index_params, _stmt(b).index_params, strict=False)
    for number, (x, y) in enumerate(pairs, 1):
        found_out += [f"column {number}: {text}" for text in _element(x.index_elem, y.index_elem)]
    return found_out


def identical(planned: IndexStatement, found: str) -> bool:
    """Whether an existing definition is certainly the same index (texts of all parts equal): then a second is waste."""
    other = parse_index_statement(found, only=True)

    def parts(s: IndexStatement) -> tuple[Any, ...]:
        return s.method, s.unique, s.columns, s.include, s.where, bool(_stmt(s).nulls_not_distinct)

    return parts(planned) == parts(other)


def _stmt(statement: IndexStatement) -> Any:
    return statement.tree.index_stmt


def _names(statement: IndexStatement) -> list[str]:
    return [p.index_elem.name for p in _stmt(statement).index_including_params]


def _element(planned: Any, found: Any) -> list[str]:
    out = []
    if planned.name != found.name:
        out.append(f"planned {planned.name or 'an expression'}, found {found.name or 'an expression'}")
    if not planned.name and _columns_in(planned.expr) != _columns_in(found.expr):
        out.append(f"expression on {_columns_in(planned.expr)}, found one on {_columns_in(found.expr)}")
    if _order(planned) != _order(found):
        out.append("another order or NULLS placement")
    for what, x, y in (
        ("operator class", planned.opclass, found.opclass),
        ("collation", planned.collation, found.collation),
    ):
        x_name, y_name = _last(x), _last(y)
        if y_name and x_name != y_name:  # the server shows only what is not the default
            out.append(f"{what} planned {x_name or 'default'}, found {y_name}")
    return out


def _last(names: Any) -> str:
    return names[-1].string.sval if len(names) else ""


def _order(element: Any) -> tuple[bool, bool]:
    descending = element.ordering == _DESC
    nulls = element.nulls_ordering
    first = descending if nulls in (0, _NULLS_DEFAULT) else nulls == _NULLS_FIRST
    return descending, first


def _columns_in(node: Any) -> list[str]:
    """Names of the columns in an expression, sorted."""
    import postgast

    found = set()
    for _, part in postgast.walk(node):
        if type(part).__name__ == "ColumnRef":
            last = part.fields[-1]
            if last.WhichOneof("node") == "string":
                found.add(last.string.sval)
    return sorted(found)

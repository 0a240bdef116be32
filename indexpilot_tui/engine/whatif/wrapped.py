"""Statements in other statements: the query of a PREPARE or a cursor, and the names that a WITH takes away from tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_NESTED = 5  # EXPLAIN ANALYZE of CREATE TABLE AS, and the like


def take_out(tree: Any) -> Iterator[str]:
    """Put the query of a statement that carries one in its place; tells what was done."""
    for _ in range(_NESTED):
        node = tree.stmts[0].stmt
        kind = node.WhichOneof("node")
        if kind == "select_stmt" and node.select_stmt.HasField("into_clause"):
            node.select_stmt.ClearField("into_clause")
            yield "SELECT INTO is planned as its query"
        inner = _query_of(node, kind)
        if inner is None or not inner.WhichOneof("node"):
            return
        query = type(node)()
        query.CopyFrom(inner)
        node.CopyFrom(query)
        yield f"{_WRITTEN[kind]} is planned as its query"


_WRITTEN = {
    "prepare_stmt": "PREPARE", "declare_cursor_stmt": "a cursor", "copy_stmt": "COPY", "explain_stmt": "EXPLAIN ANALYZE",
    "create_table_as_stmt": "CREATE TABLE AS",
}  # fmt: skip


def _query_of(node: Any, kind: str | None) -> Any:
    """The query that a statement runs, or None."""
    if kind == "prepare_stmt":
        return node.prepare_stmt.query
    if kind == "declare_cursor_stmt":
        return node.declare_cursor_stmt.query
    if kind == "copy_stmt" and not node.copy_stmt.is_from:
        return node.copy_stmt.query
    if kind == "explain_stmt":
        return node.explain_stmt.query if any(_on(o.def_elem, "analyze") for o in node.explain_stmt.options) else None
    if kind == "create_table_as_stmt" and not node.create_table_as_stmt.into.skip_data:
        return node.create_table_as_stmt.query
    return None


def _on(option: Any, name: str) -> bool:
    value = option.arg
    zero = value.WhichOneof("node") == "integer" and value.integer.ival == 0
    off = zero or value.string.sval.lower() in ("off", "false", "0")
    return option.defname == name and not off


def tables(tree: Any) -> list[tuple[str, str]]:
    """The relations that a statement names, each once; names of common table expressions are left out where they are
    meant, and so are the aliases of FOR UPDATE OF."""
    from postgast import pg_query_pb2 as pb

    found: list[tuple[str, str]] = []
    left: list[tuple[Any, frozenset[str]]] = [(tree, frozenset())]
    while left:
        message, hidden = left.pop()
        if isinstance(message, pb.RangeVar):
            if message.schemaname or message.relname not in hidden:
                found.append((message.schemaname, message.relname))
            continue
        if isinstance(message, pb.LockingClause):
            continue
        below: list[tuple[Any, frozenset[str]]] = []
        inner = hidden
        for _, value in message.ListFields():
            if isinstance(value, pb.WithClause):
                parts = [c.common_table_expr for c in value.ctes]
                names = frozenset(c.ctename for c in parts)
                seen = hidden | names if value.recursive else hidden
                for c in parts:  # one that is not recursive sees those before it
                    below.append((c.ctequery, seen))
                    seen |= {c.ctename}
                inner = hidden | names
        for descriptor, value in message.ListFields():
            if descriptor.message_type is None or isinstance(value, pb.WithClause):
                continue
            target = isinstance(value, pb.RangeVar) and descriptor.name == "relation"  # of INSERT and the like: never a WITH
            items = value if descriptor.is_repeated else (value,)
            below += [(item, frozenset() if target else inner) for item in items]
        left.extend(reversed(below))
    return list(dict.fromkeys(found))

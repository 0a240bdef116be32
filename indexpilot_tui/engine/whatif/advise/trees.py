"""Small things that are done with parse trees of PostgreSQL's own parser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from indexpilot_tui.engine.whatif.advise.scope import Output

AND_EXPR, OR_EXPR, NOT_EXPR = 1, 2, 3  # pg_query's BoolExprType


def pb_node(kind: str, message: Any) -> Any:
    """A message in its Node wrapper."""
    from postgast import pg_query_pb2 as pb

    node = pb.Node()
    getattr(node, kind).CopyFrom(message)
    return node


def bare(node: Any, names: dict[tuple[str, ...], str]) -> str:
    """An expression as SQL, its columns without qualifier and by the table's own names."""
    import postgast
    from postgast import pg_query_pb2 as pb

    tree = pb.ParseResult()
    target = tree.stmts.add().stmt.select_stmt.target_list.add()
    target.res_target.val.CopyFrom(node)
    for column in postgast.find_nodes(tree, pb.ColumnRef):
        own = names[tuple(f.string.sval for f in column.fields)]
        del column.fields[:]
        column.fields.add().string.sval = own
    return str(postgast.deparse(tree)).removeprefix("SELECT ").strip()


def renamed(outputs: dict[str, Output], alias: Any) -> dict[str, Output]:
    names = [c.string.sval for c in alias.colnames]
    values = list(outputs.values())
    return {**dict(zip(names, values, strict=False)), **dict(list(outputs.items())[len(names) :])} if names else outputs


def constant_of(node: Any) -> str | None:
    while node.WhichOneof("node") == "type_cast":
        node = node.type_cast.arg
    if node.WhichOneof("node") != "a_const":
        return None
    kind = node.a_const.WhichOneof("val")
    if kind == "sval":
        return str(node.a_const.sval.sval)
    if kind == "ival":
        return str(node.a_const.ival.ival)
    return str(node.a_const.fval.fval) if kind == "fval" else None


def factored(node: Any, text_of: Callable[[Any], str], *, top: bool) -> tuple[list[Any], list[Any]]:
    """The arguments of AND, OR and NOT: those that must hold for the whole to hold, and the others. As the planner does
    (find_duplicate_ors in prepqual.c), what stands in every arm of an OR is taken out of it, and an arm that says no more
    than that makes the OR say no more. `text_of` gives what two equal expressions have in common; `top`: the condition
    itself must hold (under NOT the planner would turn it round first)."""
    args, kind = list(node.bool_expr.args), node.bool_expr.boolop
    if kind == AND_EXPR:
        return args, []
    return _out_of_or(node, text_of) if kind == OR_EXPR and top else ([], args)


def _out_of_or(node: Any, text_of: Callable[[Any], str]) -> tuple[list[Any], list[Any]]:
    arms = [{text_of(c): c for c in _conjuncts(arm, text_of)} for arm in _parts(node, OR_EXPR)]
    shared = {text: c for text, c in arms[0].items() if all(text in arm for arm in arms)}
    if any(len(arm) == len(shared) for arm in arms):
        return list(shared.values()), []
    return list(shared.values()), [c for arm in arms for text, c in arm.items() if text not in shared]


def _conjuncts(node: Any, text_of: Callable[[Any], str]) -> Iterator[Any]:
    """What must hold for an arm to hold; an OR in it gives what stands in each of its own arms, and itself."""
    for part in _parts(node, AND_EXPR):
        if not _is(part, OR_EXPR):
            yield part
            continue
        shared, rest = _out_of_or(part, text_of)
        yield from shared
        if rest:
            yield part


def _is(node: Any, kind: int) -> bool:
    return bool(node.WhichOneof("node") == "bool_expr" and node.bool_expr.boolop == kind)


def _parts(node: Any, kind: int) -> Iterator[Any]:
    """The arguments of one operator, however they are put in brackets."""
    if not _is(node, kind):
        yield node
        return
    for arg in node.bool_expr.args:
        yield from _parts(arg, kind)


def add(items: list[str], item: str) -> None:
    if item not in items:
        items.append(item)


def returning(stmt: Any) -> list[Any]:
    """RETURNING's expressions (a clause of its own in the tree of PostgreSQL 18's parser, a list before)."""
    names = {f.name for f in stmt.DESCRIPTOR.fields}
    if "returning_clause" in names:
        return list(stmt.returning_clause.exprs)
    return list(stmt.returning_list)

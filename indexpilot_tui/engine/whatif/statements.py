"""Statements made ready to be planned: parsed, repaired where pg_stat_statements made them unparsable, or left out.

The parser is PostgreSQL's own. What pg_stat_statements replaces by $n does not always parse or analyse again:
`interval $1`, `date $1` (the parser accepts them and writes `$1::interval`), `extract($1 from x)`, `any(array[$1, $2])`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.wrapped import tables, take_out

KINDS = {
    "select_stmt": "select", "insert_stmt": "insert", "update_stmt": "update", "delete_stmt": "delete",
    "merge_stmt": "merge",
}  # fmt: skip
HIDDEN = "<insufficient privilege>"
MAX_CHARS = 200_000
OWN = re.compile(r"\s*/\* indexpilot")


@dataclass(frozen=True, slots=True)
class Parsed:
    """`sql` is what to plan; empty when `refused` says why not. `tables` are (schema or '', name) as written, without
    the names of common table expressions. `parameters` is the highest $n; `writes` names the columns that an UPDATE sets,
    of the table `target`."""

    statement: Statement
    sql: str
    kind: str
    tables: tuple[tuple[str, str], ...]
    parameters: int
    refused: str = ""
    repaired: tuple[str, ...] = ()
    target: tuple[str, str] | None = None
    writes: tuple[str, ...] = ()
    tree: Any = field(default=None, repr=False, compare=False)
    utility: bool = False  # refused because there is nothing to plan in it
    calls: tuple[str, ...] = ()  # the functions that it calls

    @property
    def shown(self) -> str:
        """The statement on one line, cleaned."""
        return clean_line(self.statement.sql)


def _refuse(statement: Statement, reason: str, *, utility: bool = False) -> Parsed:
    return Parsed(statement, "", "", (), 0, refused=reason, utility=utility)


def parse(statement: Statement) -> Parsed:
    """Parse and repair one statement. Never raises: what cannot be planned comes back with `refused`."""
    import postgast

    text = statement.sql
    if HIDDEN in text[:40]:
        return _refuse(statement, "the text is hidden from this role: grant pg_read_all_stats (or pg_monitor)")
    if "\x00" in text:
        return _refuse(statement, "there is a NUL character in it")
    if len(text) > MAX_CHARS:
        return _refuse(statement, f"longer than {MAX_CHARS:,} characters")
    try:
        tree = parsing.parse(text)
    except postgast.PgQueryError as exc:
        said = clean_line(str(exc), 160)
        return _refuse(statement, said if said.endswith(parsing.UNREAD) else f"PostgreSQL's parser says: {said}")
    if len(tree.stmts) != 1:
        return _refuse(statement, f"{len(tree.stmts)} statements in one")
    outer = tree.stmts[0].stmt.WhichOneof("node") or "empty"
    taken_out = tuple(take_out(tree))
    node = tree.stmts[0].stmt
    kind = KINDS.get(node.WhichOneof("node") or "")
    if kind is None:
        reason = f"a utility statement ({outer.removesuffix('_stmt')})"
        return _refuse(statement, "EXPLAIN alone runs nothing" if outer == "explain_stmt" else reason, utility=True)
    numbers = [p.number for p in postgast.find_nodes(tree, postgast.pg_query_pb2.ParamRef)]
    repaired = taken_out
    sql = str(postgast.deparse(tree)) if taken_out else text
    if numbers:
        repaired += tuple(_repair(tree))
        sql = postgast.deparse(tree)
        left = parameter_numbers(tree)
        if left != list(range(1, len(left) + 1)):  # a repair took one away, and a gap in the numbers is an error before 16
            sql = substituted(tree, {})
            tree = parsing.parse(sql)
    target, writes = _writes(node, kind)
    functions = postgast.find_nodes(tree, postgast.pg_query_pb2.FuncCall)
    calls = {c.funcname[-1].string.sval for c in functions if c.funcname}
    return Parsed(
        statement, sql, kind, tuple(tables(tree)), max(numbers, default=0), "", repaired, target, writes, tree,
        calls=tuple(sorted(calls)),
    )  # fmt: skip


def _writes(node: Any, kind: str) -> tuple[tuple[str, str] | None, tuple[str, ...]]:
    if kind == "update":
        stmt = node.update_stmt
        return (stmt.relation.schemaname, stmt.relation.relname), tuple(t.res_target.name for t in stmt.target_list)
    if kind == "insert":
        stmt = node.insert_stmt
        name = (stmt.relation.schemaname, stmt.relation.relname)
        return name, tuple(t.res_target.name for t in stmt.on_conflict_clause.target_list)
    if kind in ("delete", "merge"):
        stmt = getattr(node, f"{kind}_stmt")
        return (stmt.relation.schemaname, stmt.relation.relname), ()
    return None, ()


def _repair(tree: Any) -> Iterator[str]:
    """Change in place what would parse but not analyse; tells what was changed."""
    import postgast
    from postgast import pg_query_pb2 as pb

    for call in postgast.find_nodes(tree, pb.FuncCall):
        names = [n.string.sval for n in call.funcname]
        if names[-1:] == ["extract"] and call.args and call.args[0].WhichOneof("node") == "param_ref":
            # the field was a constant of the grammar; which one makes no difference to a plan but its type does
            call.args[0].a_const.sval.sval = "year"
            yield "extract($n from ...) is planned as extract(year from ...)"
    for select in postgast.find_nodes(tree, pb.SelectStmt):
        if _same_expressions(select):
            yield "an expression that is written twice is planned as one"
    for expr in postgast.find_nodes(tree, pb.A_Expr):
        operator = expr.name[-1].string.sval if expr.name else ""
        wanted = {pb.AEXPR_OP_ANY: "=", pb.AEXPR_OP_ALL: "<>"}.get(expr.kind)
        elements = list(expr.rexpr.a_array_expr.elements)
        if wanted != operator or not elements or not all(e.WhichOneof("node") == "param_ref" for e in elements):
            continue
        # an array of parameters alone is text[]; as a list each takes the type of the column
        expr.kind = pb.AEXPR_IN
        copies = [pb.Node.FromString(e.SerializeToString()) for e in elements]
        expr.rexpr.list.items.extend(copies)
        yield "= any(array[$n, ...]) is planned as in ($n, ...)"


def _same_expressions(select: Any) -> bool:
    """`select f(x, $1) ... group by f(x, 'y')`: the server saw one expression there and normalised one of its two texts."""
    found = False
    written = [*select.group_clause, *select.distinct_clause, *(s.sort_by.node for s in select.sort_clause)]
    kinds = ("func_call", "a_expr", "type_cast", "case_expr", "coalesce_expr")
    twice = [w for w in written if w.WhichOneof("node") in kinds]
    shapes = {_shape(w): w for w in twice}
    for target in select.target_list:
        value = target.res_target.val
        twin = shapes.get(_shape(value)) if _param_nodes(value) else None
        if twin is not None and twin.SerializeToString() != value.SerializeToString():
            value.CopyFrom(twin)
            found = True
    return found


def _shape(node: Any) -> bytes:
    """An expression with its constants and parameters all alike, and without locations."""
    copy = type(node).FromString(node.SerializeToString())
    _blank(copy)
    return bytes(copy.SerializeToString(deterministic=True))


def _blank(message: Any) -> None:
    from postgast import pg_query_pb2 as pb

    left = [message]
    while left:
        part = left.pop()
        if isinstance(part, pb.Node) and part.WhichOneof("node") in ("param_ref", "a_const"):
            part.param_ref.number = 1
            part.param_ref.ClearField("location")
            continue
        for descriptor, value in part.ListFields():
            if descriptor.name == "location":
                part.ClearField("location")
            elif descriptor.message_type is not None:
                left.extend(value if descriptor.is_repeated else (value,))


def numbered(tree: Any, casts: Mapping[int, str]) -> str:
    """The statement with parameters (by number) cast to types, deparsed: for what is ambiguous otherwise."""
    import postgast
    from postgast import pg_query_pb2 as pb

    copy = pb.ParseResult()
    copy.CopyFrom(tree)
    for node in _param_nodes(copy):
        type_name = casts.get(node.param_ref.number)
        if type_name is not None:
            cast = pb.Node()
            cast.type_cast.arg.CopyFrom(node)
            cast.type_cast.type_name.names.add().string.sval = type_name
            cast.type_cast.type_name.typemod = -1
            node.CopyFrom(cast)
    return str(postgast.deparse(copy))


def substituted(tree: Any, values: dict[int, str]) -> str:
    """The statement with parameters replaced by string constants (the server gives them their type), deparsed; the
    parameters that are left are numbered from 1 again, because a gap in the numbers is an error."""
    import postgast
    from postgast import pg_query_pb2 as pb

    copy = pb.ParseResult()
    copy.CopyFrom(tree)
    left = {old: new for new, old in enumerate((n for n in parameter_numbers(tree) if n not in values), 1)}
    for node in _param_nodes(copy):
        value = values.get(node.param_ref.number)
        if value is not None:
            node.a_const.sval.sval = value
        else:
            node.param_ref.number = left[node.param_ref.number]
    return str(postgast.deparse(copy))


def _param_nodes(message: Any) -> list[Any]:
    """Every Node wrapper that holds a parameter, found without postgast's walk (it unwraps the wrappers)."""
    from postgast import pg_query_pb2 as pb

    found: list[Any] = []
    left = [message]
    while left:
        for descriptor, value in left.pop().ListFields():
            if descriptor.message_type is None:
                continue
            for item in value if descriptor.is_repeated else (value,):
                if isinstance(item, pb.Node) and item.WhichOneof("node") == "param_ref":
                    found.append(item)
                else:
                    left.append(item)
    return found


def parameter_numbers(tree: Any) -> list[int]:
    return sorted({n.param_ref.number for n in _param_nodes(tree)})

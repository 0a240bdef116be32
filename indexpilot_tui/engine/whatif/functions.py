"""Functions of the target that definitions and statements call: what a planner has to know of them, and nothing that runs.

A planner needs a function's name, types, volatility and cost; it runs one itself only when its arguments are constants, or
to look into it. A function of SQL that is declared immutable and only puts expressions together is made as it is. In the
place of any other stands one of the same properties that raises an error: a plan that would need its result is not made.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

import postgast
from psycopg import sql

from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.restore import Step, name_of
from indexpilot_tui.engine.whatif.snapshot import Function, Snapshot

STANDS_IN = "IX901"  # SQLSTATE of a function that only stands in for the target's
_RETURN = re.compile(r"\n\s*RETURN (.+)\Z", re.DOTALL)
_VOLATILITY = {"i": "immutable", "s": "stable", "v": "volatile"}
_PARALLEL = {"s": "safe", "r": "restricted", "u": "unsafe"}


def names_of(tree: Any) -> set[str]:
    """The functions that a statement calls, without their schemas."""
    from postgast import pg_query_pb2 as pb

    return {c.funcname[-1].string.sval for c in postgast.find_nodes(tree, pb.FuncCall) if c.funcname}


def runs(function: Function, snapshot: Snapshot, volatile: Collection[str]) -> bool:
    """Whether a function may be made as it is: SQL, immutable, one SELECT that reads no table, and calls of nothing that is
    `volatile`. Other functions of the target it may call when they were there before and may be made as they are, too."""
    from postgast import pg_query_pb2 as pb

    expression = _RETURN.search(function.definition or "")
    text = f"select {expression[1]}" if expression else function.body or ""
    if not function.definition or function.language != "sql" or function.volatility != "i" or not text.strip():
        return False
    try:
        tree = parsing.parse(text)
    except postgast.PgQueryError:
        return False
    if len(tree.stmts) != 1 or tree.stmts[0].stmt.WhichOneof("node") != "select_stmt":
        return False
    selects = list(postgast.find_nodes(tree, pb.SelectStmt))
    if any(s.from_clause or s.HasField("into_clause") or s.HasField("with_clause") for s in selects):
        return False
    called = names_of(tree)
    others = [f for f in snapshot.functions if f.name in called]
    if called & set(volatile) or any(f.oid >= function.oid for f in others):
        return False
    return all(runs(f, snapshot, volatile) for f in others)


def stand_ins(snapshot: Snapshot, volatile: Collection[str]) -> list[Function]:
    """Those that are not made as they are."""
    return [f for f in snapshot.functions if not runs(f, snapshot, volatile)]


def steps(snapshot: Snapshot, stand_ins: Collection[Function]) -> Iterator[Step]:
    """The functions of a snapshot, `stand_ins` among them without their texts."""
    without = {f.oid for f in stand_ins}
    for f in snapshot.functions:
        what = clean_line(f"function {f.schema}.{f.name}({f.identity})")
        stand_in = _stand_in(f)
        if f.oid not in without and f.definition:
            yield Step(sql.Composed([sql.SQL(f.definition)]), what, fallback=stand_in, without="without its text")
        else:
            yield Step(stand_in, what)


def _stand_in(f: Function) -> sql.Composed:
    said = clean_line(f"{f.schema}.{f.name} is a function of the target, and it does not run here")
    parts = [sql.SQL("create function {}({}) returns {}").format(
        name_of(f.schema, f.name), sql.SQL(f.arguments), sql.SQL(f.result),
    )]  # fmt: skip
    parts.append(sql.SQL(f"language plpgsql {_VOLATILITY.get(f.volatility, 'volatile')}"))  # type: ignore[arg-type]
    parts.append(sql.SQL(f"parallel {_PARALLEL.get(f.parallel, 'unsafe')} cost {max(f.cost, 0.0001):g}"))  # type: ignore[arg-type]
    if f.strict:
        parts.append(sql.SQL("strict").format())
    if f.returns_set and f.rows > 0:
        parts.append(sql.SQL(f"rows {f.rows:g}"))  # type: ignore[arg-type]
    body = sql.SQL("begin raise exception using message = {}, errcode = {}; end").format(
        sql.Literal(said), sql.Literal(STANDS_IN)
    )  # fmt: skip
    parts.append(sql.SQL("as {}").format(sql.Literal(body.as_string(None))))
    return sql.SQL(" ").join(parts)


def as_parameters(tree: Any, snapshot: Snapshot, stand_ins: Collection[Function]) -> tuple[str, list[str]]:
    """The statement with parameters in the place of calls that do not depend on a row, of functions that only stand in for
    the target's; and the names of those. Nothing is replaced where it is not clear which function is meant."""
    from postgast import pg_query_pb2 as pb

    by_name: dict[str, list[Function]] = {}
    for f in snapshot.functions:
        by_name.setdefault(f.name, []).append(f)
    copy = pb.ParseResult()
    copy.CopyFrom(tree)
    number = max((p.number for p in postgast.find_nodes(tree, pb.ParamRef)), default=0)
    replaced: list[str] = []
    left = [copy]
    while left:
        message = left.pop()
        if isinstance(message, pb.Node) and message.WhichOneof("node") == "func_call":
            call = message.func_call
            meant = by_name.get(call.funcname[-1].string.sval, []) if call.funcname else []
            depends = any(True for _ in postgast.find_nodes(call, pb.ColumnRef))
            if (
                len(meant) == 1
                and meant[0] in stand_ins
                and not meant[0].returns_set
                and meant[0].volatility != "v"
                and not depends
            ):
                number += 1
                message.CopyFrom(_parameter(number, meant[0].result))
                replaced.append(clean_line(f"{meant[0].schema}.{meant[0].name}"))
                continue
        for descriptor, value in message.ListFields():
            if descriptor.message_type is not None:
                left.extend(value if descriptor.is_repeated else (value,))
    return str(postgast.deparse(copy)), sorted(set(replaced))


def _parameter(number: int, type_: str) -> Any:
    """`$number::type`, as a node."""
    tree = parsing.parse(f"select ${number}::{type_}")
    return tree.stmts[0].stmt.select_stmt.target_list[0].res_target.val

"""Functions of the target that definitions and statements call: what a planner has to know of them, and nothing that runs.

A planner needs a function's name, types, volatility and cost; it runs one itself only when its arguments are constants, or
to look into it. A function of SQL that is declared immutable and only puts PostgreSQL's own immutable functions and
operators together is made as it is. In the place of any other stands one of the same properties that raises an error: a plan
that would need its result is not made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import postgast
from psycopg import sql

from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif import definitions
from indexpilot_tui.engine.whatif.restore import Step, made, name_of
from indexpilot_tui.engine.whatif.snapshot import Function, Snapshot

if TYPE_CHECKING:
    from indexpilot_tui.engine.whatif.database import ShadowDatabase

STANDS_IN = "IX901"  # SQLSTATE of a function that only stands in for the target's
_RETURN = re.compile(r"\n\s*RETURN (.+)\Z", re.DOTALL)
_VOLATILITY = {"i": "immutable", "s": "stable", "v": "volatile"}
_BUILT_IN = """
select 'function' as kind, proname::text as name,
       bool_or(provolatile = 'i') and not bool_or(provolatile = 'v') as immutable from pg_proc
 where pronamespace = 'pg_catalog'::regnamespace group by 2
union all
select 'operator', o.oprname::text, bool_or(p.provolatile = 'i') and not bool_or(p.provolatile = 'v')
  from pg_operator o join pg_proc p on p.oid = o.oprcode
 where o.oprnamespace = 'pg_catalog'::regnamespace group by 2
"""
_PARALLEL = {"s": "safe", "r": "restricted", "u": "unsafe"}


def names_of(tree: Any) -> set[str]:
    """The functions that a statement calls, without their schemas."""
    from postgast import pg_query_pb2 as pb

    return {c.funcname[-1].string.sval for c in postgast.find_nodes(tree, pb.FuncCall) if c.funcname}


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """The functions and operators of pg_catalog by name. `immutable`: those that have an immutable form, and none that is
    volatile (a text does not say which form is meant: `||` of two texts is immutable, that of a text and a date is not)."""

    functions: frozenset[str]
    immutable: frozenset[str]
    operators: frozenset[str]  # the same of operators


async def built_in(shadow: ShadowDatabase) -> BuiltIn:
    rows = await shadow.rows(_BUILT_IN)
    return BuiltIn(
        frozenset(r["name"] for r in rows if r["kind"] == "function"),
        frozenset(r["name"] for r in rows if r["kind"] == "function" and r["immutable"]),
        frozenset(r["name"] for r in rows if r["kind"] == "operator" and r["immutable"]),
    )


def body_of(function: Function, snapshot: Snapshot, known: BuiltIn) -> str | None:
    """The expression that a function of the target is, made anew, or None where it may not be made as it is: it is SQL,
    immutable, and one SELECT of nothing but its arguments, constants, and functions and operators of PostgreSQL's own that
    are immutable. Functions of the target that are such themselves, and were there before, are as good."""
    expression = _RETURN.search(function.definition or "")
    text = f"select {expression[1]}" if expression else function.body or ""
    if not function.definition or function.language != "sql" or function.volatility != "i" or not text.strip():
        return None
    try:
        written, tree = definitions.scalar(text)
    except definitions.DefinitionError:
        return None
    others = {f.name: f for f in snapshot.functions}
    for call in definitions.calls(tree):
        schema, name = call
        other = others.get(name)
        if other is not None and schema != "pg_catalog":
            if other.oid >= function.oid or body_of(other, snapshot, known) is None:
                return None
        elif schema not in ("", "pg_catalog") or name not in known.immutable:
            return None
    if any(schema not in ("", "pg_catalog") or name not in known.operators for schema, name in definitions.operators(tree)):
        return None
    return written


def stand_ins(snapshot: Snapshot, known: BuiltIn) -> list[Function]:
    """Those that are not made as they are."""
    return [f for f in snapshot.functions if body_of(f, snapshot, known) is None]


def steps(snapshot: Snapshot, stand_ins: Collection[Function], known: BuiltIn) -> Iterator[Step]:
    """The functions of a snapshot, `stand_ins` among them without their texts."""
    without = {f.oid for f in stand_ins}
    for f in snapshot.functions:
        what = clean_line(f"function {f.schema}.{f.name}({f.identity})")
        stand_in = made(what, partial(_create, f, None))
        body = None if f.oid in without else body_of(f, snapshot, known)
        if body is None or stand_in.statement is None:
            yield stand_in
        else:
            as_it_is = made(what, partial(_create, f, body))
            yield replace(as_it_is, fallback=stand_in.statement, without="without its text")


def _create(f: Function, body: str | None) -> sql.Composed:
    """As it is where there is a `body`; else with one that raises an error, and so can do nothing and has no value that a
    planner could take for the function's."""
    language = "plpgsql" if body is None else "sql"
    parts: list[sql.Composable] = [sql.SQL(f"language {language} {_VOLATILITY.get(f.volatility, 'volatile')}")]
    cost = f.cost if math.isfinite(f.cost) else 100.0
    parts.append(sql.SQL(f"parallel {_PARALLEL.get(f.parallel, 'unsafe')} cost {min(max(cost, 0.0001), 1e15):.15g}"))
    if f.strict:
        parts.append(sql.SQL("strict"))
    if f.returns_set and 0 < f.rows < 1e15:
        parts.append(sql.SQL(f"rows {f.rows:.15g}"))
    if body is None:
        said = clean_line(f"{f.schema}.{f.name} is a function of the target, and it does not run here")
        raising = sql.SQL("begin raise exception using message = {}, errcode = {}; end").format(
            sql.Literal(said), sql.Literal(STANDS_IN)
        )  # fmt: skip
        text = raising.as_string(None)
    else:
        text = f"select {body}"
    parts.append(sql.SQL("as {}").format(sql.Literal(text)))
    return definitions.function(
        name_of(f.schema, f.name).as_string(None), f.arguments, f.result, sql.SQL(" ").join(parts).as_string(None)
    )


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

"""The constants with which statements run now: from the texts of pg_stat_activity, for statements that are known without
their constants from pg_stat_statements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import postgast

from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.whatif.read import Reader
from indexpilot_tui.engine.whatif.statements import HIDDEN, Parsed, parameter_numbers
from indexpilot_tui.errors import IndexPilotError

MOST = 3  # of one statement
MAX_CHARS = 20_000
Constants = dict[int, str]  # by parameter


async def read_observed(reader: Reader, parsed: Sequence[Parsed]) -> tuple[dict[str, list[Constants]], str]:
    """Constants by the key of the statement, and a note when they could not be read. One question to the target, none
    when no statement has parameters."""
    wanted = [p for p in parsed if p.parameters and not p.refused]
    if not wanted:
        return {}, ""
    try:
        rows = await reader.ask("observed")
    except IndexPilotError as exc:
        if reader.session.closed:
            raise
        return {}, f"which constants run now is not known: {exc.message}"
    texts = [r["query"] for r in rows if r["query"] and HIDDEN not in r["query"][:40] and len(r["query"]) <= MAX_CHARS]
    return match(texts, wanted), ""


def match(texts: Sequence[str], parsed: Sequence[Parsed]) -> dict[str, list[Constants]]:
    """The constants that running texts have where statements have parameters."""
    running: dict[str, list[Any]] = {}
    for text in texts:
        try:
            tree = parsing.parse(text)  # first: it refuses what is nested too deep for the other
            running.setdefault(str(postgast.fingerprint(text).hex), []).append(tree)
        except postgast.PgQueryError:
            continue  # cut off at track_activity_query_size, or no SQL: nothing can be taken from it
    found: dict[str, list[Constants]] = {}
    for p in parsed if running else ():
        try:
            trees = running.get(str(postgast.fingerprint(p.statement.sql).hex), ())
            shape = parsing.parse(p.statement.sql) if trees else None
        except postgast.PgQueryError:
            continue
        if shape is None or parameter_numbers(shape) != parameter_numbers(p.tree):
            continue  # a repair took a parameter away, and the others have other numbers now
        for tree in trees:
            constants = aligned(shape, tree)
            if constants and constants not in found.setdefault(p.statement.key, []):
                found[p.statement.key].append(constants)
    return {key: values[:MOST] for key, values in found.items() if values}


def aligned(shape: Any, tree: Any) -> Constants | None:
    """The constants of `tree` where `shape` has parameters; None when they are not the same statement otherwise."""
    from postgast import pg_query_pb2 as pb

    constants: Constants = {}
    left = [(shape, tree)]
    while left:
        ours, theirs = left.pop()
        if isinstance(ours, pb.Node) and ours.WhichOneof("node") == "param_ref":
            value = constant(theirs)
            if value is None:
                return None
            constants[ours.param_ref.number] = value
            continue
        fields, others = _fields(ours), _fields(theirs)
        if fields.keys() != others.keys():
            return None
        for name, (descriptor, value) in fields.items():
            other = others[name][1]
            if descriptor.message_type is None:
                if value != other:
                    return None
            elif descriptor.is_repeated:
                if len(value) != len(other):
                    return None
                left.extend(zip(value, other, strict=True))
            else:
                left.append((value, other))
    return constants


def _fields(message: Any) -> dict[str, tuple[Any, Any]]:
    return {d.name: (d, v) for d, v in message.ListFields() if d.name not in ("location", "stmt_len", "stmt_location",
            "list_start", "list_end", "rexpr_list_start", "rexpr_list_end")}  # fmt: skip


def constant(node: Any) -> str | None:
    """A constant as text; the type that it was written with is that of the column in most cases, so it is left out."""
    while node.WhichOneof("node") == "type_cast":
        node = node.type_cast.arg
    if node.WhichOneof("node") == "a_expr" and not node.a_expr.HasField("lexpr"):  # a sign
        value = constant(node.a_expr.rexpr)
        sign = node.a_expr.name[-1].string.sval if node.a_expr.name else ""
        return f"-{value}" if value is not None and sign == "-" else value if sign == "+" else None
    if node.WhichOneof("node") != "a_const" or node.a_const.isnull:
        return None
    kind = node.a_const.WhichOneof("val")
    if kind == "ival":
        return str(node.a_const.ival.ival)
    if kind == "fval":
        return str(node.a_const.fval.fval)
    if kind == "boolval":
        return "true" if node.a_const.boolval.boolval else "false"
    return str(node.a_const.sval.sval) if kind == "sval" else None

"""PostgreSQL's own parser, for texts that come from anywhere: it is C and recursive, and a text that is nested deep enough
would end this process."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

# Measured: the parser's library overflows a stack of 8 MB between 20,000 and 90,000 operators in a row, its deparser at
# 2,000 subqueries in each other (some 10,000 messages deep); rooms that walk a tree by recursion take some 800 levels.
MAX_DEPTH = 600  # messages in each other: 300 operators in a row, 75 subqueries in each other
MAX_OPERATORS = 15_000
UNREAD = ", which is not looked at"  # how the message of such a refusal ends
_LONG = 20_000  # characters in which there cannot be too many operators
_SHORT = 600  # characters that cannot be nested too deep


@cache
def _unlimited() -> None:
    """Protobuf refuses what is nested deeper than 100 messages (33 joins); the limit here is MAX_DEPTH."""
    try:
        import_module("google._upb._message").SetAllowOversizeProtos(True)
    except ImportError:  # its implementation in Python has a limit of its own
        import_module("google.protobuf.internal.decoder").SetRecursionLimit(MAX_DEPTH * 2)


def _operators(text: str) -> int:
    """Tokens that may nest: all but names, numbers, strings and commas."""
    import postgast
    from postgast import pg_query_pb2 as pb

    flat = {pb.ASCII_44, pb.IDENT, pb.PARAM, pb.ICONST, pb.FCONST, pb.SCONST, pb.ASCII_40, pb.ASCII_41, pb.C_COMMENT}
    return sum(t.token not in flat for t in postgast.scan(text).tokens)


def _depth(tree: Any, most: int) -> int:
    """How deep the messages of a tree are nested, `most` + 1 for anything deeper."""
    deepest, left = 0, [(tree, 0)]
    while left:
        message, depth = left.pop()
        deepest = max(deepest, depth)
        if depth > most:
            return depth
        for field, value in message.ListFields():
            if field.message_type is not None:
                left.extend((item, depth + 1) for item in (value if field.is_repeated else (value,)))
    return deepest


def parse(text: str) -> Any:
    """The parse tree (pg_query_pb2.ParseResult). Raises postgast.PgQueryError for what is no SQL, and for what is nested too
    deep or too long to be looked at safely."""
    import postgast

    _unlimited()
    if len(text) > _LONG and _operators(text) > MAX_OPERATORS:
        raise postgast.PgQueryError(f"more than {MAX_OPERATORS:,} operators{UNREAD}")
    tree = postgast.parse(text)
    if len(text) > _SHORT and _depth(tree, MAX_DEPTH) > MAX_DEPTH:
        raise postgast.PgQueryError(f"nested deeper than {MAX_DEPTH} levels{UNREAD}")
    return tree

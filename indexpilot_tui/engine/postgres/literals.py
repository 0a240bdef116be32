"""The text of a statement without the values in it: what is kept of it for months."""

from __future__ import annotations

from functools import cache

# pg_stat_statements puts $1 for the literals of these; of anything else (ALTER ROLE ... PASSWORD '...') it keeps the text
_NORMALISED = ("select", "insert", "update", "delete", "merge", "with", "values", "table")


def without_literals(query: str) -> str | None:
    """The statement normalised and without its comments; None for a utility statement, no SQL, or a text that was cut off.

    The server has normalised most of them. One whose entry was evicted while it ran is kept with its literals, and a comment
    may hold anything.
    """
    import postgast

    try:
        text = _without_comments(query).strip()
        return postgast.normalize(text) if text.lstrip("( ").lower().startswith(_NORMALISED) else None
    except postgast.PgQueryError:
        return None


def _without_comments(query: str) -> str:
    import postgast

    if "--" not in query and "/*" not in query:
        return query
    data, kept, end = query.encode(), bytearray(), 0
    for token in postgast.scan(query).tokens:  # offsets are of bytes
        if token.token in _comments():
            kept += data[end : token.start] + b" "
            end = token.end
    return (bytes(kept) + data[end:]).decode()


@cache
def _comments() -> frozenset[int]:
    from postgast import pg_query_pb2 as pb

    return frozenset((pb.C_COMMENT, pb.SQL_COMMENT))

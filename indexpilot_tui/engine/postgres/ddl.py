"""Index statements: parsed by PostgreSQL's own parser, never by pattern, and written again from the parse tree.

Only one CREATE INDEX, DROP INDEX or REINDEX INDEX statement gets through; everything that could hide a second deed or a
different object (several statements, IF [NOT] EXISTS, CASCADE, lists of names) is refused with the reason.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import UsageError

NAME_BYTES = 63  # NAMEDATALEN - 1; longer names are cut by the server with a mere NOTICE
MAX_DDL_CHARS = 20_000


@dataclass(frozen=True, slots=True)
class IndexStatement:
    """One index statement. `columns` and `include` are the key elements as the parser writes them; `where` the predicate.

    `text` is the whole statement, written again from the parse tree. `tree` is the parser's own form, for `render`.
    """

    kind: str  # create | drop | reindex
    schema: str | None  # of the index (drop, reindex)
    index: str | None  # None: CREATE INDEX without a name
    table_schema: str | None
    table: str | None
    method: str
    unique: bool
    concurrently: bool
    columns: tuple[str, ...]
    include: tuple[str, ...]
    where: str
    text: str
    tree: Any = field(repr=False, compare=False)


def _bad(message: str, ddl: str, remedy: str) -> UsageError:
    return UsageError(message, field="DDL", value=clean_line(ddl, 200), remedy=remedy)


def _check_names(ddl: str) -> None:
    """The parser cuts long names silently, as the server does; so the length is taken from the text's own tokens."""
    import postgast

    raw = ddl.encode()
    for token in postgast.scan(ddl).tokens:
        name = raw[token.start : token.end].decode("utf-8", "replace")
        if name.startswith(("'", "$", "-", "/")) or name[:2].lower() in ("e'", "u&", "b'", "x'", "n'"):
            continue  # a constant or a comment
        length = len((name[1:-1].replace('""', '"') if name.startswith('"') else name).encode())
        if length > NAME_BYTES:
            raise _bad(
                f"the name {clean_line(name, 80)} has {length} bytes; the server would cut it to {NAME_BYTES}",
                ddl,
                f"choose a name of at most {NAME_BYTES} bytes",
            )


def parse_index_statement(ddl: str, *, only: bool = False) -> IndexStatement:
    """The one index statement in `ddl`. Raises UsageError (with the reason) for anything else. `only`: ON ONLY may stand
    there, as the server writes it for the index of a partitioned table."""
    import postgast

    if "\x00" in ddl or len(ddl) > MAX_DDL_CHARS:
        raise _bad(
            f"the statement has a NUL character or more than {MAX_DDL_CHARS} characters",
            ddl[:200],
            "check the statement",
        )
    wanted = "give one CREATE INDEX, DROP INDEX or REINDEX INDEX statement"
    try:
        statements = parsing.parse(ddl).stmts
    except postgast.PgQueryError as exc:
        raise _bad(f"PostgreSQL's parser says: {clean_line(str(exc), 200)}", ddl, wanted) from None
    _check_names(ddl)
    if len(statements) != 1:
        raise _bad(f"expected one statement, found {len(statements)}", ddl, wanted)
    node = statements[0].stmt
    kind = node.WhichOneof("node")
    text = _deparse(node)  # executed later: cleaned only when it is shown
    if kind == "index_stmt":
        return _create(node, ddl, text, only=only)
    if kind == "drop_stmt":
        return _drop(node, ddl, text)
    if kind == "reindex_stmt":
        return _reindex(node, ddl, text)
    raise _bad(f"this is not an index statement ({(kind or 'nothing').removesuffix('_stmt')})", ddl, wanted)


def _deparse(node: Any) -> str:
    import postgast
    from postgast import pg_query_pb2 as pb

    tree = pb.ParseResult()
    tree.stmts.add().stmt.CopyFrom(node)
    return str(postgast.deparse(tree)).strip()


def _elements(params: Any) -> tuple[str, ...]:
    return tuple(element_text(p) for p in params)


def element_text(param: Any) -> str:
    """One key element as SQL: deparse a one-element index and cut the element out of it by structure, not by search."""
    from postgast import pg_query_pb2 as pb

    probe = pb.Node()
    probe.index_stmt.relation.relname = "t"
    probe.index_stmt.relation.inh = True
    probe.index_stmt.relation.relpersistence = "p"
    probe.index_stmt.access_method = "btree"
    probe.index_stmt.index_params.append(param)
    text = _deparse(probe)
    return text[text.index("(") + 1 : text.rindex(")")].strip()


def _where_text(node: Any) -> str:
    from postgast import pg_query_pb2 as pb

    if node.WhichOneof("node") is None:
        return ""
    probe = pb.Node()
    probe.select_stmt.limit_option = pb.LIMIT_OPTION_DEFAULT
    probe.select_stmt.op = pb.SETOP_NONE
    probe.select_stmt.where_clause.CopyFrom(node)
    text = _deparse(probe)
    return text[text.upper().index("WHERE") + len("WHERE") :].strip()


def _create(node: Any, ddl: str, text: str, *, only: bool) -> IndexStatement:
    stmt = node.index_stmt
    if stmt.if_not_exists:
        raise _bad(
            "IF NOT EXISTS reports success over an INVALID or a different index of that name",
            ddl,
            "leave IF NOT EXISTS out",
        )
    if not stmt.relation.inh and not only:
        raise _bad("ON ONLY belongs to the steps of a partitioned index", ddl, "name the table without ONLY")
    if stmt.relation.catalogname:
        raise _bad("a table name has at most a schema in front of it", ddl, "leave the database name out")
    return IndexStatement(
        kind="create",
        schema=stmt.relation.schemaname or None,
        index=stmt.idxname or None,
        table_schema=stmt.relation.schemaname or None,
        table=stmt.relation.relname,
        method=stmt.access_method or "btree",
        unique=stmt.unique,
        concurrently=stmt.concurrent,
        columns=_elements(stmt.index_params),
        include=_elements(stmt.index_including_params),
        where=_where_text(stmt.where_clause),
        text=text,
        tree=node,
    )


def _drop(node: Any, ddl: str, text: str) -> IndexStatement:
    from postgast import pg_query_pb2 as pb

    stmt = node.drop_stmt
    if stmt.remove_type != pb.OBJECT_INDEX:
        raise _bad("only DROP INDEX is a change of this product", ddl, "give a DROP INDEX statement")
    if stmt.missing_ok:
        raise _bad("IF EXISTS hides a mistyped name", ddl, "leave IF EXISTS out")
    if stmt.behavior == pb.DROP_CASCADE:
        raise _bad("CASCADE would drop other objects with the index", ddl, "leave CASCADE out")
    if len(stmt.objects) != 1:
        raise _bad("one index a change, so that each can be approved and taken back", ddl, "give one name")
    names = [item.string.sval for item in stmt.objects[0].list.items]
    if len(names) > 2:
        raise _bad("an index name has at most a schema in front of it", ddl, "leave the database name out")
    return _named("drop", names, stmt.concurrent, text, node)


def _reindex(node: Any, ddl: str, text: str) -> IndexStatement:
    from postgast import pg_query_pb2 as pb

    stmt = node.reindex_stmt
    if stmt.kind != pb.REINDEX_OBJECT_INDEX:
        raise _bad("only REINDEX INDEX, one index at a time", ddl, "give REINDEX INDEX name")
    names = [n for n in (stmt.relation.schemaname, stmt.relation.relname) if n]
    concurrently = any(p.def_elem.defname == "concurrently" for p in stmt.params)
    return _named("reindex", names, concurrently, text, node)


def _named(kind: str, names: list[str], concurrently: bool, text: str, node: Any) -> IndexStatement:
    return IndexStatement(
        kind=kind,
        schema=names[0] if len(names) == 2 else None,
        index=names[-1],
        table_schema=None,
        table=None,
        method="",
        unique=False,
        concurrently=concurrently,
        columns=(),
        include=(),
        where="",
        text=text,
        tree=node,
    )


def render(statement: IndexStatement, *, schema: str, table: str, index: str, concurrently: bool, only: bool = False) -> str:
    """The canonical text of a statement: every name explicit, qualified and quoted where needed.

    `schema` is the schema of the table (create) or of the index (drop, reindex); `table` is ignored for those two. `only`:
    the index of a partitioned table alone, without those of its partitions.
    """
    node = copy.deepcopy(statement.tree)
    if statement.kind == "create":
        node.index_stmt.relation.schemaname = schema
        node.index_stmt.relation.relname = table
        node.index_stmt.relation.inh = not only
        if len(index.encode()) > NAME_BYTES:
            raise ValueError(f"index name of {len(index.encode())} bytes")
        node.index_stmt.idxname = index
        node.index_stmt.concurrent = concurrently
    elif statement.kind == "drop":
        items = node.drop_stmt.objects[0].list.items
        del items[:]
        for name in (schema, index):
            items.add().string.sval = name
        node.drop_stmt.concurrent = concurrently
    else:
        node.reindex_stmt.relation.schemaname = schema
        node.reindex_stmt.relation.relname = index
        del node.reindex_stmt.params[:]
        if concurrently:  # the parser's own way to write it, REINDEX (CONCURRENTLY), is unknown to 13
            return _deparse(node).replace("REINDEX INDEX ", "REINDEX INDEX CONCURRENTLY ", 1)
    return _deparse(node)

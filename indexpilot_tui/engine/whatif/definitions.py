"""Definitions that a server or a file told, made anew: parsed with PostgreSQL's own grammar, judged by what is in the tree,
and written from the tree. No text from outside is ever sent as it came.

Each function takes what one catalog function gave (`pg_get_indexdef`, `format_type`, ...), puts it where it belongs in the
one statement that it may be a part of, and wants that statement back: a single one, of that kind, with our own parts
unchanged and made of expressions only. Anything else is a DefinitionError, and the object is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import postgast
from psycopg import sql

from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.postgres.text import clean_line

# what an expression, a key, a bound or a type is made of (pg_query.proto). Neither data-modifying statements nor anything
# that defines or sets something is in it, and no lock.
_EXPRESSION = frozenset(
    [
        "Node",
        "List",
        "OidList",
        "IntList",
        "String",
        "Integer",
        "Float",
        "Boolean",
        "BitString",
        "A_Const",
        "ColumnRef",
        "A_Star",
        "A_Expr",
        "BoolExpr",
        "NullTest",
        "BooleanTest",
        "TypeCast",
        "TypeName",
        "FuncCall",
        "CaseExpr",
        "CaseWhen",
        "CoalesceExpr",
        "MinMaxExpr",
        "A_ArrayExpr",
        "A_Indirection",
        "A_Indices",
        "RowExpr",
        "CollateClause",
        "SQLValueFunction",
        "NamedArgExpr",
        "XmlExpr",
        "XmlSerialize",
        "SortBy",
        "WindowDef",
        "GroupingFunc",
        "JsonFuncExpr",
        "JsonIsPredicate",
        "JsonValueExpr",
        "JsonFormat",
        "JsonReturning",
        "JsonOutput",
        "JsonArgument",
        "JsonBehavior",
        "JsonKeyValue",
        "JsonObjectConstructor",
        "JsonArrayConstructor",
        "JsonArrayQueryConstructor",
        "JsonAggConstructor",
        "JsonObjectAgg",
        "JsonArrayAgg",
        "JsonParseExpr",
        "JsonScalarExpr",
        "JsonSerializeExpr",
    ]
)
_QUERY = _EXPRESSION | frozenset(
    [
        "SelectStmt",
        "ResTarget",
        "RangeVar",
        "Alias",
        "JoinExpr",
        "RangeSubselect",
        "RangeFunction",
        "RangeTableSample",
        "RangeTableFunc",
        "RangeTableFuncCol",
        "JsonTable",
        "JsonTableColumn",
        "JsonTablePathSpec",
        "WithClause",
        "CommonTableExpr",
        "CTESearchClause",
        "CTECycleClause",
        "GroupingSet",
        "SubLink",
    ]
)
_CONSTRAINTS = ("CONSTR_CHECK", "CONSTR_PRIMARY", "CONSTR_UNIQUE", "CONSTR_EXCLUSION", "CONSTR_FOREIGN")
_MARK = "ixp_made_anew"


class DefinitionError(ValueError):
    """The text is not what it should be; the message (cleaned) says what is wrong, without repeating the text."""


def _messages(tree: Any) -> Iterator[Any]:
    left = [tree]
    while left:
        message = left.pop()
        yield message
        for field, value in message.ListFields():
            if field.message_type is not None:
                left.extend(value if field.is_repeated else (value,))


def _allow(tree: Any, allowed: frozenset[str]) -> None:
    for message in _messages(tree):
        name = message.DESCRIPTOR.name
        if name not in allowed:
            raise DefinitionError(f"it holds a {name}")


def _only(text: str, kind: str) -> tuple[Any, Any]:
    """The parse result of a text and its one statement, which must be of this kind."""
    if "\0" in text:
        raise DefinitionError("it holds a NUL character")
    try:
        tree = parsing.parse(text)
    except (postgast.PgQueryError, ValueError, RecursionError) as exc:
        raise DefinitionError(f"it cannot be parsed ({clean_line(str(exc), 100)})") from None
    if len(tree.stmts) != 1:
        raise DefinitionError(f"it is {len(tree.stmts)} statements")
    found = tree.stmts[0].stmt.WhichOneof("node")
    if found != kind:
        raise DefinitionError(f"it is a {found or 'statement without a name'}")
    return tree, getattr(tree.stmts[0].stmt, kind)


def _text(tree: Any) -> str:
    try:
        text = str(postgast.deparse(tree))
    except (postgast.PgQueryError, ValueError, RecursionError) as exc:
        raise DefinitionError(f"it cannot be written ({clean_line(str(exc), 100)})") from None
    if "\0" in text:
        raise DefinitionError("it holds a NUL character")
    return text


def _written(tree: Any) -> sql.Composed:
    return sql.Composed([sql.SQL(_text(tree))])


def _fields(message: Any) -> set[str]:
    return {field.name for field, _ in message.ListFields()}


def _sure(holds: bool, what: str) -> None:
    if not holds:
        raise DefinitionError(what)


@lru_cache(maxsize=4096)
def expression(text: str) -> str:
    """An expression of columns and functions: of a default, a generated column, an index, extended statistics."""
    tree, select = _only(f"select ({text})", "select_stmt")
    _sure(_fields(select) <= {"target_list", "limit_option", "op"} and len(select.target_list) == 1, "it is no expression")
    target = select.target_list[0].res_target
    _sure(_fields(target) <= {"val", "location"}, "it is no expression")
    _allow(target.val, _EXPRESSION)
    return f"({_text(tree)[len('SELECT ') :]})"


def scalar(text: str) -> tuple[str, Any]:
    """The expression of `SELECT expression`, and its tree; of a function's body, which reads nothing."""
    tree, select = _only(text.strip().removesuffix(";"), "select_stmt")
    _sure(_fields(select) <= {"target_list", "limit_option", "op"} and len(select.target_list) == 1, "it is no expression")
    _allow(select.target_list[0].res_target.val, (_EXPRESSION | {"ParamRef"}) - {"SQLValueFunction"})
    select.target_list[0].res_target.ClearField("name")
    return f"({_text(tree)[len('SELECT ') :]})", select.target_list[0].res_target.val


def calls(tree: Any) -> Iterator[tuple[str, str]]:
    """Schema ('' for none) and name of every function that is called in a tree."""
    for message in _messages(tree):
        if message.DESCRIPTOR.name == "FuncCall":
            names = [part.string.sval for part in message.funcname]
            yield ".".join(names[:-1]), names[-1] if names else ""


def operators(tree: Any) -> Iterator[tuple[str, str]]:
    """The same of operators."""
    for message in _messages(tree):
        if message.DESCRIPTOR.name == "A_Expr" and message.name:
            names = [part.string.sval for part in message.name]
            if names[-1].isascii() and names[-1].replace(" ", "").isalpha():
                continue  # BETWEEN and its like: the grammar's own, made of < and >=
            yield ".".join(names[:-1]), names[-1]


@lru_cache(maxsize=4096)
def type_name(text: str) -> str:
    """A type with its modifiers."""
    tree, select = _only(f"select null::{text}", "select_stmt")
    _sure(_fields(select) <= {"target_list", "limit_option", "op"} and len(select.target_list) == 1, "it is no type")
    value = select.target_list[0].res_target.val
    _sure(value.WhichOneof("node") == "type_cast", "it is no type")
    cast = value.type_cast
    _sure(cast.arg.WhichOneof("node") == "a_const" and cast.arg.a_const.isnull, "it is no type")
    _sure(not cast.type_name.setof and not cast.type_name.pct_type, "it is no type of a column")
    _allow(cast.type_name, frozenset({"Node", "TypeName", "String", "Integer", "A_Const", "Boolean", "ColumnRef"}))
    return _text(tree)[len("SELECT NULL::") :]


def _reloptions(options: Any) -> None:
    for node in options:
        element = node.def_elem
        _sure(node.WhichOneof("node") == "def_elem" and not element.defnamespace, "an option of it is none of an index")
        _allow(element.arg, frozenset({"Node", "String", "Integer", "Float", "Boolean", "TypeName"}))


def index(text: str, name: str, table_schema: str, table: str) -> sql.Composed:
    """CREATE INDEX as `pg_get_indexdef` gives it, for the index and the table of these names."""
    tree, stmt = _only(text, "index_stmt")
    known = {
        "idxname", "relation", "access_method", "index_params", "index_including_params", "options", "where_clause",
        "unique", "nulls_not_distinct",
    }  # fmt: skip
    _sure(_fields(stmt) <= known, "it is no plain CREATE INDEX")
    _check_index_parts(stmt)
    stmt.idxname, stmt.relation.schemaname, stmt.relation.relname = name, table_schema, table
    stmt.relation.catalogname = ""
    return _written(tree)


def _check_index_parts(stmt: Any) -> None:
    for params in (stmt.index_params, stmt.index_including_params):
        for node in params:
            _sure(node.WhichOneof("node") == "index_elem", "a key of it is none")
            _reloptions(node.index_elem.opclassopts)
            _allow(node.index_elem.expr, _EXPRESSION)
            for part in (node.index_elem.collation, node.index_elem.opclass):
                for name in part:
                    _allow(name, _EXPRESSION)
    _reloptions(stmt.options)
    _allow(stmt.where_clause, _EXPRESSION)


def constraint(text: str, schema: str, table: str, name: str, *, only: bool = False) -> sql.Composed:
    """ALTER TABLE ... ADD CONSTRAINT, of what `pg_get_constraintdef` gives."""
    tree, stmt = _only(f"alter table {'only ' if only else ''}{_MARK} add constraint {_MARK} {text}", "alter_table_stmt")
    _sure(len(stmt.cmds) == 1 and stmt.relation.relname == _MARK, "it is more than a constraint")
    command = stmt.cmds[0].alter_table_cmd
    _sure(_fields(command) <= {"subtype", "def", "behavior"}, "it is more than a constraint")
    made = getattr(command, "def")
    _sure(made.WhichOneof("node") == "constraint", "it is no constraint")
    found = made.constraint
    _sure(found.contype in _kinds(), "it is no constraint of a table")
    _sure(found.conname == _MARK and not found.indexname and not found.indexspace, "it is no constraint of its own")
    _reloptions(found.options)
    rest = type(found)()
    rest.CopyFrom(found)
    rest.ClearField("options")
    _allow(rest, _EXPRESSION | {"Constraint", "RangeVar", "IndexElem"})
    found.conname = name
    stmt.relation.schemaname, stmt.relation.relname = schema, table
    return _written(tree)


@lru_cache(maxsize=1)
def _kinds() -> frozenset[int]:
    from postgast import pg_query_pb2 as pb

    return frozenset(pb.ConstrType.Value(name) for name in _CONSTRAINTS)


def partition_key(text: str) -> str:
    """`RANGE (a, lower(b))`, as `pg_get_partkeydef` gives it."""
    tree, stmt = _only(f"create table {_MARK} ({_MARK} int) partition by {text}", "create_stmt")
    _sure(_fields(stmt) <= {"relation", "table_elts", "partspec", "oncommit"} and len(stmt.table_elts) == 1, "it is no key")
    _allow(stmt.partspec, _EXPRESSION | {"PartitionSpec", "PartitionElem"})
    head, found, tail = _text(tree).partition(" PARTITION BY ")
    _sure(bool(found) and head.startswith(f"CREATE TABLE {_MARK} ({_MARK} int"), "it is no key")
    return tail


def partition_bound(text: str) -> str:
    """`FOR VALUES ...` or `DEFAULT`, as pg_get_expr gives relpartbound."""
    tree, stmt = _only(f"alter table {_MARK} attach partition {_MARK} {text}", "alter_table_stmt")
    _sure(len(stmt.cmds) == 1, "it is no bound")
    command = stmt.cmds[0].alter_table_cmd
    _sure(_fields(command) <= {"subtype", "def", "behavior"}, "it is no bound")
    _allow(getattr(command, "def"), _EXPRESSION | {"PartitionCmd", "RangeVar", "PartitionBoundSpec", "PartitionRangeDatum"})
    head = f"ALTER TABLE {_MARK} ATTACH PARTITION {_MARK} "
    written = _text(tree)
    _sure(written.startswith(head), "it is no bound")
    return written[len(head) :]


def query(text: str) -> str:
    """The SELECT of a view, without locks."""
    tree, select = _only(text.strip().removesuffix(";"), "select_stmt")
    for message in _messages(select):
        if message.DESCRIPTOR.name == "SelectStmt":
            message.ClearField("locking_clause")
    _allow(select, _QUERY)
    return _text(tree)


def statistics(text: str, schema: str, name: str, table_schema: str, table: str) -> sql.Composed:
    """CREATE STATISTICS as `pg_get_statisticsobjdef` gives it."""
    tree, stmt = _only(text, "create_stats_stmt")
    _sure(_fields(stmt) <= {"defnames", "stat_types", "exprs", "relations"}, "it is no plain CREATE STATISTICS")
    _sure(len(stmt.relations) == 1 and stmt.relations[0].WhichOneof("node") == "range_var", "it is not of one table")
    _allow(stmt, _EXPRESSION | {"CreateStatsStmt", "StatsElem", "RangeVar"})
    relation = stmt.relations[0].range_var
    relation.schemaname, relation.relname, relation.catalogname = table_schema, table, ""
    del stmt.defnames[:]
    for part in (schema, name):
        stmt.defnames.add().string.sval = part
    return _written(tree)


def function(head: str, arguments: str, result: str, tail: str) -> sql.Composed:
    """CREATE FUNCTION of what the catalog says of arguments and result; `head` (the quoted name) and `tail` (all that
    follows the result) are ours."""
    tree, stmt = _only(f"create function {head}({arguments}) returns {result} {tail}", "create_function_stmt")
    _, ours = _only(f"create function {head}() returns int {tail}", "create_function_stmt")
    _sure(not stmt.is_procedure and not stmt.replace and not stmt.HasField("sql_body"), "it is no function")
    _sure(_plain(stmt.options) == _plain(ours.options) and _plain(stmt.funcname) == _plain(ours.funcname),
          "its arguments hold more than arguments")  # fmt: skip
    rest = type(stmt)()
    rest.CopyFrom(stmt)
    rest.ClearField("options")
    _allow(rest, _EXPRESSION | {"CreateFunctionStmt", "FunctionParameter"})
    return _written(tree)


def _plain(nodes: Any) -> list[str]:
    """Nodes without their places in the text."""
    found = []
    for node in nodes:
        copy = type(node)()
        copy.CopyFrom(node)
        for message in _messages(copy):
            if "location" in message.DESCRIPTOR.fields_by_name:
                message.ClearField("location")
        found.append(str(copy))
    return found

"""Names: what a bare name in a statement means for this login, and what PostgreSQL would call a new index."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection
from typing import Any

from indexpilot_tui.engine.changes.catalog import question
from indexpilot_tui.engine.postgres.ddl import NAME_BYTES, IndexStatement
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import UsageError

_NAME = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')  # of a search path: in quotes or bare


async def login_path(session: Session) -> list[str]:
    """The schemas of the search path with which this login starts; our own sessions run with pg_catalog alone."""
    row = await session.row(question("search_path", session))
    text = str(row["path"]) if row else ""
    login = str(row["login"]) if row else ""
    # without quotes PostgreSQL reads small letters, and of ASCII alone, as bytes.lower does
    names = [quoted.replace('""', '"') or bare.encode().lower().decode() for quoted, bare in _NAME.findall(text)]
    return [login if name == "$user" else name for name in names if name]


async def find_relation(session: Session, schema: str | None, name: str, what: str) -> dict[str, Any]:
    """The relation that a (bare or qualified) name means: a row of relation.sql. Raises UsageError naming it."""
    path = [schema] if schema is not None else await login_path(session)
    rows = await session.rows(question("relation", session), {"name": name, "schemas": path})
    if rows:
        return rows[0]
    shown = clean_line(f"{schema}.{name}" if schema is not None else name, 200)
    elsewhere = await session.rows(question("relation", session), {"name": name, "schemas": None})
    places = ", ".join(clean_line(f"{r['schema']}.{r['name']}", 200) for r in elsewhere[:5])
    raise UsageError(
        f"there is no {what} {shown}" + ("" if schema is not None else f" on the search path ({', '.join(path)})"),
        field=what,
        value=shown,
        remedy=f"did you mean {places}?" if places else "check the name, and the database of the target",
    )


def choose_name(statement: IndexStatement, table: str, taken: Collection[str]) -> str:
    """The name that PostgreSQL would choose: table_column_idx, cut to 63 bytes, with a number when it is taken.

    Source: ChooseIndexName and makeObjectName, src/backend/commands/indexcmds.c.
    """
    columns: list[str] = []
    for param in [*statement.tree.index_stmt.index_params, *statement.tree.index_stmt.index_including_params]:
        element = param.index_elem
        base = element.name or _expression_name(element.expr)
        name, number = base, 0
        while name in columns:
            number += 1
            name = f"{base}{number}"
        columns.append(name)
    joined = "_".join(columns)
    for number in range(10_000):
        label = "idx" if number == 0 else f"idx{number}"
        name = _fit(table, joined, label)
        if name not in taken:
            return name
    raise UsageError("all names for this index are taken", remedy="give the index a name")


def _expression_name(node: Any) -> str:
    """FigureIndexColname's common case: a function call has the function's name, anything else is `expr`."""
    if node.WhichOneof("node") == "func_call":
        return str(node.func_call.funcname[-1].string.sval)
    return "expr"


def _fit(first: str, second: str, label: str) -> str:
    """`first_second_label` within 63 bytes: the longer of the two parts is shortened, at whole characters."""
    room = NAME_BYTES - len(label.encode()) - 2
    a, b = first.encode(), second.encode()
    while len(a) + len(b) > room:
        if len(a) > len(b):
            a = a[:-1]
        else:
            b = b[:-1]
    return f"{a.decode(errors='ignore')}_{b.decode(errors='ignore')}_{label}"


async def qualify(session: Session, statement: IndexStatement) -> IndexStatement:
    """The statement with operator classes and functions of extensions qualified.

    The executor runs with search_path = pg_catalog, where a bare `gin_trgm_ops` means nothing. What is neither in
    pg_catalog nor on the login's path raises UsageError.
    """
    import dataclasses

    import postgast

    path = ["pg_catalog", *await login_path(session)]
    tree = copy.deepcopy(statement.tree)
    method = statement.method
    for _, node in postgast.walk(tree):
        kind = type(node).__name__
        if kind == "IndexElem" and len(node.opclass) == 1:
            name = node.opclass[0].string.sval
            params = {"name": name, "method": method, "schemas": path}
            await _prefix(
                node.opclass, await session.value(question("operator_class", session), params), name, "operator class"
            )
        elif kind == "FuncCall" and len(node.funcname) == 1:
            name = node.funcname[0].string.sval
            params = {"name": name, "schemas": path}
            await _prefix(node.funcname, await session.value(question("function", session), params), name, "function")
    return dataclasses.replace(statement, tree=tree)


async def _prefix(names: Any, schema: Any, name: str, what: str) -> None:
    if schema is None:
        raise UsageError(
            f"there is no {what} {clean_line(name, 80)} on the search path",
            field=what,
            value=clean_line(name, 80),
            remedy="write its schema in front of it, or create its extension",
        )
    if schema != "pg_catalog":
        last = names.pop()
        names.add().string.sval = str(schema)
        names.append(last)

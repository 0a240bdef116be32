"""Duplicates that would let a UNIQUE build fail, counted before it begins. Counts only: no value leaves the server.

Measured (reference, section 2, rows G1 and G3): a build over duplicates fails with 23505, late ones after all the work, and
a leftover that is ready rejects rows of the application until it is dropped.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.changes.catalog import question
from indexpilot_tui.engine.model.change import Plan
from indexpilot_tui.engine.postgres.ddl import element_text, parse_index_statement
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line


@dataclass(frozen=True, slots=True)
class Duplicates:
    """`groups` of equal keys with `rows` rows in them; None with `why`: it could not be counted."""

    groups: int | None
    rows: int | None
    why: str = ""

    @property
    def sentence(self) -> str:
        if self.groups is None:
            return f"whether the table has duplicates is not known: {self.why}"
        if not self.groups:
            return "no duplicates"
        return f"the table has duplicates: {self.rows} rows share {self.groups} values, so a UNIQUE index cannot be built"

    @property
    def told(self) -> dict[str, Any]:
        """For the log."""
        return {"groups": self.groups, "rows": self.rows, "why": self.why}


def concerns(plan: Plan) -> bool:
    """Whether the plan builds a UNIQUE index."""
    return plan.kind == "create" and plan.unique


async def counting(session: Session, plan: Plan) -> sql.Composed | str:
    """The query that counts, or why it is not asked: an index may only use functions that are declared IMMUTABLE, and a
    plan's text has not been judged by the server yet. Keys with a NULL are never equal, unless the index says so."""
    statement = parse_index_statement(plan.ddl)
    tree = statement.tree.index_stmt
    for schema, name in _functions(tree):
        row = await session.row(question("function_immutable", session), {"schema": schema, "name": name})
        if row is None or not row["immutable"]:
            return f"{clean_line(f'{schema}.{name}', 120)} is not an IMMUTABLE function"
    keys = [sql.SQL("({})").format(sql.SQL(_key(param))) for param in tree.index_params]
    conditions = [sql.SQL("({})").format(sql.SQL(statement.where))] if statement.where else []
    if not tree.nulls_not_distinct:
        conditions += [key + sql.SQL(" is not null") for key in keys]
    where = sql.SQL(" where ") + sql.SQL(" and ").join(conditions) if conditions else sql.SQL("")
    return sql.SQL(
        "select pg_catalog.count(*)::int8 as groups, coalesce(pg_catalog.sum(d.n), 0)::int8 as rows from"
        " (select pg_catalog.count(*) as n from {}{} group by {} having pg_catalog.count(*) > 1) d"
    ).format(sql.Identifier(plan.schema, plan.table), where, sql.SQL(", ").join(keys))


def _key(param: Any) -> str:
    """A key without its operator class and order; what tells equal from unequal stays: the collation."""
    from postgast import pg_query_pb2 as pb

    bare = copy.deepcopy(param)
    del bare.index_elem.opclass[:]
    del bare.index_elem.opclassopts[:]
    bare.index_elem.ordering, bare.index_elem.nulls_ordering = pb.SORTBY_DEFAULT, pb.SORTBY_NULLS_DEFAULT
    return element_text(bare)


def _functions(tree: Any) -> list[list[str]]:
    """(schema, name) of every function that the index calls; plans have them qualified where they are not pg_catalog's."""
    import postgast
    from postgast import pg_query_pb2 as pb

    names = {tuple(n.string.sval for n in node.funcname) for node in postgast.find_nodes(tree, pb.FuncCall)}
    return [list(name) if len(name) == 2 else ["pg_catalog", name[-1]] for name in sorted(names)]


async def chance(session: Session, plan: Plan) -> Duplicates:
    """What statistics say of duplicates, for a proposal. The rows themselves are counted by the executor only, after the
    approval: a count runs what hangs on the table, and a proposer's session does not do that."""
    tree = parse_index_statement(plan.ddl).tree.index_stmt
    names = [param.index_elem.name for param in tree.index_params]
    counted = "its executor counts after the approval"
    if not all(names) or tree.HasField("where_clause"):
        return Duplicates(None, None, f"statistics do not tell of expressions and conditions; {counted}")
    found = await session.rows(question("distinct_values", session), {"table_oid": plan.table_oid, "names": names})
    told = [row for row in found if row["distinct_values"] is not None and row["rows"] > 0]
    if not told:
        return Duplicates(None, None, f"no statistics of its columns are visible; {counted}")
    most = max(told, key=lambda row: row["distinct_values"])
    rows, values = most["rows"], most["distinct_values"]
    about = f"about {values:.0f} values in {rows:.0f} rows"
    if len(names) > 1:
        return Duplicates(None, None, f"by statistics the most distinct of its columns has {about}; {counted}")
    likely = "duplicates are likely" if values < 0.98 * rows * (1 - most["null_frac"]) else "hardly any can be duplicates"
    return Duplicates(None, None, f"by statistics {about}: {likely}; {counted}")


async def guarded(session: Session, plan: Plan) -> str:
    """Why the rows of the table are not counted: policies are code of others, and hide rows from a count. Else empty."""
    row = await session.row(question("table_policies", session), {"table_oid": plan.table_oid})
    if row is None:
        return "the table is gone"
    return "the table has policies (row-level security), so its rows are not counted" if row["guarded"] else ""

"""The one way in which anything of a user's table is planned on a target: apart, reading only, by a login without powers.

Planning folds and runs what hangs on a table: expressions of statistics and of other indexes, CHECKs of partitions,
policies, functions in views. Such code can set back whatever a session has set. So it gets a session of its own, which is
never used again, as a login that owns nothing and may only read; in one transaction that began READ ONLY, which PostgreSQL
lets nobody leave by SET once a query has run; and with `search_path` = pg_catalog. If at the end that transaction is not
what it was, what came of it does not count.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import PACKAGE, Purpose, Session, session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import IndexPilotError, PrivilegeError, ServerError
from indexpilot_tui.settings.model import Settings, Target

GENERIC_PLAN = 160000  # EXPLAIN (GENERIC_PLAN)
NO_PLANNER = "nothing is planned on the target as a login that may do more than read"
BEGIN = "begin transaction isolation level read committed read only"


def planner_target(target: Target) -> Target:
    """The target as the login that plans there: `planner`, or the target's own. Passwords of another login are not tried."""
    if target.planner is None:
        return target
    return replace(target, user=target.planner, password_env=None, password_command=())


@asynccontextmanager
async def planning_session(target: Target, settings: Settings) -> AsyncIterator[Session]:
    """A session to plan on (`explain`) and to ask the catalog, open for the length of the block.

    Raises PrivilegeError for a login that may do more than read, ServerError when the transaction was tampered with (what
    was read is then to be thrown away), and what `connect` raises.
    """
    async with session(planner_target(target), Purpose.PLANNER, settings, application_name="ixp-planner") as planner:
        await planner.execute(BEGIN)
        harm = await planner.row(load(PACKAGE, "planner_harm"))
        if harm is not None:
            login = planner.facts.session_user
            through = "" if harm["role"] == login else f"is in {clean_line(harm['role'], 80)}, which "
            raise PrivilegeError(
                f"{NO_PLANNER}: {clean_line(login, 80)} {through}{harm['why']}",
                field="planner",
                value=login,
                remedy="name a login that owns nothing and may only read (targets.NAME.planner); until then plans come from"
                " the shadow",
            )
        yield planner
        await _unchanged(planner)


async def _unchanged(planner: Session) -> None:
    """Raises ServerError unless the transaction is the one that was begun."""
    try:
        row = await planner.row(load(PACKAGE, "planner_end"), {"login": planner.facts.session_user})
    except IndexPilotError as exc:
        raise ServerError(f"whether planning changed something cannot be told: {exc.message}") from exc
    wrong = [name for name, good in (row or {"answer": False}).items() if good is not True]
    if wrong:
        raise ServerError(
            f"code that ran while planning changed the session ({', '.join(wrong)}): what it planned is thrown away",
            remedy="look at the functions of the table's statistics, indexes, policies and partitions",
        )


async def explain(planner: Session, text: str, *, generic: bool) -> dict[str, Any]:
    """The plan of one statement (the value of "Plan"), which is not executed. A refusal of the server leaves the
    transaction as it was before. Raises what Session.rows raises."""
    if planner.purpose is not Purpose.PLANNER:
        raise ServerError("only a session made for planning plans", field="purpose", value=planner.purpose.value)
    await planner.execute("savepoint indexpilot_plan")
    try:
        rows = await _ask(planner, text, generic)
        (answer,) = rows[0].values()
        plan: dict[str, Any] = answer[0]["Plan"]
        return plan
    finally:
        if not planner.closed:
            await planner.execute("rollback to savepoint indexpilot_plan")


async def _ask(planner: Session, text: str, generic: bool) -> list[dict[str, Any]]:
    if not generic:
        return await planner.rows(sql.Composed([sql.SQL("explain (format json) "), sql.SQL(text)]))
    if planner.facts.server_version >= GENERIC_PLAN:
        return await planner.rows(sql.Composed([sql.SQL("explain (generic_plan, format json) "), sql.SQL(text)]))
    # before 16: the generic plan of a prepared statement, whose parameters do not matter
    await planner.rows("select pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true)")
    await planner.rows(sql.Composed([sql.SQL("prepare indexpilot_shape as "), sql.SQL(text)]))
    try:
        count = await planner.value(
            "select pg_catalog.cardinality(parameter_types) from pg_catalog.pg_prepared_statements"
            " where name = 'indexpilot_shape'"
        )
        nulls = sql.SQL(", ").join([sql.SQL("null")] * int(count or 0))
        call = sql.SQL("({})").format(nulls) if count else sql.SQL("")
        return await planner.rows(sql.SQL("explain (format json) execute indexpilot_shape{}").format(call))
    except IndexPilotError:
        if not planner.closed:  # the name is to be free again, and in a transaction that failed nothing can be said
            await planner.execute("rollback to savepoint indexpilot_plan")
        raise
    finally:
        if not planner.closed:
            await planner.execute("deallocate indexpilot_shape")


async def qualified(planner: Session, tree: Any, path: list[str]) -> Any:
    """A copy of a statement's tree with its bare names qualified as `path` has them, so that it says the same with
    pg_catalog alone. What is not found stays bare, and the server refuses it."""
    import postgast
    from postgast import pg_query_pb2 as pb

    copy = pb.ParseResult()
    copy.CopyFrom(tree)
    ctes = {node.ctename for node in postgast.find_nodes(copy, pb.CommonTableExpr)}
    relations = [
        node for node in postgast.find_nodes(copy, pb.RangeVar)
        if not node.schemaname and node.relname not in ctes
    ]  # fmt: skip
    plain = (pb.AEXPR_OP, pb.AEXPR_OP_ANY, pb.AEXPR_OP_ALL)
    named = {
        "function": [node.funcname for node in postgast.find_nodes(copy, pb.FuncCall)],
        "operator": [node.name for node in postgast.find_nodes(copy, pb.A_Expr) if node.kind in plain],
        "type": [node.names for node in postgast.find_nodes(copy, pb.TypeName)],
    }
    bare = {kind: [names for names in lists if len(names) == 1] for kind, lists in named.items()}
    words = {f"{kind}s": sorted({names[0].string.sval for names in lists}) for kind, lists in bare.items()}
    where = path if "pg_catalog" in path else ["pg_catalog", *path]
    params = {"relations": sorted({node.relname for node in relations}), **words, "path": where}
    rows = await planner.rows(load(PACKAGE, "names_home"), params)
    homes = {(row["kind"], row["name"]): row["schema"] for row in rows if row["schema"] != "pg_catalog"}
    for node in relations:
        node.schemaname = homes.get(("relation", node.relname), "")
    for clause in postgast.find_nodes(copy, pb.LockingClause):
        for node in clause.locked_rels:  # FOR UPDATE OF names what FROM calls it, without a schema
            node.range_var.schemaname = ""
    for kind, lists in bare.items():
        for names in lists:
            home = homes.get((kind, names[0].string.sval))
            if home is not None:
                name = names[0].string.sval
                names[0].string.sval = home
                names.add().string.sval = name
    return copy

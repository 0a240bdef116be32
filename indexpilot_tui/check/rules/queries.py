"""Rules on the workload: hot statements that an index would help, and skewed columns that want a partial one."""

from __future__ import annotations

import json
from typing import Any

from psycopg import sql

from indexpilot_tui.check.context import CheckContext, Forecaster, Rule, ok, unknown, warning
from indexpilot_tui.check.filters import filters_of
from indexpilot_tui.check.model import Outcome
from indexpilot_tui.engine.changes.naming import choose_name
from indexpilot_tui.engine.observe.indexes.foreign_keys import free_name
from indexpilot_tui.engine.observe.top import TopStatement, top_statements
from indexpilot_tui.engine.postgres.ddl import parse_index_statement, render
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.model import Forecast, Statement
from indexpilot_tui.errors import IndexPilotError

HOT_STATEMENTS, HOT_SHARE = 6, 0.03  # so many statements are looked at, of at least this share of the execution time
# Dexter's limits (its indexer.rb): only statements of cost 100 or more, only an index that halves the cost
MIN_COST, MAX_COST_LEFT = 100.0, 0.5
SKEW_SHARE, SKEW_ROWS, SKEW_STATEMENTS = 0.8, 10_000, 100


async def hot_queries(ctx: CheckContext) -> Outcome:
    if ctx.forecaster is None:
        return unknown(f"no forecast is possible: {ctx.forecaster_error or 'there is no shadow planner'}")
    hot = [s for s in await top_statements(ctx.session, HOT_STATEMENTS) if s.share >= HOT_SHARE]
    evidence: list[dict[str, Any]] = []
    failed: list[str] = []
    fixes: list[str] = []
    for statement in hot:
        try:
            best = await _best(ctx, ctx.forecaster, statement)
        except IndexPilotError as exc:
            failed.append(f"{statement.queryid}: {exc.message}")
            continue
        if best is not None:
            forecast, ddl = best
            evidence.append(_forecast_evidence(statement, forecast, ddl))
            if ddl not in fixes:
                fixes.append(ddl)
    if evidence:
        share = sum(e["share"] for e in evidence)
        return warning(
            f"hot statements that lack an index: {len(evidence)}, with {share:.0%} of the execution time",
            *evidence,
            fix="\n".join(fixes),
        )
    if failed:
        return unknown(f"{len(failed)} of {len(hot)} hot statements could not be planned: {failed[0]}")
    return ok(f"no single index would halve the cost of one of the {len(hot)} hottest statements")


async def _best(ctx: CheckContext, forecaster: Forecaster, statement: TopStatement) -> tuple[Forecast, str] | None:
    """The candidate that leaves the least cost, if it is worth it, as a full statement."""
    best: Forecast | None = None
    workload = [Statement(str(statement.queryid), statement.sql, statement.calls, statement.total_ms)]
    for ddl in await forecaster.candidates(ctx.session, statement.sql):
        forecast = await forecaster.simulate(ctx.session, ddl, workload)
        if not any(q.uses_index for q in forecast.queries) or forecast.cost_before < MIN_COST * statement.calls:
            continue
        if best is None or forecast.cost_after < best.cost_after:
            best = forecast
    if best is None or best.cost_after > best.cost_before * MAX_COST_LEFT:
        return None
    return best, await _full(ctx, best.ddl)


async def _full(ctx: CheckContext, ddl: str) -> str:
    """CREATE INDEX CONCURRENTLY with the schema and a free name, from a candidate."""
    parsed = parse_index_statement(ddl)
    health = await ctx.health()
    schema, table = parsed.table_schema or "public", parsed.table or ""
    taken = {row.name.split(".", 1)[-1] for row in health.indexes}
    name = parsed.index or choose_name(parsed, table, taken)
    return render(parsed, schema=schema, table=table, index=name, concurrently=True)


def _forecast_evidence(statement: TopStatement, forecast: Forecast, ddl: str) -> dict[str, Any]:
    return {
        "queryid": str(statement.queryid),
        "query": clean_line(statement.sql, 500),
        "calls": statement.calls,
        "mean_ms": round(statement.mean_ms, 3),
        "share": round(statement.share, 4),
        "cost_before": round(forecast.cost_before / max(statement.calls, 1), 1),
        "cost_after": round(forecast.cost_after / max(statement.calls, 1), 1),
        "index_bytes": forecast.index.size_bytes,
        "confidence": forecast.confidence.level,
        "fix": ddl,
    }


async def skewed_columns(ctx: CheckContext) -> Outcome:
    rights = await ctx.row("rights")
    columns = await ctx.rows("skewed_columns", rows=SKEW_ROWS, share=SKEW_SHARE)
    statements = [(s, filters_of(s.sql)) for s in await top_statements(ctx.session, SKEW_STATEMENTS)] if columns else []
    evidence: list[dict[str, Any]] = []
    fixes: list[str] = []
    taken: set[tuple[str, str]] = set()
    if columns:
        taken = {(schema, name) for schema, _, name in (i.name.partition(".") for i in (await ctx.health()).indexes)}
    for column in columns:
        key = (column["schema_name"], column["table_name"], column["column_name"])
        seeking = [(s, f) for s, f in statements if f.looks_for(*key)]
        if not seeking:
            continue
        statement, found = seeking[0]
        ddl = _partial_index(column, found.order, taken)
        taken.add((column["schema_name"], parse_index_statement(ddl).index or ""))
        fixes.append(ddl)
        evidence.append(_skew_evidence(column, statement, len(seeking), ddl))
    if fixes:
        names = ", ".join(f"{e['table']}.{e['column']}" for e in evidence)
        return warning(
            f"rare values of skewed columns are searched without an index: {names}",
            *evidence,
            fix="\n".join(fixes),
        )
    if rights["unreadable"]:
        return unknown(
            f"the statistics of {rights['unreadable']} tables are hidden from this login",
            fix="see the rule `privileges`",
        )
    return ok("no column with one dominating value is searched for its rare ones without an index")


def _skew_evidence(column: dict[str, Any], statement: TopStatement, count: int, ddl: str) -> dict[str, Any]:
    values, freqs = json.loads(column["vals"]), column["freqs"]
    return {
        "table": clean_line(f"{column['schema_name']}.{column['table_name']}"),
        "column": clean_line(column["column_name"]),
        "common_value": clean_line(str(values[0]), 80),
        "common_share": round(freqs[0], 4),
        "rare_values": [clean_line(str(v), 80) for v in values[1:5]],
        "rare_share": round(sum(freqs[1:]), 4),
        "statements": count,
        "query": clean_line(statement.sql, 500),
        "share": round(statement.share, 4),
        "risk": "helps only searches for a value other than the common one, given as a constant of the plan",
        "fix": ddl,
    }


def _partial_index(column: dict[str, Any], order: tuple[str, ...], taken: set[tuple[str, str]]) -> str:
    """An index on the rare rows alone: `status = 'pending'` implies `status <> 'done'`, which the planner can prove."""
    name, table = column["column_name"], sql.Identifier(column["schema_name"], column["table_name"])
    keys = [name, *(o for o in order if o != name)]
    common = json.loads(column["vals"])[0]
    literal = sql.Literal(common if isinstance(common, bool | str) else json.dumps(common))
    ddl = (
        sql.SQL("CREATE INDEX ON {} ({}) WHERE {} <> {}")
        .format(table, sql.SQL(", ").join(sql.Identifier(k) for k in keys), sql.Identifier(name), literal)
        .as_string()
    )
    parsed = parse_index_statement(ddl)
    # "rare" in the name: the rule before this one may have proposed an index on the same columns
    index = free_name(column["schema_name"], column["table_name"], [*keys, "rare"], taken)
    return render(parsed, schema=column["schema_name"], table=column["table_name"], index=index, concurrently=True)


RULES = (
    Rule("hot_query_without_index", "Hot statements without an index", hot_queries, timeout_s=60.0),
    Rule("skewed_columns", "Skewed columns", skewed_columns, timeout_s=30.0),
)

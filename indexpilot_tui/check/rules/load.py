"""Rules on what the server does at this moment: what would hold up a change, or be held up by one."""

from __future__ import annotations

from psycopg import sql

from indexpilot_tui.check.context import CheckContext, Rule, ok, unknown, warning
from indexpilot_tui.check.model import Outcome
from indexpilot_tui.engine.postgres.text import clean_line

CONNECTIONS_USED = 0.9  # share of max_connections from which a console must not take more
STALE_SHARE, STALE_ROWS = 0.2, 1_000  # twice what autovacuum_analyze_scale_factor (0.1) asks for by default, and not trifles


async def old_transactions(ctx: CheckContext) -> Outcome:
    activity = (await ctx.observation()).activity
    limit = ctx.settings.production_safeguards.throttle.max_oldest_xact_seconds
    if activity.oldest_xact_s is None or activity.oldest_snapshot_s is None:
        return unknown("the sessions of other roles are hidden", fix="GRANT pg_monitor to this login")
    seen = {
        "oldest_xact_s": round(activity.oldest_xact_s, 1),
        "oldest_snapshot_s": round(activity.oldest_snapshot_s, 1),
        "pid": activity.oldest_xact_pid,
        "query": activity.oldest_xact_query,
        "limit_s": limit,
    }
    if activity.oldest_xact_s > limit:
        return warning(
            f"a transaction is {activity.oldest_xact_s:.0f} s old (limit {limit:.0f} s): a concurrent build waits for it",
            seen,
            fix=f"end it at its source, or: SELECT pg_terminate_backend({activity.oldest_xact_pid})",
        )
    return ok(f"the oldest transaction is {activity.oldest_xact_s:.0f} s old", seen)


async def prepared_transactions(ctx: CheckContext) -> Outcome:
    rows = await ctx.rows("prepared")
    limit = ctx.settings.production_safeguards.blockers.max_writer_age_seconds
    old = [row for row in rows if row["age_s"] > limit]
    evidence = [
        {"gid": clean_line(row["gid"]), "owner": clean_line(row["owner"]), "age_s": round(row["age_s"], 1)} for row in old
    ]
    if old:
        fix = "\n".join(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(row["gid"])).as_string() for row in old)
        return warning(
            f"{len(old)} prepared transactions are older than {limit:.0f} s: they hold locks, and a build waits for them",
            *evidence,
            fix=fix + "  -- or COMMIT PREPARED, as its coordinator decided",
        )
    return ok(f"{len(rows)} prepared transactions, none older than {limit:.0f} s")


async def lock_waiters(ctx: CheckContext) -> Outcome:
    activity = (await ctx.observation()).activity
    limit = ctx.settings.production_safeguards.throttle.max_lock_waiters
    if activity.lock_waiters is None:
        return unknown("the sessions of other roles are hidden", fix="GRANT pg_monitor to this login")
    seen = {"lock_waiters": activity.lock_waiters, "limit": limit}
    if activity.lock_waiters > limit:
        return warning(
            f"{activity.lock_waiters} sessions wait for locks (limit {limit})",
            seen,
            fix="SELECT pid, pg_blocking_pids(pid), query FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
        )
    return ok(f"{activity.lock_waiters} sessions wait for locks", seen)


async def connections(ctx: CheckContext) -> Outcome:
    activity = (await ctx.observation()).activity
    if not activity.connections or not activity.max_connections:
        return unknown("the number of connections could not be read")
    used = activity.connections / activity.max_connections
    seen = {"connections": activity.connections, "max_connections": activity.max_connections}
    summary = f"{activity.connections} of {activity.max_connections} connections are in use"
    if used >= CONNECTIONS_USED:
        return warning(summary, seen, fix="free connections, or put a pooler before the application")
    return ok(summary, seen)


async def stale_statistics(ctx: CheckContext) -> Outcome:
    rows = await ctx.rows("stale_statistics", share=STALE_SHARE, rows=STALE_ROWS)
    if not rows:
        return ok("the planner's statistics follow the tables")
    evidence = [
        {
            "table": clean_line(f"{row['schema_name']}.{row['table_name']}"),
            "rows": row["live"],
            "changed_since_analyze": row["changed"],
            "last_analyze": row["last_analyze"],
        }
        for row in rows
    ]
    fix = "\n".join(
        sql.SQL("ANALYZE {}").format(sql.Identifier(row["schema_name"], row["table_name"])).as_string() for row in rows
    )
    return warning(
        f"{len(rows)} tables changed much since their last ANALYZE, so plans and forecasts err", *evidence, fix=fix
    )


RULES = (
    Rule("old_transactions", "Old transactions", old_transactions),
    Rule("prepared_transactions", "Prepared transactions", prepared_transactions),
    Rule("lock_waiters", "Sessions waiting for locks", lock_waiters),
    Rule("connections", "Connections in use", connections),
    Rule("stale_statistics", "Planner statistics", stale_statistics),
)

"""Rules on what this login can see, and whether changes are possible at all."""

from __future__ import annotations

from psycopg import sql

from indexpilot_tui.check.context import CheckContext, Rule, ok, unknown, warning
from indexpilot_tui.check.model import Outcome
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import ServerError

READ_ALL_DATA = 140000  # the role pg_read_all_data exists from here on


async def pg_stat_statements(ctx: CheckContext) -> Outcome:
    spots = (await ctx.observation()).hotspots
    if not spots.available:
        reason, _, remedy = spots.unavailable.partition(": ")
        return warning(f"statement statistics cannot be read: {reason}", fix=remedy or spots.unavailable)
    since = spots.epoch_started.isoformat() if spots.epoch_started else "unknown"
    seen = {"statements": spots.statements_seen, "hidden": spots.hidden, "since": since}
    if spots.hidden:
        fix = _grant("pg_monitor", ctx.session.facts.session_user)
        return warning(f"{spots.hidden} statements of other roles are hidden from this login", seen, fix=fix)
    if "evicted" in spots.epoch_note:
        return warning(spots.epoch_note, seen, fix="ALTER SYSTEM SET pg_stat_statements.max = 20000 -- and restart")
    return ok(f"{spots.statements_seen} statements are counted", seen)


def _grant(role: str, user: str) -> str:
    return sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(user)).as_string()


async def privileges(ctx: CheckContext) -> Outcome:
    row = await ctx.row("rights")
    user: str = row["role_name"]
    missing: list[str] = []
    fixes: list[str] = []
    if not (row["reads_all_stats"] and row["reads_all_settings"]):
        missing.append("the sessions and statistics of other roles are hidden")
        fixes.append(_grant("pg_monitor", user))
    if row["unreadable"]:
        missing.append(
            f"the planner statistics of {row['unreadable']} of {row['tables']} tables are hidden, so forecasts lack them"
        )
        if ctx.session.facts.server_version >= READ_ALL_DATA:
            fixes.append(_grant("pg_read_all_data", user))
        else:
            fixes.append(
                f"GRANT USAGE ON SCHEMA ... and SELECT ON ALL TABLES IN SCHEMA ... TO {sql.Identifier(user).as_string()}"
            )
    examples = [clean_line(name) for name in row["examples"] or []]
    seen = {"user": clean_line(user), "tables": row["tables"], "unreadable": row["unreadable"], "examples": examples}
    if missing:
        return warning("; ".join(missing), seen, fix="\n".join(fixes))
    if row["is_superuser"] and ctx.target.production:
        return warning(
            f"{clean_line(user)} is a superuser: a console that only looks needs no such login",
            seen,
            fix="use a login with pg_monitor; `indexpilot setup-sql` prints the roles",
        )
    return ok("all statistics are visible to this login", seen)


async def control_schema(ctx: CheckContext) -> Outcome:
    if ctx.journal_missing:
        return warning(
            "there is no control schema, so this target can be looked at but not changed",
            fix="review `indexpilot setup-sql` and run it, or name its database in control.dsn",
        )
    if ctx.journal_error is not None:
        return unknown(f"the control schema cannot be used: {ctx.journal_error.message}", fix=ctx.journal_error.remedy or "")
    if ctx.journal is None:
        raise ServerError("the control schema was not looked for")
    return ok("the control schema is there, of the version that this program needs")


RULES = (
    Rule("pg_stat_statements", "Statement statistics", pg_stat_statements),
    Rule("privileges", "Privileges of this login", privileges),
    Rule("control_schema", "Control schema", control_schema),
)

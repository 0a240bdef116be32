"""Rules on the session and the server behind it."""

from __future__ import annotations

from datetime import date, datetime

from indexpilot_tui.check.context import CheckContext, Rule, critical, ok, warning
from indexpilot_tui.check.model import Outcome
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.safeguards.server_version import refusal

# last minor release of each major: https://www.postgresql.org/support/versioning/
END_OF_LIFE = {
    13: date(2025, 11, 13),
    14: date(2026, 11, 12),
    15: date(2027, 11, 11),
    16: date(2028, 11, 9),
    17: date(2029, 11, 8),
    18: date(2030, 11, 14),
}
MAX_SKEW_S = 5.0  # beyond it windows and leases are not to be trusted (safe-index-changes, gate "window")


async def connection(ctx: CheckContext) -> Outcome:
    facts = ctx.session.facts
    where = {
        "host": clean_line(facts.host),
        "port": facts.port,
        "database": clean_line(facts.database),
        "user": clean_line(facts.session_user),
        "clock_skew_s": round(facts.clock_skew_s, 2),
    }
    if not facts.direct:
        return warning(
            "connected through a pooler: looking works, changing does not",
            where,
            fix="name the server's own host and port for this target",
        )
    if abs(facts.clock_skew_s) > MAX_SKEW_S:
        return warning(
            f"connected, but this machine's clock is {abs(facts.clock_skew_s):.0f} s off the server's",
            where,
            fix="synchronise both clocks (NTP)",
        )
    return ok(f"connected to {where['database']} as {where['user']}", where)


async def tls(ctx: CheckContext) -> Outcome:
    facts = ctx.session.facts.tls
    seen = {"sslmode": facts.sslmode, "version": facts.version, "cipher": facts.cipher, "unix_socket": facts.unix_socket}
    if facts.unix_socket:
        return ok("a unix socket: nothing leaves this machine", seen)
    if facts.authenticated:
        return ok(f"{clean_line(facts.version) or 'TLS'}, and the server proved its name (verify-full)", seen)
    fix = "sslmode=verify-full and sslrootcert=FILE for this target"
    if facts.in_use:
        return warning(f"encrypted, but sslmode={facts.sslmode} does not prove which server answers", seen, fix=fix)
    summary = "the session is not encrypted"
    return critical(summary, seen, fix=fix) if ctx.target.production else warning(summary, seen, fix=fix)


async def node(ctx: CheckContext) -> Outcome:
    row = await ctx.row("node")
    seen = {
        "in_recovery": row["in_recovery"],
        "timeline": ctx.session.facts.timeline,
        "system_identifier": ctx.session.facts.system_identifier,
    }
    if row["in_recovery"]:
        return warning(
            "this is a standby: indexes cannot be changed here, and scans are those of this node alone",
            seen,
            fix="target_session_attrs=read-write, with all hosts in the target",
        )
    return ok("this is the primary", seen)


def end_of_life(version: int, today: date) -> date | None:
    """The day on which this `server_version_num` got its last minor release, if that is past."""
    end = END_OF_LIFE.get(version // 10000)
    return end if end is not None and today > end else None


async def server_version(ctx: CheckContext) -> Outcome:
    row = await ctx.row("node")
    version: int = ctx.session.facts.server_version
    now: datetime = row["now"]
    shown = f"{version // 10000}.{version % 10000}"
    seen = {"server_version": shown, "server_version_num": version}
    why = refusal(version, row["max_prepared_transactions"])
    if why:
        return critical(f"PostgreSQL {shown}: {why}", seen, fix="update to the newest minor release")
    end = end_of_life(version, now.date())
    if end is not None:
        return warning(
            f"PostgreSQL {shown} gets no fixes since {end}",
            seen,
            fix=f"pg_upgrade to {max(END_OF_LIFE)} or another supported major",
        )
    return ok(f"PostgreSQL {shown}, no known defect in concurrent builds", seen)


# setting -> (values that are well, what the others mean, critical outside the demo)
_SETTINGS: dict[str, tuple[str, str, bool]] = {
    "fsync": ("on", "a crash can corrupt every table and index", True),
    "full_page_writes": ("on", "a crash can leave torn pages", True),
    "zero_damaged_pages": ("off", "damaged pages are silently emptied", True),
    "ignore_checksum_failure": ("off", "damaged pages are read as if they were sound", True),
    "track_counts": ("on", "scans are not counted, so use and age of statistics mean nothing", False),
    "track_activities": ("on", "what sessions do cannot be seen", False),
    "autovacuum": ("on", "statistics and visibility maps grow stale, so plans and forecasts do", False),
    "enable_indexscan": ("on", "plans avoid indexes", False),
    "enable_indexonlyscan": ("on", "plans avoid index-only scans", False),
    "enable_bitmapscan": ("on", "plans avoid bitmap scans", False),
    "enable_seqscan": ("on", "plans avoid sequential scans even where they are best", False),
}


async def server_settings(ctx: CheckContext) -> Outcome:
    rows = {row["name"]: row["setting"] for row in await ctx.rows("settings", names=list(_SETTINGS))}
    wrong = [name for name, (good, _, _) in _SETTINGS.items() if name in rows and rows[name] != good]
    if len(rows) < len(_SETTINGS):
        absent = sorted(set(_SETTINGS) - set(rows))
        raise ValueError(f"the server does not show {', '.join(absent)}")
    if not wrong:
        return ok(f"{len(rows)} settings that index work rests on are in order")
    evidence = [{"setting": n, "value": rows[n], "meaning": _SETTINGS[n][1]} for n in wrong]
    fix = "\n".join(f"ALTER SYSTEM SET {n} = '{_SETTINGS[n][0]}'" for n in wrong)
    summary = "; ".join(f"{n} = {rows[n]}: {_SETTINGS[n][1]}" for n in wrong)
    if any(_SETTINGS[n][2] for n in wrong) and ctx.target.environment != "demo":
        return critical(summary, *evidence, fix=fix)
    return warning(summary, *evidence, fix=fix)


RULES = (
    Rule("connection", "Connection", connection),
    Rule("tls", "Encryption", tls),
    Rule("node", "Primary or standby", node),
    Rule("server_version", "Server version", server_version),
    Rule("server_settings", "Server settings", server_settings),
)

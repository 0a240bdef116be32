"""What a new index would cost the writers of its table: one more index to keep, updates that are not HOT any more, and
whether writing is slow already."""

from __future__ import annotations

from dataclasses import replace

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer, must_see_everybody
from indexpilot_tui.engine.safeguards.demanded import CHEAP_S, not_configured, switched_off
from indexpilot_tui.engine.safeguards.hot_columns import indexed_columns, lost_share
from indexpilot_tui.engine.safeguards.memory import Two
from indexpilot_tui.engine.safeguards.signals import signals, two_needed
from indexpilot_tui.engine.safeguards.table_writes import (
    Before,
    Counts,
    Facts,
    Statements,
    Writes,
    between,
    counts_of,
    facts_of,
    statements_of,
)
from indexpilot_tui.settings.safeguards import WritePerformance

NAME = "write_performance"
SETTING = "production_safeguards.write_performance"
AGAIN_S = 1.0  # both waits are below what a gate may take
SUMMARIZING = 160000  # from here on an index that summarizes (BRIN) keeps no update from being HOT


async def prime(ctx: GateContext) -> None:
    """The first reading of the table's counters."""
    if ctx.plan is not None and ctx.plan.kind == "create" and ctx.settings.production_safeguards.write_performance.enabled:
        await ctx.memory.first(_key(ctx), lambda: _counts(ctx))


def _key(ctx: GateContext) -> str:
    return f"writes {ctx.the_plan.table_oid}"


async def known(ctx: GateContext) -> tuple[Facts, Statements]:
    """What the table is and who writes it; texts are read once a minute."""
    facts = await ctx.memory.once("written", ctx.now, lambda: facts_of(ctx.session, ctx.the_plan))
    oid = ctx.the_plan.table_oid
    return facts, await ctx.memory.kept(f"statements {oid}", CHEAP_S, lambda: statements_of(ctx.session, ctx.the_plan))


async def _counts(ctx: GateContext) -> Counts:
    return await counts_of(ctx.session, *await known(ctx))


async def read(ctx: GateContext) -> list[Verdict]:
    """Block one index too many and the loss of too many HOT updates; wait while writes take long. Of new indexes only."""
    policy = ctx.settings.production_safeguards.write_performance
    if not policy.enabled:
        return switched_off(NAME, SETTING)
    if ctx.the_plan.kind != "create":
        return answer(NAME, Status.PASS, f"a {ctx.the_plan.kind} gives writers nothing more to do", setting=SETTING)
    facts, statements = await known(ctx)
    verdicts = [judge_count(facts.indexes + 1, policy)]
    if statements.unavailable:
        more = not_configured(ctx, f"{NAME}.writes", SETTING, None, f"writes are not known: {statements.unavailable}")
        return verdicts + more
    await must_see_everybody(ctx)
    two, writes = await _compared(ctx)
    verdicts += _hot(ctx, facts, statements, two.second, policy)
    now = two.second
    hot = now.hot_updated / now.updated if now.updated else None  # since the reset: a second tells too little
    xacts = (await signals(ctx)).second.rates.xacts if two_needed(ctx) else None
    ctx.memory.before = Before(replace(writes, hot=hot), xacts)
    verdicts.append(judge_latency(writes, two.seconds, policy))
    return verdicts


async def _compared(ctx: GateContext) -> tuple[Two[Counts], Writes]:
    """Two readings and what lies between. Where that is not known the later one is as good a beginning, once."""
    wait = ctx.settings.production_safeguards.throttle.sample_seconds
    two = await ctx.memory.two(_key(ctx), wait, lambda: _counts(ctx))
    try:
        return two, between(two.first, two.second)
    except ValueError:
        two = await ctx.memory.two(_key(ctx), min(wait, AGAIN_S), lambda: _counts(ctx))
        return two, between(two.first, two.second)


def judge_count(after: int, policy: WritePerformance) -> Verdict:
    """How many indexes the table would have."""
    most = policy.max_indexes_per_table
    facts = (str(after), str(most), f"{SETTING}.max_indexes_per_table")
    if after > most:
        why = "with this one the table has too many indexes, and every write pays for each: drop one first"
        return Verdict(f"{NAME}.indexes", Status.BLOCK, *facts, why)
    many = ": many for a table that is written" if after >= policy.warn_indexes_per_table else ""
    return Verdict(f"{NAME}.indexes", Status.PASS, *facts, f"{after} indexes with this one{many}")


def _hot(ctx: GateContext, facts: Facts, statements: Statements, counts: Counts, policy: WritePerformance) -> list[Verdict]:
    plan = ctx.the_plan
    name, setting = f"{NAME}.hot", f"{SETTING}.write_overhead_threshold"
    limit = f"{100 * policy.write_overhead_threshold:g} %"
    if counts.updated == 0 or counts.hot_updated == 0:
        return answer(name, Status.PASS, "no update of the table is HOT", measured="0 %", limit=limit, setting=setting)
    if plan.method == "brin" and ctx.session.facts.server_version >= SUMMARIZING:
        return answer(name, Status.PASS, "BRIN keeps no update from being HOT", measured="0 %", limit=limit, setting=setting)
    hot = counts.hot_updated / counts.updated
    lost = lost_share(statements.found, facts.columns, indexed_columns(plan.ddl))
    if lost is None:
        remedy = "the table is updated, but hardly an UPDATE of it is in pg_stat_statements, so what is lost is not known"
        return not_configured(ctx, name, setting, None, remedy)
    return [judge_hot(min(lost, hot), hot, statements, policy)]


def judge_hot(lost: float, hot: float, statements: Statements, policy: WritePerformance) -> Verdict:
    """The share of the updates that would write every index from now on."""
    name, most = f"{NAME}.hot", policy.write_overhead_threshold
    facts = (f"{100 * lost:.0f} %", f"{100 * most:g} %", f"{SETTING}.write_overhead_threshold")
    unread = sum(s.columns is None for s in statements.found)
    doubt = f" ({unread} statements could not be read, the worst is assumed)" if unread else ""
    now = f"{100 * hot:.0f} % of the updates are HOT now"
    if lost > most:
        why = f"{100 * lost:.0f} % of the updates would not be HOT any more, {now}{doubt}: index other columns"
        return Verdict(name, Status.BLOCK, *facts, why)
    return Verdict(name, Status.PASS, *facts, f"updates that would not be HOT any more; {now}{doubt}")


def judge_latency(writes: Writes, seconds: float, policy: WritePerformance) -> Verdict:
    """How long a write of the table takes now, by the server's own measure."""
    name, most, setting = f"{NAME}.latency", policy.max_write_latency_ms, f"{SETTING}.max_write_latency_ms"
    if writes.mean_ms is None:
        why = f"no write of the table ended within {seconds:.0f} s"
        return Verdict(name, Status.PASS, "no writes", f"{most:g} ms", setting, why)
    what = f"mean of {writes.calls:.0f} writes of the table within {seconds:.0f} s"
    status = Status.PASS if writes.mean_ms <= most else Status.WAIT
    return Verdict(name, status, f"{writes.mean_ms:.2f} ms", f"{most:g} ms", setting, what)


PARTS = ("indexes", "hot", "latency", "writes")
GATE = Gate(NAME, SETTING, read, holds_rollback=False, prime=prime, parts=PARTS)

"""What the server says of itself, read once for all gates of an evaluation, by the reader that the panes have too."""

from __future__ import annotations

from typing import TypeVar

from indexpilot_tui.engine.observe.replication import Replication
from indexpilot_tui.engine.observe.signals import Signals
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.memory import Two

KEY = "signals"
T = TypeVar("T")


async def look(ctx: GateContext) -> Signals:
    """One reading, now. A refusal of the server's is not remembered: a gate asks again each time."""
    reader = ctx.memory.signals
    reader.asker.forget()
    return await reader.read(ctx.session)


def two_needed(ctx: GateContext) -> bool:
    """Whether anybody judges load in this evaluation: one reading is enough for the rest."""
    return ctx.settings.production_safeguards.throttle.enabled or ctx.target.cores is not None


async def prime(ctx: GateContext) -> None:
    """The first reading, before the other gates are asked: so the second need not be waited for as long."""
    if two_needed(ctx):
        await ctx.memory.first(KEY, lambda: look(ctx))


async def signals(ctx: GateContext) -> Two[Signals]:
    """Two readings, the configured time apart; the same for all gates of this evaluation."""
    wait = ctx.settings.production_safeguards.throttle.sample_seconds
    return await ctx.memory.once(KEY, ctx.now, lambda: ctx.memory.two(KEY, wait, lambda: look(ctx)))


async def newest(ctx: GateContext) -> Signals:
    """The newer of the two readings, or the only one."""
    if two_needed(ctx):
        return (await signals(ctx)).second
    return await ctx.memory.once("newest", ctx.now, lambda: look(ctx))


async def replication(ctx: GateContext) -> Replication:
    """Standbys, slots and archiver. Raises ValueError for what this login may not see."""
    found = (await newest(ctx)).replication
    if found is None or found.unread:
        raise ValueError("; ".join(found.unread) if found is not None else "replication was not read")
    return found


def known(value: T | None, what: str) -> T:
    """A figure that was measured. Raises ValueError when it was not: nothing unread counts as calm."""
    if value is None:
        raise ValueError(f"the server gave no value for {what}")
    return value

"""`indexpilot changes ...`: the same steps as in the console, headless."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from indexpilot_tui.cli.kill_switch import allow, stop
from indexpilot_tui.cli.options import Common, common_options
from indexpilot_tui.cli.running import engine_of, print_json, run_async, say
from indexpilot_tui.errors import CRITICAL, OK, ServerError

if TYPE_CHECKING:
    from indexpilot_tui.engine.engine import Engine
    from indexpilot_tui.engine.model.change import Change

POLL_S = 0.5
SILENCE_S = 60.0  # an executor asks the gates and claims within seconds


@click.group()
def changes() -> None:
    """List, show, propose, approve, reject, withdraw, apply, abort and roll back changes; stop or allow all starts."""


def _operate(common: Common, target: str | None, work: Callable[[Engine], Awaitable[int]]) -> int:
    async def body() -> int:
        async with engine_of(common, common.settings(), target, operate=True) as engine:
            return await work(engine)

    return run_async(body())


def _show(common: Common, change: Change) -> None:
    if common.json:
        print_json(change.to_json())
    else:
        for line in change_lines(change):
            click.echo(line)


@changes.command("list")
@click.argument("target", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@common_options
def list_(target: str | None, limit: int, common: Common) -> int:
    """The newest changes."""

    async def work() -> int:
        async with engine_of(common, common.settings(), target) as engine:
            found = await engine.changes(limit)
        if common.json:
            print_json([c.to_json() for c in found])
        else:
            click.echo(f"{'id':>5}  {'state':<14}  {'kind':<7}  {'by':<16}  {'since':<25}  what")
            for c in found:
                since = c.state_since.isoformat(timespec="seconds")
                click.echo(
                    f"{c.id:>5}  {c.state.value:<14}  {c.kind:<7}  {c.requested_by:<16}  {since:<25}  {shown(c.plan.ddl)}"
                )
        return OK

    return run_async(work())


@changes.command()
@click.argument("change_id", type=int)
@click.argument("target", required=False)
@common_options
def show(change_id: int, target: str | None, common: Common) -> int:
    """One change with its approvals, verdicts and every event of its log."""

    async def work() -> int:
        async with engine_of(common, common.settings(), target) as engine:
            _show(common, await engine.change(change_id))
        return OK

    return run_async(work())


@changes.command()
@click.argument("ddl")
@click.argument("target", required=False)
@click.option("--reason", required=True, help="Why; it stands in the log.")
@common_options
def propose(ddl: str, target: str | None, reason: str, common: Common) -> int:
    """Propose one CREATE or DROP INDEX. It is built concurrently whatever the text says."""
    from indexpilot_tui.engine.postgres.ddl import parse_index_statement

    parse_index_statement(ddl)

    async def work(engine: Engine) -> int:
        change = await engine.propose(ddl, reason)
        _show(common, change)
        say(f"proposed; another login approves it with: indexpilot changes approve {change.id}")
        return OK

    return _operate(common, target, work)


@changes.command()
@click.argument("change_id", type=int)
@click.argument("target", required=False)
@common_options
def approve(change_id: int, target: str | None, common: Common) -> int:
    """Approve a change that somebody else proposed. The approval binds its plan, this server and a day."""

    async def work(engine: Engine) -> int:
        _show(common, await engine.approve(change_id))
        return OK

    return _operate(common, target, work)


def _with_reason(name: str, help_text: str) -> None:
    @changes.command(name, help=help_text)
    @click.argument("change_id", type=int)
    @click.argument("target", required=False)
    @click.option("--reason", required=True, help="Why; it stands in the log.")
    @common_options
    def command(change_id: int, target: str | None, reason: str, common: Common) -> int:
        async def work(engine: Engine) -> int:
            deed: Callable[[int, str], Awaitable[Change]] = getattr(engine, name)
            _show(common, await deed(change_id, reason))
            return OK

        return _operate(common, target, work)


_with_reason("reject", "Reject a change that has not started.")
_with_reason("withdraw", "Withdraw one's own change that has not started.")
_with_reason("abort", "Stop a change that is running: its build is cancelled and its leftover removed.")


changes.add_command(stop)
changes.add_command(allow)


@changes.command()
@click.argument("change_id", type=int)
@click.argument("target", required=False)
@click.option("--detach", is_flag=True, help="Return as soon as the executor has it.")
@common_options
def apply(change_id: int, target: str | None, detach: bool, common: Common) -> int:
    """Carry out an approved change, and follow it until the catalog is verified."""

    async def work(engine: Engine) -> int:
        seen = max((e.seq for e in (await engine.change(change_id)).events), default=0)
        return await follow(engine, common, await engine.apply(change_id), detach, seen)

    return _operate(common, target, work)


@changes.command()
@click.argument("change_id", type=int)
@click.argument("target", required=False)
@click.option("--reason", required=True, help="Why; it stands in the log.")
@click.option("--detach", is_flag=True, help="Return as soon as the executor has it.")
@common_options
def rollback(change_id: int, target: str | None, reason: str, detach: bool, common: Common) -> int:
    """Take a change back: a change of its own, covered by the first one's approval for a day."""

    async def work(engine: Engine) -> int:
        return await follow(engine, common, await engine.rollback(change_id, reason), detach, 0)

    return _operate(common, target, work)


async def follow(engine: Engine, common: Common, change: Change, detach: bool, seen: int) -> int:
    """Print the events of a change after row `seen` as they come, until it is observed, has ended, or waits for a person.

    A change that its executor did not start (a gate closed in between) stays approved: exit status 2. One that nobody
    moves for SILENCE_S is told as such (exit status 3): its executor is gone, and the next start looks after it.
    """
    from indexpilot_tui.engine.model.change import State

    waiting = (State.PROPOSED, State.APPROVED)
    heard = time.monotonic()
    while not detach:
        fresh = [event for event in change.events if event.seq > seen]
        for event in fresh:
            say(f"{event.at.isoformat(timespec='seconds')} {event.action} {brief(event.detail)}")
        if fresh:
            seen, heard = fresh[-1].seq, time.monotonic()
        refused = any(event.action == "apply.refused" for event in fresh) and change.state in waiting
        if refused or change.ended or change.state in (State.OBSERVING, State.NEEDS_OPERATOR):
            break
        if change.state in waiting and time.monotonic() - heard > SILENCE_S:
            raise ServerError(
                f"change {change.id} is still {change.state.value}: its executor has said nothing for {SILENCE_S:.0f} s",
                remedy=f"indexpilot changes show {change.id}; apply it again when it is still {change.state.value}",
            )
        await asyncio.sleep(POLL_S)
        change = await engine.change(change.id)
    _show(common, change)
    return OK if detach or change.state in (State.OBSERVING, State.DONE, State.ROLLED_BACK) else CRITICAL


def brief(detail: dict[str, Any]) -> str:
    from indexpilot_tui.engine.postgres.text import clean_line

    return clean_line(", ".join(f"{k}={v}" for k, v in detail.items() if not isinstance(v, dict | list)), 300)


def shown(text: str) -> str:
    from indexpilot_tui.engine.postgres.text import clean_line

    return clean_line(text, 300)


def change_lines(change: Change) -> list[str]:
    """A change for a person."""
    lines = [
        f"change {change.id}: {change.state.value} since {change.state_since.isoformat(timespec='seconds')}",
        f"  {shown(change.plan.ddl)}",
        f"  target {shown(change.target)}, proposed by {shown(change.requested_by)}: {shown(change.reason)}",
        f"  plan sha256 {change.plan_sha256}",
    ]
    if change.parent_id is not None:
        lines.append(f"  takes back change {change.parent_id}")
    lines += [
        f"  approved by {shown(a.approver)} at {a.at.isoformat(timespec='seconds')}, "
        f"until {a.expires_at.isoformat(timespec='seconds')}"
        for a in change.approvals
    ]
    if change.index_oid is not None:
        lines.append(f"  index oid {change.index_oid}, {'valid' if change.index_valid else 'NOT valid'}")
    if change.outcome:
        lines.append(f"  {shown(change.outcome)}")
    if change.verification is not None:
        lines.append(f"  verification: {change.verification.verdict}: {shown(change.verification.reason)}")
        lines += [
            f"    {q.verdict:<12} {q.mean_before_ms:>10.3f} -> {q.mean_after_ms:>10.3f} ms  {shown(q.query)[:80]}"
            for q in change.verification.queries
        ]
    lines += [f"  {v.status.value:<8} {v.guard}: {shown(v.evidence)}" for v in change.verdicts if not v.allows]
    lines += [
        f"  {e.seq:>6} {e.at.isoformat(timespec='seconds')} {e.actor} {e.action} {brief(e.detail)}" for e in change.events
    ]
    return lines

"""What the verbs of `indexpilot changes` share: a change for a person, and following one while it is carried out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from indexpilot_tui.cli.options import Common
from indexpilot_tui.cli.running import engine_of, print_json, run_async, say
from indexpilot_tui.engine.model.narrative import told
from indexpilot_tui.errors import CRITICAL, OK, ServerError

if TYPE_CHECKING:
    from indexpilot_tui.engine.engine import Engine
    from indexpilot_tui.engine.model.change import Change

POLL_S = 0.5
SILENCE_S = 60.0  # an executor asks the gates and claims within seconds


def operate(common: Common, target: str | None, work: Callable[[Engine], Awaitable[int]]) -> int:
    async def body() -> int:
        async with engine_of(common, common.settings(), target, operate=True) as engine:
            return await work(engine)

    return run_async(body())


def show_change(common: Common, change: Change) -> None:
    if common.json:
        print_json(change.to_json())
    else:
        for line in change_lines(change):
            click.echo(line)


async def follow(engine: Engine, common: Common, change: Change, detach: bool, seen: int) -> int:
    """Print the events of a change after row `seen` as they come, until it is observed, has ended, or waits for a person.

    A change that its executor did not start (a gate closed in between) stays as it was: exit status 2. One that nobody
    moves for SILENCE_S is told as such (exit status 3): its executor is gone, and the next start looks after it.
    """
    from indexpilot_tui.engine.model.change import State

    waiting = (State.PROPOSED, State.APPROVED, State.QUEUED)
    heard = time.monotonic()
    while not detach:
        fresh = [event for event in change.events if event.seq > seen]
        for event in fresh:
            say(f"{event.at.isoformat(timespec='seconds')} {shown(told(event.action, event.detail))}")
        if fresh:
            seen, heard = fresh[-1].seq, time.monotonic()
        refused = any(event.action == "apply.refused" for event in fresh) and change.state in waiting
        if refused or change.ended or change.state in (State.OBSERVING, State.NEEDS_OPERATOR):
            break
        if change.state in waiting[:2] and time.monotonic() - heard > SILENCE_S:
            raise ServerError(
                f"change {change.id} is still {change.state.value}: its executor has said nothing for {SILENCE_S:.0f} s",
                remedy=f"indexpilot changes show {change.id}; apply it again when it is still {change.state.value}",
            )
        await asyncio.sleep(POLL_S)
        change = await engine.change(change.id)
    show_change(common, change)
    return OK if detach or change.state in (State.OBSERVING, State.DONE, State.ROLLED_BACK) else CRITICAL


def brief(detail: dict[str, Any]) -> str:
    from indexpilot_tui.engine.postgres.text import clean_line

    return clean_line(", ".join(f"{k}={v}" for k, v in detail.items() if not isinstance(v, dict | list)), 300)


def shown(text: str) -> str:
    from indexpilot_tui.engine.postgres.text import clean_line

    return clean_line(text, 300)


def _mean(ms: float, calls: int) -> str:
    return f"{ms:>10.3f}" if calls else f"{'not called':>10}"


def _ways_out(change: Change) -> list[str]:
    """What a person can do about a change that needs one."""
    from indexpilot_tui.engine.model.change import State

    if change.state is not State.NEEDS_OPERATOR:
        return []
    asked = [event for event in change.events if event.action == "needs_operator"]
    return list(asked[-1].detail.get("commands", ())) if asked else []


def change_lines(change: Change) -> list[str]:
    """A change for a person."""
    lines = [
        f"change {change.id}: {change.state.value} since {change.state_since.isoformat(timespec='seconds')}",
        f"  {shown(change.plan.ddl)}",
        *(f"    {number}. {shown(step.ddl)}" for number, step in enumerate(change.plan.steps, 1)),
        f"  target {shown(change.target)}, proposed by {shown(change.requested_by)}: {shown(change.reason)}",
        f"  plan sha256 {change.plan_sha256}",
        f"  way back{'' if change.way_back is not None else ' (read again when it is carried out)'}: {shown(change.back)}",
    ]
    if change.plan.terms:
        limits = f"safeguards {str(change.plan.terms.get('sha256'))[:16]}"
        lines.append(f"  limits: {shown(str(change.plan.terms.get('environment')))}, {limits}")
    if change.parent_id is not None:
        lines.append(f"  takes back change {change.parent_id}")
    lines += [
        f"  approved by {shown(a.approver)} at {a.at.isoformat(timespec='seconds')}, "
        f"until {a.expires_at.isoformat(timespec='seconds')}"
        for a in change.approvals
    ]
    if change.index_oid is not None:
        lines.append(f"  index oid {change.index_oid}, {'valid' if change.index_valid else 'NOT valid'}")
    if change.standing is not None:
        against = "" if change.standing.as_planned else "NOT as planned: "
        lines.append(f"  catalog now: {against}{shown(change.standing.sentence)}")
    if change.outcome:
        lines.append(f"  {shown(change.outcome)}")
    lines += [f"  {shown(command)}" for command in _ways_out(change)]
    if change.verification is not None:
        lines.append(f"  verification: {change.verification.verdict}: {shown(change.verification.reason)}")
        lines += [
            f"    {q.verdict:<12} {_mean(q.mean_before_ms, q.calls_before)} -> {_mean(q.mean_after_ms, q.calls_after)} ms  "
            f"{shown(q.query)[:80]}"
            for q in change.verification.queries
        ]
    lines += [f"  {v.status.value:<8} {v.guard}: {shown(v.evidence)}" for v in change.verdicts if not v.allows]
    lines += [
        f"  {e.seq:>6} {e.at.isoformat(timespec='seconds')} {shown(e.actor)} {shown(told(e.action, e.detail))}"
        for e in change.events
    ]
    return lines

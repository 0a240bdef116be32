"""Running a verb: an engine for the length of a block, the demo around it, and an end that cleans up on every signal."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from indexpilot_tui.cli.options import Common
from indexpilot_tui.errors import IndexPilotError
from indexpilot_tui.settings import Settings, Target

if TYPE_CHECKING:
    from indexpilot_tui.engine.engine import Engine


class StoppedError(IndexPilotError):
    """A signal ended the command."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_status = 128 + signum


def run_async(work: Coroutine[Any, Any, int]) -> int:
    """Run a verb to its exit status. SIGTERM, SIGHUP and SIGINT cancel it, so that what it started is ended in order."""

    async def guarded() -> int:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)
        received: list[int] = []

        def stop(signum: int) -> None:
            received.append(signum)
            task.cancel()

        for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            loop.add_signal_handler(signum, stop, signum)
        try:
            return await task
        except asyncio.CancelledError:
            if received:
                raise StoppedError(received[0]) from None
            raise

    return asyncio.run(guarded())


def say(text: str) -> None:
    """Everything that is not the result goes to stderr."""
    click.echo(text, err=True)


def print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))
    sys.stdout.flush()


@asynccontextmanager
async def targets_of(common: Common, settings: Settings, name: str | None) -> AsyncIterator[tuple[Target, Target | None]]:
    """The target of a verb and the second login where one stands by. With --demo a demo server runs for the block."""
    if not common.demo:
        yield common.target(settings, name), None
        return
    from indexpilot_tui.demo import Demo

    async with await Demo.start(common.scenario, progress=say) as demo:
        yield demo_targets(demo.operator_conninfo, demo.approver_conninfo)


def demo_targets(operator: str, approver: str) -> tuple[Target, Target]:
    first, second = (
        Target(name=name, environment="demo", dsn=dsn, planner="demo_monitor", allow_unix_socket_changes=True)
        for name, dsn in (("demo", operator), ("demo-approver", approver))
    )
    return first, second


@asynccontextmanager
async def engine_of(common: Common, settings: Settings, name: str | None, *, operate: bool = False) -> AsyncIterator[Engine]:
    """An open engine on the target of a verb, or on its bundle."""
    from indexpilot_tui.engine import logs
    from indexpilot_tui.engine.engine import Engine

    logs.configure(settings, on_screen=False)
    if common.bundle is not None:
        offline = Engine.offline(common.bundle, settings)
        try:
            yield offline
        finally:
            await offline.close()
        return
    async with targets_of(common, settings, name) as (target, second):
        engine = await Engine.open(target, settings, operate=operate, second_login=second)
        try:
            for notice in engine.notices:
                say(notice)
            yield engine
        finally:
            await engine.close()

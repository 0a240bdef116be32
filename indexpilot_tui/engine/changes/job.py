"""What an executor process is told, and how it is started so that it outlives whoever started it."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path

import indexpilot_tui
from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.errors import ServerError
from indexpilot_tui.settings.model import Settings, Target
from indexpilot_tui.settings.section import section

MODULE = "indexpilot_tui.engine.changes.executor"
START_S = 60.0  # three connections, each with a connect_timeout of 10 s by default


def _path(value: object) -> str:
    if not isinstance(value, Path):
        raise TypeError(f"JSON has no {type(value).__name__}")
    return str(value)


@section
class Job:
    """The executor's order, as JSON on its stdin: a command line would be visible to everybody on the machine.

    `resume`: take a change over whose executor is gone, instead of starting one.
    """

    target: Target
    settings: Settings
    change_id: int
    resume: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=_path, allow_nan=False)


def control_target(target: Target, settings: Settings) -> Target:
    """Where the control schema lives: the target itself, or the database of `control.dsn` by the same rules."""
    if settings.control.dsn is None:
        return target
    return Target(
        name=f"{target.name}.control",
        environment=target.environment,
        dsn=settings.control.dsn,
        password_command=target.password_command,
        password_env=target.password_env,
        allow_auth=target.allow_auth,
        channel_binding=target.channel_binding,
        allow_unix_socket_changes=target.allow_unix_socket_changes,
    )


async def open_journal(target: Target, settings: Settings) -> Journal:
    """The journal on a session of its own. Raises ConnectError, NotInstalledError."""
    session = await connect(
        control_target(target, settings), Purpose.CONTROL, settings, application_name="indexpilot-control"
    )
    try:
        return await Journal.open(session, settings.control)
    except BaseException:
        await session.close()
        raise


async def spawn(target: Target, settings: Settings, change_id: int, *, resume: bool = False) -> int:
    """Start an executor for a change; returns its process id at once. It has a session of its own: neither a hang-up of
    the terminal nor the end of the console reaches it.

    Raises ServerError when it could not be started. What becomes of the change is in the journal.
    """
    job = Job(target=target, settings=settings, change_id=change_id, resume=resume)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        MODULE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(indexpilot_tui.__file__).parent.parent,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(START_S):
            out, err = await process.communicate(job.to_json().encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise ServerError(f"the executor did not start within {START_S:.0f} s") from None
    try:
        answer = json.loads(out)
    except ValueError:
        tail = err.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        answer = {"error": tail[0][:300]}
    if "pid" not in answer:
        raise ServerError(f"the executor did not start: {answer.get('error')}")
    return int(answer["pid"])

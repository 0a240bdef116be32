"""A metric from a command: argv without a shell, a time limit that holds for its children too, and a bounded answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

from indexpilot_tui.engine.metrics.answer import MAX_BYTES, MetricError
from indexpilot_tui.engine.postgres.text import clean_line

_REAP_S = 1.0


async def run(argv: Sequence[str], seconds: float, env: Mapping[str, str]) -> bytes:
    """What the command prints. Raises MetricError when it cannot be started, fails, is silent for too long or says too
    much; whatever it started is killed with it."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(env),
            start_new_session=True,  # a group of its own, so that a time-out reaches what it started
        )
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise MetricError(f"the command {clean_line(argv[0], 80)} cannot be started ({why})") from None
    try:
        async with asyncio.timeout(seconds):
            out = await _read(process)
            status = await process.wait()
    except TimeoutError:
        raise MetricError(f"the command gave no answer within {seconds:g} s") from None
    finally:
        await _end(process)
    if status != 0:
        raise MetricError(f"the command ended with status {status}")
    return out


async def _read(process: asyncio.subprocess.Process) -> bytes:
    """Up to the end, or one byte past the limit: who says more is not listened to."""
    stream, size = process.stdout, 0
    parts: list[bytes] = []
    while stream is not None and size <= MAX_BYTES:
        part = await stream.read(MAX_BYTES + 1 - size)
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
    raise MetricError(f"the command printed more than {MAX_BYTES} bytes")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the whole group: also children that outlive the command, and a command that closed its output and hangs."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_REAP_S):
            await process.wait()

"""Work in a process of its own that ends with it, for what is needed once and would stay in memory for days."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import TypeVar

from indexpilot_tui.errors import TRACEBACK, IndexPilotError

T = TypeVar("T")


def apart(work: Callable[[], T]) -> Callable[[], T]:
    """Start `work` in a fork of this process, at once; what is returned waits for it and gives its result, or raises the
    IndexPilotError that it raised. Anything else that goes wrong there raises RuntimeError.

    For a process without threads, and for a result of plain values: it comes back through a pipe.
    """
    theirs, ours = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(theirs)
            with os.fdopen(ours, "wb") as pipe:
                pipe.write(_answer(work))
            status = 0
        finally:
            os._exit(status)  # never back into what this process was going to do
    os.close(ours)

    def result() -> T:
        with os.fdopen(theirs, "rb") as pipe:
            answer = pipe.read()
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != 0 or not answer:
            ended = os.waitstatus_to_exitcode(status)
            raise RuntimeError(f"a process of ours ended before it was done (exit status {ended}; below 0: by that signal)")
        # written by our own fork, into a pipe that nobody else has
        made, error = pickle.loads(answer)  # noqa: S301
        if error is not None:
            raise error
        value: T = made
        return value

    return result


def _answer(work: Callable[[], T]) -> bytes:
    try:
        return pickle.dumps((work(), None))
    except IndexPilotError as exc:
        return pickle.dumps((None, exc))
    except Exception as exc:  # noqa: BLE001 - told by the process that waits for it
        text = f"{type(exc).__name__}: {exc}"
        if os.environ.get(TRACEBACK):
            import traceback

            text += "\n" + "".join(traceback.format_tb(exc.__traceback__))
        return pickle.dumps((None, RuntimeError(text)))

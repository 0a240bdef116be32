"""Work in a process of its own that ends with it, for what is needed once and would stay in memory for days."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

from indexpilot_tui.errors import TRACEBACK, DefectError, IndexPilotError

T = TypeVar("T")
_LENGTH = 8  # bytes before the answer: one that was cut off is none
_PR_SET_PDEATHSIG = 1


def apart(work: Callable[[], T]) -> Callable[[], T]:
    """Start `work` in a fork of this process, at once; what is returned waits for it and gives its result, or raises the
    IndexPilotError that it raised. Anything else that goes wrong there raises DefectError. The fork ends when this process
    ends, whatever `work` waits for.

    For a process without threads, and for a result of plain values: it comes back through a pipe.
    """
    theirs, ours = os.pipe()
    parent = os.getpid()
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # or Ctrl-C might lead the fork into its parent's code
    try:
        child = os.fork()
        if child == 0:
            os.close(theirs)
            _carry_out(work, ours, parent)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
    os.close(ours)

    def result() -> T:
        with os.fdopen(theirs, "rb") as pipe:
            answer = pipe.read()
        if len(answer) < _LENGTH or len(answer) != _LENGTH + int.from_bytes(answer[:_LENGTH]):
            raise DefectError(f"a process of ours ended before it was done ({_end_of(child)})")
        _end_of(child)
        # written by our own fork, into a pipe that nobody else has
        made, error = pickle.loads(answer[_LENGTH:])  # noqa: S301
        if error is not None:
            raise error
        value: T = made
        return value

    return result


def _end_of(child: int) -> str:
    """How a process of ours ended, and no more of it is left."""
    try:
        _, status = os.waitpid(child, 0)
    except ChildProcessError:  # whoever started us has SIGCHLD ignored: the system has removed it
        return "how, is not known"
    code = os.waitstatus_to_exitcode(status)
    return f"exit status {code}" if code >= 0 else f"by {signal.Signals(-code).name}"


def _carry_out(work: Callable[[], object], ours: int, parent: int) -> NoReturn:
    """In the fork: never back into what its parent was going to do."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        if sys.platform == "linux":  # a file that never answers (a hung mount) must not hold us longer than the console
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:
            answer = _answer(work)
            with os.fdopen(ours, "wb") as pipe:
                pipe.write(len(answer).to_bytes(_LENGTH) + answer)
            status = 0
    finally:
        os._exit(status)


def _answer(work: Callable[[], object]) -> bytes:
    try:
        try:
            return pickle.dumps((work(), None))
        except IndexPilotError as exc:
            answer = pickle.dumps((None, exc))
            pickle.loads(answer)  # noqa: S301 - our own: whether it can be made again over there
            return answer
    except Exception as exc:  # noqa: BLE001 - told by the process that waits for it
        text = f"{type(exc).__name__}: {exc}"
        if os.environ.get(TRACEBACK):
            import traceback

            text += "\n" + "".join(traceback.format_tb(exc.__traceback__)).rstrip()
        return pickle.dumps((None, DefectError(text)))

"""No dump of this process' memory: passwords and tokens are in it."""

from __future__ import annotations

import resource
import sys

_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """No core file of this process and of what it starts, and on Linux none through a program that takes them
    (systemd-coredump, apport: these are told of the limit, and need not heed it); other processes of the same user cannot
    read its memory either.

    Costs: to debug a running console one needs root. `INDEXPILOT_TRACEBACK=1` still shows where a defect happened.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import ctypes

        # of no consequence where it fails (seccomp): the limit above holds
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)

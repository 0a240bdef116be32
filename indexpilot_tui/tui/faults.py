"""How a failed call of the engine is told: one clear message with its remedy, or plainly named as a defect of ours."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from indexpilot_tui.errors import IndexPilotError

_log = logging.getLogger("indexpilot.tui")


@dataclass(frozen=True, slots=True)
class Fault:
    """`defect`: not an error that the engine foresaw; its traceback is in the log."""

    message: str
    remedy: str = ""
    defect: bool = False
    exit_status: int = IndexPilotError.exit_status

    @property
    def one_line(self) -> str:
        return self.message + (f" · {self.remedy}" if self.remedy else "")


def explain(exc: Exception, what: str) -> Fault:
    """The fault behind an exception; `what` says what was tried, e.g. "the simulation"."""
    if isinstance(exc, IndexPilotError):
        where = f"{exc.field} = {exc.value!r}: " if exc.field and exc.value is not None else ""
        return Fault(where + exc.message, exc.remedy or "", exit_status=exc.exit_status)
    _log.error("%s failed", what, exc_info=exc)
    name = type(exc).__name__
    return Fault(f"{what} failed by a defect of IndexPilot ({name}: {exc})", "logging.file has the traceback", True)

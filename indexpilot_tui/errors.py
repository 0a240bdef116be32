"""Errors that reach the operator, each with the exit status that the command line documents.

Every one of them is a single clear message: what is wrong (the field and its value where there is one) and the remedy.
Anything else that escapes is a defect of ours: it ends with status 3, and INDEXPILOT_TRACEBACK=1 shows its traceback.
"""

from __future__ import annotations

import os

from indexpilot_tui.scrub import scrubbed

OK, WARNING, CRITICAL, UNKNOWN, USAGE = 0, 1, 2, 3, 64
TRACEBACK = "INDEXPILOT_TRACEBACK"  # an environment variable: set it to see where a defect happened


class IndexPilotError(Exception):
    """Base of all operator-facing errors.

    `field` is the setting, option or object at fault, `value` what it was (never a secret), `remedy` what to do.
    """

    exit_status = UNKNOWN

    def __init__(
        self, message: str, *, field: str | None = None, value: str | None = None, remedy: str | None = None
    ) -> None:
        # whoever raises it cannot know where a password stood: a name that is none, an option, a URI in a message of libpq
        self.message = scrubbed(message)
        self.field, self.value, self.remedy = (scrubbed(part) if part else part for part in (field, value, remedy))
        super().__init__(self.message)

    def __str__(self) -> str:
        where = ""
        if self.field is not None:
            where = self.field + (f" = {self.value!r}" if self.value is not None else "") + ": "
        return where + self.message + (f"\n  remedy: {self.remedy}" if self.remedy else "")


class UsageError(IndexPilotError):
    """The command line, a DDL statement or a file given by the operator is wrong."""

    exit_status = USAGE


class ConfigError(IndexPilotError):
    """The configuration is wrong. All faults are reported at once, one a line."""

    exit_status = USAGE


class ConnectError(IndexPilotError):
    """The target cannot be reached, or refused the session, or is not who it says it is."""


class PrivilegeError(IndexPilotError):
    """The role lacks a right; the remedy names the GRANT."""


class NotInstalledError(IndexPilotError):
    """The control schema is not there, or is of another version."""


class ServerError(IndexPilotError):
    """The server answered with an error that has no better class of its own."""


class RefusedError(IndexPilotError):
    """A safeguard, an approval rule or the state of a change refuses what was asked."""

    exit_status = CRITICAL


class LocalServerError(IndexPilotError):
    """The local PostgreSQL (demo, shadow planner) cannot be started."""


class DefectError(Exception):
    """An error that nothing foresaw, in a process of ours, raised by the one that waited for it."""


def defect(exc: BaseException) -> str:
    """What to say of an error that nothing foresaw: told as what it is, and never as a finding about the target. Where it
    happened is only said when asked for, and never with the values of variables: a password is among them."""
    what = str(exc) if isinstance(exc, DefectError) else f"{type(exc).__name__}: {exc}"
    what = scrubbed(what)
    text = f"indexpilot: this is a defect of IndexPilot: {what}\n  remedy: report it; {TRACEBACK}=1 shows where it happened"
    if os.environ.get(TRACEBACK):
        import traceback

        text += "\n" + scrubbed("".join(traceback.format_exception(exc)).rstrip())
    return text

"""What the control schema's functions refuse, as errors for the operator. Their SQLSTATEs have the class IX."""

from __future__ import annotations

import json
from datetime import datetime

import psycopg

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import (
    IndexPilotError,
    NotInstalledError,
    PrivilegeError,
    RefusedError,
    ServerError,
    UsageError,
)

_LOCKED = "another session holds a lock in the control schema: look for one that is idle in transaction"
_OTHER_REMEDY = {
    "55P03": _LOCKED,
    "57014": _LOCKED,
    "25006": "the control schema is on a standby, or default_transaction_read_only is set there for the database or the"
    " login: name the primary in control.dsn, or reset that setting",
    "53100": "make room where the control schema is",
}
_NOT_THERE = ("3F000", "42P01", "42883", "42703", "42704")  # no such schema, table, function, column, object


class StaleEpochError(IndexPilotError):
    """The change was taken over or moved by somebody else: whoever gets this stops and does nothing more to it."""


class JournalRefusedError(RefusedError):
    """The control schema refused. `code` says which rule: not_approved, self_approval, plan_changed, approval_expired,
    approver_revoked, not_requester, state, busy, rate_limit, kill_switch, aborted, other_server, rollback, reason, plan,
    expiry, decision, bypass, review, retention, anchor, tenant. `retry_at` is when it may pass, where that is known."""

    def __init__(self, message: str, *, code: str, retry_at: datetime | None = None, remedy: str | None = None) -> None:
        self.code, self.retry_at = code, retry_at
        super().__init__(message, remedy=remedy)


def refusal(exc: psycopg.Error) -> IndexPilotError | None:
    """The error for a refusal of ours; None when the server's error is not one."""
    message = clean_line(exc.diag.message_primary or str(exc), 500)
    remedy = clean_line(exc.diag.message_hint, 500) if exc.diag.message_hint else None
    if exc.sqlstate == "IX001":
        return StaleEpochError(message, remedy="read the change again; the one who holds it goes on with it")
    if exc.sqlstate == "IX002":
        detail = json.loads(exc.diag.message_detail or "{}")
        retry_at = datetime.fromisoformat(detail["retry_at"]) if detail.get("retry_at") else None
        return JournalRefusedError(message, code=detail.get("code", "state"), retry_at=retry_at, remedy=remedy)
    if exc.sqlstate == "IX003":
        return UsageError(message, field="change", remedy="`indexpilot changes list` shows the changes")
    if exc.sqlstate == "IX004":
        return ServerError(message, remedy=remedy)
    if exc.sqlstate in _OTHER_REMEDY:
        return ServerError(f"the journal cannot be written: {message}", remedy=_OTHER_REMEDY[exc.sqlstate])
    return None


def out_of_reach(exc: psycopg.Error, user: str, database: str, deed: str) -> IndexPilotError | None:
    """The error for a control schema that was there when the session began, and is not any more for this login. `deed`:
    read or written."""
    message = clean_line(exc.diag.message_primary or str(exc), 500)
    if exc.sqlstate == "42883":
        return NotInstalledError(
            f"the control schema in {database} is gone or incomplete, or was made by an older program: {message}",
            remedy="run `indexpilot setup-sql` of this program there: it makes what is missing, and keeps every row",
        )
    if exc.sqlstate in _NOT_THERE:
        return NotInstalledError(
            f"the control schema in {database} is gone or incomplete: {message}",
            remedy="run `indexpilot setup-sql` there and `indexpilot restore` the newest backup into it, or name"
            " the database that has it in control.dsn",
        )
    if isinstance(exc, psycopg.errors.InsufficientPrivilege):
        return PrivilegeError(
            f"the control schema in {database} cannot be {deed} by {user} any more: {message}",
            remedy=f"GRANT indexpilot_operator TO {user} (or indexpilot_monitor, indexpilot_approver)",
        )
    if exc.sqlstate in _OTHER_REMEDY:
        return ServerError(f"the journal cannot be {deed}: {message}", remedy=_OTHER_REMEDY[exc.sqlstate])
    return None

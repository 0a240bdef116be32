"""What the control schema's functions refuse, as errors for the operator. Their SQLSTATEs have the class IX."""

from __future__ import annotations

import json
from datetime import datetime

import psycopg

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import IndexPilotError, RefusedError, ServerError, UsageError

_OTHER_REMEDY = {
    "55P03": "another session holds a lock in the control schema: look for one that is idle in transaction",
    "25006": "the control schema is on a standby or in a read-only database: name the primary in control.dsn",
}


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

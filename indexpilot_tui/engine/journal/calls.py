"""How the journal is asked: one statement a call on its session, and whose refusal an error is."""

from __future__ import annotations

from typing import Any, NoReturn

import psycopg

from indexpilot_tui.engine.journal.refusals import out_of_reach, refusal
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import IndexPilotError, NotInstalledError, PrivilegeError

_PACKAGE = __package__
_APPROVER_CALLS = tuple(f"indexpilot.{name}(" for name in ("approve", "reject", "resolve", "allow_starts", "review_bypass"))


class Calls:
    """The control session and what this login was granted on it: what all parts of the journal stand on."""

    def __init__(self, session: Session, *, may_operate: bool, may_approve: bool) -> None:
        self.session, self.may_operate, self.may_approve = session, may_operate, may_approve

    async def _read(self, question: str, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        try:
            return await self.session.rows(load(_PACKAGE, question), params)
        except IndexPilotError as error:
            lost = self._out_of_reach(error, "read")
            if lost is None:
                raise
            raise lost from error.__cause__

    def _out_of_reach(self, error: IndexPilotError, deed: str) -> IndexPilotError | None:
        cause, facts = error.__cause__, self.session.facts
        if not isinstance(cause, psycopg.Error):
            return None
        return out_of_reach(cause, clean_line(facts.session_user), clean_line(facts.database), deed)

    async def _row(self, call: str, args: tuple[Any, ...]) -> dict[str, Any]:
        try:
            row = await self.session.row("SELECT " + call, args)
        except IndexPilotError as error:
            if isinstance(error.__cause__, psycopg.errors.ReadOnlySqlTransaction):
                # it would stay read-only when the database is not any more: the next one asks anew
                await self.session.close()
            self._raise(error, call)
        if row is None:
            raise NotInstalledError(f"the control schema's function {call.split('(', maxsplit=1)[0]} gave no answer")
        return row

    async def _call(self, call: str, args: tuple[Any, ...]) -> Any:
        return next(iter((await self._row("indexpilot." + call, args)).values()))

    def _raise(self, error: IndexPilotError, call: str) -> NoReturn:
        """The refusal of ours behind a session's error, if there is one, else that error."""
        cause = error.__cause__
        if isinstance(cause, psycopg.Error):
            ours = refusal(cause)
            if ours is not None:
                raise ours from cause
            if isinstance(cause, psycopg.errors.InsufficientPrivilege):
                user = clean_line(self.session.facts.session_user)
                group = "indexpilot_approver" if call.startswith(_APPROVER_CALLS) else "indexpilot_operator"
                name = call.split("(", maxsplit=1)[0].rsplit(".", maxsplit=1)[-1]
                name = "start" if name == "check_writable" else name
                raise PrivilegeError(
                    f"{user} may not {name} changes", remedy=f"GRANT {group} TO {user} (a login that inherits)"
                ) from cause
            lost = self._out_of_reach(error, "written")
            if lost is not None:
                raise lost from cause
        raise error

"""Planning on a target: the one place from which an EXPLAIN of a user's statement is sent to it.

Planning folds functions, and reads expressions of statistics, CHECKs and policies, whoever wrote them, with the rights of
whoever plans; code that runs there can RESET ROLE and switch settings back. So it happens only

- in the session of a login that can do nothing but read, whatever role is set: no superuser, no member of a group that
  proposes, approves or writes, nobody who owns or could become the owner of anything. With any other login nothing is
  planned on the target, and plans come from the shadow;
- in one READ ONLY transaction, which nothing can leave once a query has run in it. At its end the transaction must have no
  id: else something was written, and what was read is thrown away;
- on a connection of its own, which is closed and never used again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import PACKAGE, Purpose, Session, connect
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import IndexPilotError, PrivilegeError, ServerError
from indexpilot_tui.settings.model import Settings, Target

T = TypeVar("T")
_WRITTEN = (
    "select pg_catalog.current_setting('transaction_read_only') <> 'on'"
    " or pg_catalog.pg_current_xact_id_if_assigned() is not null"
)


class NotHarmlessError(PrivilegeError):
    """This login could do more than look."""


@asynccontextmanager
async def looking(target: Target, settings: Settings) -> AsyncIterator[Session]:
    """A session for planning, and for nothing else.

    Raises NotHarmlessError, ConnectError, and ServerError at the end when something was written in it.
    """
    opened = await connect(target, Purpose.MONITOR, settings)
    async with _only_reading(opened):
        yield opened


@asynccontextmanager
async def looking_like(session: Session) -> AsyncIterator[Session]:
    """The same with the target and the login of another session."""
    if session.again is None:
        raise ServerError("this session cannot be opened a second time, so nothing is planned with it")
    opened = await session.again()
    async with _only_reading(opened):
        yield opened


@asynccontextmanager
async def _only_reading(opened: Session) -> AsyncIterator[None]:
    try:
        await opened.execute("begin transaction read only")
        reasons = [str(row["why"]) for row in await opened.rows(load(PACKAGE, "harmless", opened.facts.server_version))]
        if reasons:
            who, why = clean_line(opened.facts.session_user, 80), clean_line("; ".join(reasons), 200)
            raise NotHarmlessError(
                f"{who} could do more than read ({why}), so nothing of a user's table is planned with it",
                remedy="the shadow plans it, or connect as a login that has nothing but SELECT",
            )
        yield
        if not opened.closed and await opened.value(_WRITTEN) is not False:
            raise ServerError("planning wrote something, or left its read-only transaction: what it told is not used")
    finally:
        await opened.close()


async def attempt(session: Session, question: Callable[[], Awaitable[T]]) -> T:
    """One question in a transaction that goes on when it is refused. Raises what the question raises."""
    await session.execute("savepoint attempt")
    try:
        answer = await question()
    except IndexPilotError:
        if not session.closed:
            await session.execute("rollback to savepoint attempt")
        raise
    await session.execute("release savepoint attempt")
    return answer

"""Which tables' statistics are told to logins that may not read them: an administrator's list, in the target's database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import RefusedError, UsageError

_LIST = (
    "select schema_pattern as schema, table_pattern as table, by_name, enrolled_by as by, enrolled_at as at"
    " from indexpilot.statistics_tables order by 1, 2"
)


@dataclass(frozen=True, slots=True)
class Enrolled:
    """One pattern; `*` stands for any characters. `by_name`: it has none, so it enrols a table with policies, too."""

    schema: str
    table: str
    by_name: bool
    by: str
    at: datetime


def parse_pattern(text: str) -> tuple[str, str]:
    """Schema and table of `SCHEMA.TABLE`; each may hold `*`. Raises UsageError."""
    schema, dot, table = text.partition(".")
    if not dot or not schema or not table or "." in table:
        raise UsageError(
            "a pattern names a schema and a table", field="PATTERN", value=clean_line(text, 100),
            remedy="write SCHEMA.TABLE, with * for any characters: app.orders, app.*",
        )  # fmt: skip
    return schema, table


async def enrol(session: Session, pattern: str) -> None:
    """Raises PrivilegeError for who is no administrator, ServerError for what is never told."""
    await session.execute("select indexpilot.enrol_statistics(%s, %s)", parse_pattern(pattern))


async def withdraw(session: Session, pattern: str) -> None:
    """Raises RefusedError when there is no such pattern."""
    if not await session.value("select indexpilot.withdraw_statistics(%s, %s)", parse_pattern(pattern)):
        raise RefusedError(
            f"there is no pattern {clean_line(pattern, 100)} to withdraw", remedy="indexpilot statistics list"
        )


async def enrolled(session: Session) -> list[Enrolled]:
    rows = await session.rows(_LIST)
    return [
        Enrolled(clean_line(r["schema"]), clean_line(r["table"]), r["by_name"], clean_line(r["by"]), r["at"]) for r in rows
    ]

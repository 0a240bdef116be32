"""Several planners on one shadow: statements that are asked about under the same candidates are planned side by side.

Which candidates are shown is a matter of the catalog, the same for every session; so only questions about one and the same
set go together. An EXPLAIN does not depend on which session answers it, so the answers are the same with one as with many.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace

import psycopg
from psycopg import AsyncConnection, sql

from indexpilot_tui.engine.whatif.database import ROLE, ShadowDatabase
from indexpilot_tui.engine.whatif.plan import Plan, explain_text, set_path

MOST = 4
Question = tuple[str, bool, tuple[str, ...]]  # text, whether it has parameters, search_path


class Planners:
    """The shadow's own session and, as far as there are cores, further ones with the same settings."""

    def __init__(self, shadow: ShadowDatabase) -> None:
        self.shadow = shadow
        self._others: list[ShadowDatabase] = []

    async def open(self) -> None:
        """Raises psycopg.Error."""
        settings = await self._settings()
        for _ in range(min(MOST, len(os.sched_getaffinity(0))) - 1):
            conn = await AsyncConnection.connect(
                self.shadow.cluster.conninfo(self.shadow.name, user=ROLE), autocommit=True, prepare_threshold=None
            )
            self._others.append(replace(self.shadow, plain=conn, search_path=()))
            if settings:
                calls = sql.SQL(", ").join(
                    sql.SQL("set_config({}, {}, false)").format(sql.Literal(name), sql.Literal(value))
                    for name, value in settings
                )
                await conn.execute(sql.SQL("select {}").format(calls))

    async def _settings(self) -> list[tuple[str, str]]:
        """What was set on the session that the forecasts use."""
        cursor = await self.shadow.plain.execute(
            b"select name, pg_catalog.current_setting(name) from pg_catalog.pg_settings"
            b" where source = 'session' and name <> 'search_path' order by name"
        )
        return [(str(name), str(value)) for name, value in await cursor.fetchall()]

    async def close(self) -> None:
        for other in self._others:
            await other.plain.close()
        self._others.clear()

    async def one(self, question: Question) -> Plan:
        """Raises psycopg.Error."""
        return await _ask(self.shadow, question)

    async def all(self, questions: Sequence[Question]) -> list[Plan | psycopg.Error]:
        """The plans, or the server's refusals, in the order of the questions. Raises psycopg.OperationalError (the shadow is
        gone)."""
        answers: list[Plan | psycopg.Error] = [{} for _ in questions]
        left = iter(enumerate(questions))

        async def work(view: ShadowDatabase) -> None:
            for number, question in left:
                try:
                    answers[number] = await _ask(view, question)
                except psycopg.OperationalError:
                    raise
                except psycopg.Error as exc:
                    answers[number] = exc

        views = (self.shadow, *self._others)[: len(questions)]
        failed = [x for x in await asyncio.gather(*map(work, views), return_exceptions=True) if x is not None]
        if failed:
            raise failed[0]
        return answers


async def _ask(view: ShadowDatabase, question: Question) -> Plan:
    text, generic, path = question
    await set_path(view, path)
    return await explain_text(view, text, generic=generic)

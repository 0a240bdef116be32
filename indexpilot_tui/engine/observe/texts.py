"""Whose texts are wanted, and when they are asked for: with the next refresh, in place of its slow question, so that a
refresh stays one round trip of four statements.

The server reads the texts of all databases to give one. Where one of them is no text in this database's encoding (a
SQL_ASCII database holds any bytes) it gives none at all: those of sessions at work have to do then, where the server tells
their queryid.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from indexpilot_tui.engine.observe.ask import Question, Refusal, question
from indexpilot_tui.engine.observe.pace import Pace
from indexpilot_tui.engine.observe.source import Source, statements_question
from indexpilot_tui.engine.observe.spots import without_constants

TEXTS_S = 10.0  # asked for again after this at the latest, whatever they cost: a hotspot without one is none
# Ahead of the pace, with the next refresh: so often in that time, and more often while that takes no more than this share of
# the budget (our own questions are new to the server at first, too)
HURRIED, HURRIED_S, HURRIED_SHARE = 3, 60.0, 0.2
ALL, AT_WORK = "texts", "texts_at_work"
NO_TEXT = "22021"  # bytes that are no text in this database's encoding
TOLD_SINCE = 140000  # pg_stat_activity.query_id


@dataclass(slots=True)
class TextWish:
    """`budget`: ms of the server a minute, for all that is looked at. `wanted`: query ids that are shown without their text.
    `fresh`: the server was not asked for some of them yet."""

    budget: float
    wanted: list[int] = field(default_factory=list)
    fresh: bool = False
    pace: Pace = field(default_factory=lambda: Pace(0.0, 0.1))
    _hurried: deque[tuple[float, float]] = field(default_factory=deque)

    def question(self, source: Source | None, version: int, now: float, refused: Refusal | None) -> Question | None:
        """What to ask now, if anything. `refused`: why the texts are not to be asked for at present, if so."""
        if not self.wanted or source is None or not source.schema:
            return None
        if not self.pace.ready(now) and not self._may_hurry(now):
            return None
        if refused is None:
            return statements_question(ALL, source, "", queryids=self.wanted)
        if refused.sqlstate == NO_TEXT and version >= TOLD_SINCE:
            return question(AT_WORK, version, queryids=self.wanted)
        return None

    def _may_hurry(self, now: float) -> bool:
        if not self.fresh:
            return False
        while self._hurried and self._hurried[0][0] <= now - HURRIED_S:
            self._hurried.popleft()
        ms = sum(ms for _, ms in self._hurried) + (self.pace.cost_ms or 0.0)
        return len(self._hurried) < HURRIED or ms <= HURRIED_SHARE * self.budget

    def asked(self, now: float, ms: float) -> None:
        """It was asked, and took the server so long."""
        if not self.pace.ready(now):
            self._hurried.append((now, ms))
        self.pace.asked(now, ms, self.budget)
        self.pace.due = min(self.pace.due, now + TEXTS_S)


def at_work(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `texts_at_work.sql` as those of `texts.sql`: what a session sent has its constants in it."""
    return [{**row, "query": without_constants(row["query"] or "")} for row in rows]

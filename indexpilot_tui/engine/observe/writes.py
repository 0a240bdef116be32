"""The write latency that the server itself can tell: the mean time of INSERT, UPDATE, DELETE and MERGE between two readings.

Weak alone (a commit's own wait and queueing are not in it): measured on 15, 0.030 ms before, 0.033 during a build. To be
read with the transactions a second, the HOT ratio and the WAL.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime

from indexpilot_tui.engine.observe.ask import Asker, Refusal, question
from indexpilot_tui.engine.observe.source import Source, source_of, statements_question
from indexpilot_tui.engine.postgres.session import Session

LEARN_S = 60.0  # texts are read again after this: new statements may have come


@dataclass(frozen=True, slots=True)
class WriteTimes:
    """`mean_ms` None: no write ran in the interval, or it cannot be told why in `reason`."""

    calls: int
    mean_ms: float | None
    reason: str = ""


@dataclass(slots=True)
class WriteTimer:
    """Reads on one server, again and again; the first reading has no interval yet."""

    asker: Asker = field(default_factory=Asker)
    _source: Source | None = None
    _ids: list[int] = field(default_factory=list)
    _learned: float = -LEARN_S
    _last: tuple[datetime, int, float] | None = None

    async def read(self, session: Session) -> WriteTimes:
        """One reading. What is in the way is in `reason`; raises ConnectError when the session is lost."""
        if self._source is None or self._source.unavailable:
            probe = (await self.asker.ask(session, [question("probe", session.facts.server_version)]))["probe"]
            self._source = Source(unavailable=str(probe)) if isinstance(probe, Refusal) else source_of(probe[0])
        source = self._source
        if source.unavailable:
            return WriteTimes(0, None, source.unavailable)
        if time.monotonic() - self._learned >= LEARN_S:
            texts = statements_question("write_statements", source, "")
            rows = (await self.asker.ask(session, [texts]))["write_statements"]
            if isinstance(rows, Refusal):
                return WriteTimes(0, None, str(rows))
            known, self._ids = self._ids, [row["queryid"] for row in rows]
            self._learned = time.monotonic()
            if set(known) != set(self._ids):
                self._last = None  # another sum: the two are not to be subtracted
        wanted = statements_question("write_times", source, "", queryids=self._ids)
        answer = (await self.asker.ask(session, [wanted]))["write_times"]
        if isinstance(answer, Refusal):
            return WriteTimes(0, None, str(answer))
        row = answer[0]
        now = (row["at"], row["calls"] or 0, row["total_ms"] or 0.0)
        before, self._last = self._last, now
        if before is None:
            return WriteTimes(0, None, "one reading is no interval yet")
        calls, ms = now[1] - before[1], now[2] - before[2]
        if calls < 0 or ms < 0:
            return WriteTimes(0, None, "the counters of pg_stat_statements went back")
        return WriteTimes(calls, ms / calls if calls else None, "" if calls else "no row was written in the interval")

"""What a console that operates keeps of what it saw: the busiest statements of a window, and what the health pane found."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.logs import log
from indexpilot_tui.engine.observe.model import HealthFinding, Hotspot, Observation
from indexpilot_tui.engine.postgres.literals import without_literals
from indexpilot_tui.engine.postgres.session import Facts
from indexpilot_tui.errors import IndexPilotError
from indexpilot_tui.settings.model import Recording


@dataclass(slots=True)
class _Sum:
    spot: Hotspot
    calls: float = 0.0
    ms: float = 0.0
    rows: float = 0.0
    wal_bytes: float = 0.0


class Recorder:
    """Sums up observations of one target, and writes when a window is full. Times are the target's."""

    def __init__(self, rules: Recording) -> None:
        self.rules = rules
        self._sums: dict[int, _Sum] = {}  # by queryid
        self._began: datetime | None = None
        self._read: datetime | None = None  # the end of the newest interval
        self._health_at: datetime | None = None
        self._task: asyncio.Task[None] | None = None

    def tick(self, journal: Journal | None, facts: Facts, seen: Observation) -> None:
        """Take an observation, and begin to write what is due: beside the refresh, which a slow journal must not hold up."""
        self.add(seen)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep(journal, facts, seen))

    async def _keep(self, journal: Journal | None, facts: Facts, seen: Observation) -> None:
        try:
            await self.write(journal, facts, seen)
        except IndexPilotError as exc:
            log("recording.failed", "warning", operator=facts.session_user, database=facts.database, why=exc.message)

    async def close(self) -> None:
        """End what is being written."""
        task, self._task = self._task, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def add(self, seen: Observation) -> None:
        """Take an observation into the window. One that was not read adds nothing; an interval counts once, however often it
        is shown."""
        spots = seen.hotspots
        if not self.rules.enabled or seen.error or not spots.available or spots.read_at is None or spots.interval_s <= 0:
            return
        shown_again, self._read = spots.read_at == self._read, spots.read_at
        if not shown_again:
            self._began = self._began or spots.read_at - timedelta(seconds=spots.interval_s)
        for spot in spots.items:
            entry = self._sums.get(spot.queryid)
            if entry is None and shown_again:
                continue
            if entry is None:
                entry = self._sums[spot.queryid] = _Sum(spot)
            entry.spot = spot  # its text may have been read meanwhile
            if shown_again:
                continue
            calls = (spot.calls_per_s or 0.0) * spots.interval_s
            entry.calls += calls
            entry.ms += spot.ms_per_s * spots.interval_s
            entry.rows += (spot.rows_per_call or 0.0) * calls
            entry.wal_bytes += spot.wal_bytes_per_s * spots.interval_s

    async def write(self, journal: Journal | None, facts: Facts, seen: Observation) -> None:
        """Write what is due. Raises what the journal raises; the window is over then as well, and its figures are lost."""
        if journal is None or not journal.may_operate or journal.session.closed:
            return
        began, until = self._began, self._read
        if began is not None and until is not None and (until - began).total_seconds() >= self.rules.query_stats_seconds:
            rows = self._rows()
            self._sums, self._began = {}, None
            await journal.record("query_stats", facts, began, until, rows)
        health = seen.health
        if self.rules.enabled and health is not None and not seen.error:
            since = self._health_at or health.read_at - timedelta(seconds=self.rules.index_health_seconds)
            if (health.read_at - since).total_seconds() >= self.rules.index_health_seconds:
                self._health_at = health.read_at
                await journal.record("index_health", facts, since, health.read_at, [_finding(f) for f in health.findings])

    def _rows(self) -> list[dict[str, Any]]:
        busiest = sorted(self._sums.values(), key=lambda entry: -entry.ms)[: self.rules.statements]
        return [
            {
                "queryid": entry.spot.queryid,
                "user": entry.spot.user,
                "query": without_literals(entry.spot.query),
                "calls": entry.calls,
                "total_ms": entry.ms,
                "rows": entry.rows,
                "wal_bytes": entry.wal_bytes,
            }
            for entry in busiest
        ]


def _finding(finding: HealthFinding) -> dict[str, Any]:
    return {
        "kind": finding.kind.value,
        "severity": finding.severity,
        "index_oid": finding.oid,
        "index": finding.index,
        "table": finding.table,
        "size_bytes": finding.size_bytes,
        "scans": finding.scans,
        "evidence": finding.evidence,
    }

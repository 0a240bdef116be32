"""Hotspots where pg_stat_statements is missing: who was at work when we looked, as if it were a reading of counters. Each
session that is seen at work stands for the time since the look before. An estimate, and labelled so; calls cannot be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any

from indexpilot_tui.engine.observe.ask import Rows
from indexpilot_tui.engine.observe.counters import Counters, Key, Read
from indexpilot_tui.engine.observe.pulse import Pulse
from indexpilot_tui.engine.observe.spots import without_constants

LONGEST_S = 10.0  # a sample stands for no more time than this
STATEMENTS = 2_000  # that are remembered; one that comes again later counts anew


@dataclass(slots=True)
class Sampler:
    """`texts`: rows for `HotspotTracker.learn` of the newest sample."""

    entries: dict[Key, Counters] = field(default_factory=dict)
    texts: list[dict[str, Any]] = field(default_factory=list)
    _at: datetime | None = None

    def take(self, rows: Rows, pulse: Pulse) -> Read:
        """One sample, from the rows of `samples.sql`, as a reading."""
        seconds = (pulse.at - self._at).total_seconds() if self._at is not None else 0.0
        self._at = pulse.at
        ms = max(0.0, min(seconds, LONGEST_S)) * 1000
        self.texts = []
        grown = dict(self.entries) if len(self.entries) <= STATEMENTS else {}
        for row in rows if ms else ():
            key, text = _key(row)
            self.texts.append({"queryid": key[1], "userid": key[0], "user_name": row["user_name"], "query": text})
            known = grown.get(key)
            more = Counters(row["sessions"], row["sessions"] * ms, 0.0, 0, 0, 0, 0, 0.0)
            grown[key] = more if known is None else known.plus(more)
        self.entries = grown
        return Read(pulse.at, pulse.started, None, None, grown, pulse.hidden)


def _key(row: Mapping[str, Any]) -> tuple[Key, str]:
    text = without_constants(row["query"] or "")
    number = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
    return (row["userid"] or 0, number, True), text

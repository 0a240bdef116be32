"""From rows of the log to what a build took. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from indexpilot_tui.engine.model.builds import MeasuredBuild
from indexpilot_tui.engine.postgres.text import clean_line

_WAITS = "waiting "  # how pg_stat_progress_create_index calls a phase in which a build waits for others


def to_build(row: Mapping[str, Any]) -> MeasuredBuild | None:
    """None where the log does not tell how long the statement ran (a predecessor's, seen to its end by another)."""
    detail = json.loads(row["detail"])
    events = row["events"] or []
    start = max((n for n, e in enumerate(events) if e["action"] == "ddl.intent"), default=None)
    if start is None:
        return None
    end = next((n for n in range(start + 1, len(events)) if events[n]["action"] == "ddl.outcome"), None)
    if end is None or events[end]["detail"].get("ok") is not True:
        return None
    during = events[start : end + 1]
    waited = _waited(during)
    seconds = float(during[-1]["at"]) - float(during[0]["at"]) - waited
    phases = [e["detail"] for e in during if e["action"] == "phase"]
    rows = detail.get("rows")
    return MeasuredBuild(
        change_id=row["id"],
        index=clean_line(row["index"] or ""),
        method=row["method"] or "",
        seconds=max(0.0, seconds),
        waited_s=waited,
        age_s=max(0.0, float(row["age_s"])),
        index_bytes=int(detail.get("size_bytes") or (detail.get("after") or {}).get("size_bytes") or 0),
        heap_bytes=int(detail.get("heap_bytes") or 8192 * max((p.get("blocks_total") or 0 for p in phases), default=0)),
        rows=float(rows) if rows is not None else _most(phases, "tuples_total"),
        wal_bytes=detail.get("wal_bytes"),
        temp_bytes=detail.get("temp_bytes"),
        partial=bool(detail.get("partial")),
    )


def _waited(during: Sequence[Mapping[str, Any]]) -> float:
    """Seconds in phases of waiting, each until the next row."""
    total = 0.0
    for event, following in pairwise(during):
        if event["action"] == "phase" and str(event["detail"].get("phase", "")).startswith(_WAITS):
            total += float(following["at"]) - float(event["at"])
    return total


def _most(phases: Sequence[Mapping[str, Any]], key: str) -> float | None:
    found = [float(p[key]) for p in phases if p.get(key)]
    return max(found) if found else None

"""Why a statement got no index: the first thing found that is true of it, never a guess that was not checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.advise.candidate import Candidate
from indexpilot_tui.engine.whatif.advise.pricing import Unit
from indexpilot_tui.engine.whatif.advise.scope import Use, iter_keys
from indexpilot_tui.engine.whatif.confidence import STALE_SHARE
from indexpilot_tui.engine.whatif.plan import Plan, indexes_used, nodes
from indexpilot_tui.engine.whatif.snapshot import Snapshot

CHEAP = 100.0  # cost below which there is nothing to win (dexter's min-cost too)
UNSELECTIVE = 0.1  # of the rows: beyond it reading the table in order beats visiting it row by row
SMALL_PAGES = 16
_CAST = re.compile(r'\(\(?"?(\w+)"?\)?::([a-z ]+)\s*[=<>~]')


def _scans(plan: Plan) -> list[Plan]:
    return [n for n in nodes(plan) if n["Node Type"] == "Seq Scan"]


def _pages(snapshot: Snapshot, use: Use) -> int:
    return sum(snapshot.sizes[m].pages for m in snapshot.members(use.table.oid) if m in snapshot.sizes)


def why_not(
    unit: Unit, kind: str, best: tuple[float, str] | None, refused: Mapping[Candidate, str], snapshot: Snapshot, tried: int,
    *, tight: bool,
) -> str:  # fmt: skip
    """The reason for one statement. `best` is (share of its cost that the best single candidate would save, its DDL);
    `tight`: a budget limited the choice."""
    if kind == "insert" and not unit.uses:
        return "an INSERT searches nothing; every index makes it dearer"
    if best is not None and best[0] > 0.01:
        because = "the budget went to indexes that bring more" if tight else "that is too little for what it takes and costs"
        return clean_line(f"{best[1]} would save {100 * best[0]:.0f} % of it, but {because}", 400)
    if unit.base < CHEAP:
        return f"it is cheap already (cost {unit.base:,.1f})"
    obstacles = list(dict.fromkeys(o for u in unit.uses for o in u.obstacles))
    if obstacles:
        return clean_line("; ".join(obstacles), 400)
    for use in unit.uses:
        for candidate, reason in refused.items():
            if candidate.table == use.table.oid and candidate.keys[0] in use.leading():
                return clean_line(f"an index on {candidate.key_text} is not possible: {reason}", 400)
    scans = _scans(unit.plan)
    return _of_plan(unit, scans, snapshot, tried)


def _of_plan(unit: Unit, scans: Sequence[Plan], snapshot: Snapshot, tried: int) -> str:
    covered = {(s.schema, s.relation) for s in snapshot.stats}
    for use in unit.uses:
        name = clean_line(use.table.qualified)
        if _pages(snapshot, use) >= SMALL_PAGES and (use.table.schema, use.table.name) not in covered:
            return f"{name} has no statistics, so nothing can be said: ANALYZE it"
    if not scans:
        names = ", ".join(sorted(clean_line(n) for n in indexes_used(unit.plan)))
        return f"already indexed: its plan uses {names}" if names else "its plan reads no table in full"
    for scan in scans:
        cast = _CAST.search(str(scan.get("Filter", "")))
        if cast:
            return clean_line(f"column {cast[1]} is compared as {cast[2].strip()}, which its indexes do not serve", 300)
    if not any(True for u in unit.uses for _ in iter_keys(u)):
        return "it has no condition that selects rows: it reads all of them"
    for use in unit.uses:
        activity = snapshot.activity.get(use.table.oid)
        rows = snapshot.rows(use.table.oid)
        if activity is not None and rows > 1000 and activity.modified > STALE_SHARE * rows:
            return f"statistics of {clean_line(use.table.qualified)} are stale: ANALYZE it, then ask again"
    if all(_pages(snapshot, u) < SMALL_PAGES for u in unit.uses):
        return "its tables are read in one go: they are small"
    for scan in scans:
        table = next((u.table for u in unit.uses if u.table.name == scan.get("Relation Name")), None)
        rows = snapshot.rows(table.oid) if table is not None else 0.0
        kept = float(scan["Plan Rows"]) * (1 + int(scan.get("Workers Planned", 0)))
        if table is not None and rows > 0 and kept / rows > UNSELECTIVE:
            what = clean_line(table.qualified)
            return f"not selective: it needs {100 * min(1.0, kept / rows):.0f} % of the rows of {what}"
    return f"none of {tried} candidates makes its plan cheaper"

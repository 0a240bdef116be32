"""How far a forecast can be trusted, and why. Every reason is a fact that was found, none is boilerplate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.model import Confidence
from indexpilot_tui.engine.whatif.snapshot import Snapshot

STALE_SHARE = 0.2  # autovacuum_analyze_scale_factor is 0.1 by default: twice that is overdue
_LEVELS = ("high", "medium", "low")


class Doubts:
    """Collects reasons; the worst of them makes the level."""

    def __init__(self) -> None:
        self._worst = 0
        self._reasons: list[str] = []

    def add(self, level: str, reason: str) -> None:
        self._worst = max(self._worst, _LEVELS.index(level))
        if reason not in self._reasons:
            self._reasons.append(reason)

    def add_all(self, level: str, reasons: Iterable[str]) -> None:
        for reason in reasons:
            self.add(level, reason)

    def confidence(self) -> Confidence:
        return Confidence(_LEVELS[self._worst], tuple(self._reasons))


def of_snapshot(doubts: Doubts, snapshot: Snapshot, shadow_version: int, focus: Sequence[int]) -> None:
    """Doubts from the target's state. `focus` are the OIDs of the table of the change and its parts."""
    server, shadow = snapshot.server.version // 10000, shadow_version // 10000
    if server != shadow:
        doubts.add(
            "medium" if server < shadow else "low",
            f"planned by PostgreSQL {shadow}, the target runs {server}: some statements are planned otherwise there",
        )
    if snapshot.server.block_size != 8192:
        doubts.add("low", f"the target's block size is {snapshot.server.block_size}, the shadow's 8192")
    covered = {(s.schema, s.relation) for s in snapshot.stats}
    for oid, relation in snapshot.relations.items():
        size, activity = snapshot.sizes.get(oid), snapshot.activity.get(oid)
        name = clean_line(relation.qualified)
        if relation.row_security:
            doubts.add("medium", f"{name} has row-level security; the forecast plans without its policies")
        if size is None or activity is None or relation.kind not in ("r", "m"):
            continue
        level = "low" if oid in focus else "medium"
        if size.pages > 0 and (relation.schema, relation.name) not in covered:
            if size.reltuples > 0 and not activity.readable:
                remedy = "grant SELECT on it or pg_read_all_data, or run setup-sql"
                doubts.add(level, f"statistics of {name} are hidden: {remedy}")
            elif size.reltuples > 0 and activity.analyzed_s_ago is not None:
                doubts.add(level, f"statistics of {name} are not visible to this role: grant pg_read_all_data")
            else:
                doubts.add(level, f"{name} has no statistics: ANALYZE it")
        elif size.rows > 1000 and activity.modified > STALE_SHARE * size.rows:
            share = 100 * activity.modified / size.rows
            doubts.add("medium", f"statistics of {name} are stale: {share:.0f} % of its rows changed since ANALYZE")
        if any(o.startswith(("random_page_cost", "seq_page_cost")) for o in activity.tablespace_options):
            doubts.add("medium", f"{name} is in a tablespace with page costs of its own, which the shadow does not have")
    doubts.add_all(
        "medium",
        (f"the extended statistics {clean_line(e.name)} have no data, or this role may not see it"
         for e in snapshot.extended if not e.known and e.table_oid in focus),
    )  # fmt: skip
    doubts.add_all("medium", snapshot.notes)


def of_coverage(doubts: Doubts, left_share: float | None, left: int, total: int) -> None:
    """Doubts from statements that could not be planned. `left_share` is their part (0..1) of the execution time."""
    if not left:
        return
    weight = f", {100 * left_share:.1f} % of the execution time" if left_share is not None else ""
    level = "low" if (left_share if left_share is not None else left / max(1, total)) > 0.2 else "medium"
    doubts.add(level, f"{left} of {total} statements were left out{weight}")

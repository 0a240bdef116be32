"""How far a forecast can be trusted, and why. Every reason is a fact that was found, none is boilerplate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.model import Confidence
from indexpilot_tui.engine.whatif.snapshot import Activity, Relation, Size, Snapshot

_POLICIES = "{}: row-level security; the forecast plans without its policies"
SHOWN = 3  # tables that a reason names
_SEE = "grant SELECT on it or pg_read_all_data, or let an administrator enrol it (indexpilot statistics enrol SCHEMA.TABLE)"
_SEE_BEHIND_POLICIES = "row-level security is active for this role, a login with BYPASSRLS sees them"
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
    for (level, text), names in _of_tables(snapshot, set(focus)).items():
        doubts.add(level, text.format(_some(names)))
    doubts.add_all(
        "medium",
        (f"the extended statistics {clean_line(e.name)} have no data, or only the table's owner may see it"
         for e in snapshot.extended if not e.known),
    )  # fmt: skip
    doubts.add_all("medium", snapshot.notes)


def _of_tables(snapshot: Snapshot, focus: set[int]) -> dict[tuple[str, str], list[str]]:
    """(level, text with a place for names) -> the tables that it is true of."""
    found: dict[tuple[str, str], list[str]] = {}
    covered = {(s.schema, s.relation) for s in snapshot.stats}
    for oid, relation in snapshot.relations.items():
        size, activity = snapshot.sizes.get(oid), snapshot.activity.get(oid)
        name = clean_line(relation.qualified)
        if relation.row_security:
            found.setdefault(("medium", _POLICIES), []).append(name)
        if size is None or activity is None or relation.kind not in ("r", "m"):
            continue
        level = "low" if oid in focus else "medium"
        text = _statistics_doubt(relation, size, activity, covered=(relation.schema, relation.name) in covered)
        if text:
            found.setdefault(("medium" if "stale" in text else level, text), []).append(name)
        if any(o.startswith(("random_page_cost", "seq_page_cost")) for o in activity.tablespace_options):
            text = "{}: in a tablespace with page costs of its own, which the shadow does not have"
            found.setdefault(("medium", text), []).append(name)
    return found


def _statistics_doubt(relation: Relation, size: Size, activity: Activity, *, covered: bool) -> str:
    """What is wrong with the statistics of one table; empty when nothing is."""
    remedy = _SEE_BEHIND_POLICIES if relation.row_security else _SEE
    if size.pages > 0 and size.reltuples > 0 and not activity.readable:
        return f"statistics of {'some columns of ' if covered else ''}{{}} are hidden: {remedy}"
    if size.pages > 0 and not covered:
        if size.reltuples > 0 and activity.analyzed_s_ago is not None:
            return "statistics of {} are not visible to this role: grant pg_read_all_data"
        return "{}: no statistics, ANALYZE it"
    if size.rows > 1000 and activity.modified > STALE_SHARE * size.rows:
        return f"statistics of {{}} are stale: more than {100 * STALE_SHARE:.0f} % of the rows changed since ANALYZE"
    return ""


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


def unconfined(confinement: str) -> str:
    """What to say of a shadow whose server is not confined by the kernel; empty when it is, or when there is no server."""
    return f"the shadow's server is not confined by the kernel ({confinement})" if confinement.startswith("none") else ""


def of_confinement(doubts: Doubts, confinement: str) -> None:
    """Told, but no doubt about the figures: the level stays."""
    if reason := unconfined(confinement):
        doubts.add("high", reason)


def of_coverage(doubts: Doubts, left_share: float | None, left: int, total: int) -> None:
    """Doubts from statements that could not be planned. `left_share` is their part (0..1) of the execution time."""
    if not left:
        return
    weight = f", {100 * left_share:.1f} % of the execution time" if left_share is not None else ""
    level = "low" if (left_share if left_share is not None else left / max(1, total)) > 0.2 else "medium"
    doubts.add(level, f"{left} of {total} statements were left out{weight}")

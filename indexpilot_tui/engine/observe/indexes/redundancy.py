"""Superfluous indexes as findings: which other one stays, and what rests on either. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from indexpilot_tui.engine.observe.indexes.facts import IndexFacts
from indexpilot_tui.engine.observe.indexes.say import count, finding
from indexpilot_tui.engine.observe.indexes.situation import Situation
from indexpilot_tui.engine.observe.indexes.structure import Cover, Shape, covers
from indexpilot_tui.engine.observe.model import FindingKind, HealthFinding
from indexpilot_tui.engine.postgres.text import clean_line


def superfluous(cover: Cover, situation: Situation) -> HealthFinding:
    """The finding about an index that another one covers."""
    out, kept = cover.gone.facts, cover.kept.facts
    kind = FindingKind(cover.kind)
    parts = [_reason(cover), f"{count(out.scans)} scans here, {count(kept.scans)} there"]
    parts += [clean_line(note) for note in cover.notes]
    parts += _conflicts(cover, situation)
    fix = out.drop_ddl()
    risk = _risk(cover)
    if out.partitioned:
        risk += "; an index of a partitioned table goes with all its parts, by a DROP INDEX that locks: plan it by hand"
    if situation.in_recovery:
        risk += "; seen from a standby"
    return finding(
        out, kind, "warning", "; ".join(parts), risk=risk, fix=fix,
        saves=situation.saving(out),
    )  # fmt: skip


def _reason(cover: Cover) -> str:
    out, kept = cover.gone.facts, cover.kept.facts
    if cover.kind == "left_prefix":
        return f"its keys are the leading keys of {kept.shown}, which answers the same searches"
    if cover.kind == "covered":
        return f"{kept.shown} has all its rows and answers its searches"
    same = "the same keys, operator classes, collations, order and predicate"
    included = "the same columns included" if kept.keys == out.keys else "all its included columns and more"
    return f"{kept.shown} has {same}, and {included}"


def _risk(cover: Cover) -> str:
    out, kept = cover.gone.facts, cover.kept.facts
    if cover.kind == "duplicate" and kept.keys == out.keys:
        return "none for reads: the other one answers the same searches"
    risk = "the other index is wider, so its scans read more pages"
    if out.size_bytes and kept.size_bytes:
        risk += f" ({kept.size_bytes / out.size_bytes:.1f} times the size)"
    return risk


def _conflicts(cover: Cover, situation: Situation) -> list[str]:
    """Whether statements with ON CONFLICT rely on it: the other one must then serve them as well."""
    out = cover.gone.facts
    if not out.unique:
        return []
    used = sum(n for (table, _), n in situation.conflicts.items() if table == out.table)
    return [f"{used} statements with ON CONFLICT on this table find the other one"] if used else []


def repeated_constraints(shapes: Iterable[Shape], situation: Situation) -> Iterable[HealthFinding]:
    """Unique constraints that another unique one makes superfluous. A constraint is no index statement: no fix is named."""
    by_table: dict[int, list[Shape]] = {}
    for shape in shapes:
        facts = shape.facts
        if facts.unique and facts.usable and (facts.constraint or facts.primary):
            by_table.setdefault(facts.table_oid, []).append(shape)
    for group in by_table.values():
        if len(group) < 2:
            continue
        gone: set[int] = set()
        for shape in sorted(group, key=lambda s: (s.facts.primary, s.facts.scans or 0, -s.oid)):
            if not _only_a_constraint(shape.facts):
                continue
            free = replace(shape, needed="")
            kept = next((s for s in group if s.oid not in gone and covers(s, free) is not None), None)
            if kept is None:
                continue
            gone.add(shape.oid)
            constraint = clean_line(shape.facts.constraint)
            yield finding(
                shape.facts,
                FindingKind.REPEATED_CONSTRAINT,
                "info",
                f"the constraint {constraint} repeats {clean_line(kept.facts.constraint or kept.facts.name)}: "
                "the same columns are kept unique twice",
                risk=f"nobody needs both; ALTER TABLE ... DROP CONSTRAINT {constraint} locks the table for a moment",
                fix="",
                saves=situation.saving(shape.facts),
            )


def _only_a_constraint(facts: IndexFacts) -> bool:
    held = facts.primary or facts.exclusion or facts.replica_identity or facts.referenced_by_fk or facts.attached
    return bool(facts.constraint) and not held and not facts.clustered and not facts.of_extension

"""From the rows of the catalog to findings: what, how sure, what it risks, and the one statement that would fix it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.observe.model import FindingKind, HealthFinding
from indexpilot_tui.engine.observe.structure import Shape, redundant, shape_of
from indexpilot_tui.engine.postgres.text import clean_line

Row = Mapping[str, Any]
MIB = 1024 * 1024
# Below this a sequential scan of the referencing table costs less than the index would in writes: pganalyze leaves tables
# under 10 MB out of its advice altogether (its documentation); a foreign key is looked up a row at a time, so we take 1.
SMALL_TABLE = 1 * MIB
NAME_BYTES = 63  # NAMEDATALEN - 1: longer names are cut by the server with a mere notice
_ORDER = {"critical": 0, "warning": 1, "info": 2}


@dataclass(frozen=True, slots=True)
class Situation:
    """What the findings are judged against. Times by the server's clock; `standbys` counts connected ones."""

    now: datetime
    stats_since: datetime | None
    in_recovery: bool
    standbys: int
    min_age_days: float

    @property
    def age_days(self) -> float | None:
        if self.stats_since is None:
            return None
        return max(0.0, (self.now - self.stats_since).total_seconds() / 86_400)


def findings_of(indexes: Sequence[Row], foreign_keys: Sequence[Row], situation: Situation) -> tuple[HealthFinding, ...]:
    """All findings, the worst first; rows as in `indexes.sql` and `foreign_keys.sql`."""
    rows = {row["oid"]: row for row in indexes}
    shapes = [shape_of(row) for row in indexes]
    found = [finding for row in indexes for finding in _state(row, situation)]
    gone: set[int] = set()
    relied_on: set[int] = set()  # what takes over the scans of a superfluous index is not unused
    for out, kept, kind in redundant([s for s in shapes if not rows[s.oid]["busy"] or rows[s.oid]["valid"]]):
        gone.add(out.oid)
        if out.scans != 0 or out.oid in relied_on:
            relied_on.add(kept.oid)
        found.append(_redundant(rows[out.oid], rows[kept.oid], kind))
    supporting = _supporting([s for s in shapes if s.oid not in gone], foreign_keys)
    for shape in shapes:
        if shape.oid not in gone | supporting | relied_on:
            found.extend(_unused(rows[shape.oid], shape, situation))
    taken = {(row["schema_name"], row["index_name"]) for row in indexes}
    for key in foreign_keys:
        found.extend(_missing(key, shapes, taken))
    found.sort(key=lambda f: (_ORDER[f.severity], f.kind.value, f.table, f.index))
    return tuple(found)


def drop_ddl(row: Row) -> str:
    """DROP INDEX CONCURRENTLY for a row of `indexes.sql`; empty for an index of a partitioned table, which cannot be
    dropped so."""
    if row["partitioned"] or row["attached"]:
        return ""
    return sql.SQL("DROP INDEX CONCURRENTLY {}").format(_name(row["schema_name"], row["index_name"])).as_string()


def _name(schema: str, relation: str) -> sql.Identifier:
    return sql.Identifier(schema, relation)


def _shown(row: Row, name: str = "index_name") -> str:
    return clean_line(f"{row['schema_name']}.{row[name]}")


def _finding(row: Row, kind: FindingKind, severity: str, evidence: str, *, risk: str, fix: str) -> HealthFinding:
    return HealthFinding(
        kind=kind,
        severity=severity,
        oid=row["oid"],
        table_oid=row["table_oid"],
        index=_shown(row),
        table=_shown(row, "table_name"),
        size_bytes=row["size_bytes"],
        scans=row["scans"],
        evidence=evidence,
        risk=risk,
        fix=fix,
    )


def _state(row: Row, situation: Situation) -> Iterable[HealthFinding]:
    """INVALID and BUILDING."""
    if row["in_progress"]:
        yield _finding(
            row, FindingKind.BUILDING, "info", "a session builds it now", risk="wait for the build to end", fix=""
        )
        return
    if row["valid"] and row["ready"] and row["live"]:
        return
    flags = ", ".join(f"{name} {'yes' if row[name] else 'no'}" for name in ("valid", "ready", "live"))
    if row["partitioned"]:
        yield _finding(
            row,
            FindingKind.INVALID,
            "warning",
            f"the index of a partitioned table lacks the index of at least one partition ({flags})",
            risk="queries on the partitions without one do not have it",
            fix="",
        )
        return
    if row["busy"]:
        yield _finding(
            row,
            FindingKind.BUILDING,
            "info",
            f"INVALID ({flags}), but a session holds the lock of a concurrent index operation on the table now",
            risk="it may be work in progress: look again when that session has ended",
            fix="",
        )
        return
    if situation.in_recovery:
        yield _finding(
            row,
            FindingKind.INVALID,
            "info",
            f"INVALID ({flags}), seen from a standby: whether the primary works on it cannot be seen here",
            risk="look at the primary",
            fix="",
        )
        return
    enforcing = row["is_unique"] and row["ready"]
    cost = "it is maintained by every write but serves no query" if row["ready"] else "it serves no query and takes space"
    if enforcing:
        cost += ", and being UNIQUE it still rejects writes"
    origin = "a DROP INDEX CONCURRENTLY that did not finish" if not row["live"] else "a build that failed or was cancelled"
    yield _finding(
        row,
        FindingKind.INVALID,
        "critical" if enforcing else "warning",
        f"INVALID ({flags}) and no session works on it: left by {origin}",
        risk=f"{cost}; CREATE INDEX IF NOT EXISTS would report success over it",
        fix=drop_ddl(row),
    )


def _redundant(out: Row, kept: Row, kind: str) -> HealthFinding:
    if kind == "duplicate":
        same = "the same keys, operator classes, collations, order and predicate"
        included = "the same columns included" if kept["keys"] == out["keys"] else "all its included columns and more"
        evidence = f"{_shown(kept)} has {same}, and {included}"
        evidence += f"; {_count(out['scans'])} scans here, {_count(kept['scans'])} there"
        risk = "none for reads: the other one answers the same searches"
        if out["reloptions"] != kept["reloptions"]:
            risk += f" (storage parameters differ: {clean_line(out['reloptions']) or 'none'} against "
            risk += f"{clean_line(kept['reloptions']) or 'none'})"
        return _finding(out, FindingKind.DUPLICATE, "warning", evidence, risk=risk, fix=drop_ddl(out))
    evidence = f"its keys are the leading keys of {_shown(kept)}, which answers the same searches"
    evidence += f"; {_count(out['scans'])} scans here, {_count(kept['scans'])} there"
    risk = "the wider index is larger, so scans by this prefix read more pages"
    if out["size_bytes"] and kept["size_bytes"]:
        risk += f" ({kept['size_bytes'] / out['size_bytes']:.1f} times the size)"
    return _finding(out, FindingKind.LEFT_PREFIX, "warning", evidence, risk=risk, fix=drop_ddl(out))


def _unused(row: Row, shape: Shape, situation: Situation) -> Iterable[HealthFinding]:
    if shape.needed or not shape.usable or row["partitioned"] or row["scans"] != 0 or row["busy"]:
        return
    age = situation.age_days
    risk = "an index used once a quarter looks unused until then; the catalog does not tell when an index was made"
    if situation.standbys:
        risk += f"; scans on the {situation.standbys} connected standbys are not in this figure"
    if situation.in_recovery:
        risk += "; scans on the primary are not in this figure"
    if row["has_expressions"]:
        risk += "; the statistics on its expression go with it"
    if age is None or age < situation.min_age_days:
        window = "a time that is not known" if age is None else span(age)
        evidence = (
            f"no scan in {window}: too short to call it unused (observe.unused_min_age_days = {situation.min_age_days:g})"
        )
        yield _finding(row, FindingKind.UNUSED, "info", evidence, risk=risk, fix="")
        return
    evidence = f"no scan in the {span(age)} since the statistics were reset"
    if situation.in_recovery:
        yield _finding(row, FindingKind.UNUSED, "info", evidence + ", on this standby", risk=risk, fix="")
        return
    yield _finding(row, FindingKind.UNUSED, "warning", evidence, risk=risk, fix=drop_ddl(row))


def span(days: float) -> str:
    """A length of time in words: `14 days`, `3 hours`, `5 minutes`."""
    for unit, size in (("day", 1.0), ("hour", 1 / 24), ("minute", 1 / 1440)):
        if days >= 2 * size:
            return f"{days / size:.0f} {unit}s"
    return f"{days * 86_400:.0f} seconds"


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def supports(shape: Shape, columns: Sequence[int]) -> bool:
    """Whether this index finds the rows of a foreign key: a usable one whose leading keys are those columns in any order.

    btree, or hash for a single column. The check of the constraint looks for equal, so never null, values: a predicate
    that only says IS NOT NULL does not stand in the way, any other does.
    """
    if not shape.usable or shape.method not in ("btree", "hash") or len(shape.keys) < len(columns):
        return False
    if shape.predicate and not _only_not_null(shape.predicate):
        return False
    return set(shape.columns[: len(columns)]) == set(columns)


def _only_not_null(predicate: str) -> bool:
    parts = predicate.strip("()").split(") AND (")
    return all(part.strip("() ").endswith(" IS NOT NULL") and " OR " not in part for part in parts)


def _supporting(shapes: Sequence[Shape], foreign_keys: Sequence[Row]) -> set[int]:
    """Indexes that a foreign key must not lose, however few their scans: for each key one of those that serve it, unless
    one that is used or needed serves it as well. `shapes` are the indexes that stay."""
    by_table: dict[int, list[Shape]] = {}
    for shape in shapes:
        by_table.setdefault(shape.table_oid, []).append(shape)
    kept: set[int] = set()
    for key in foreign_keys:
        serving = [s for s in by_table.get(key["table_oid"], []) if supports(s, key["columns"])]
        if serving and not any(s.scans or s.needed for s in serving):
            kept.add(min(serving, key=lambda s: (s.oid not in kept, len(s.keys), s.oid)).oid)
    return kept


def _missing(key: Row, shapes: Sequence[Shape], taken: set[tuple[str, str]]) -> Iterable[HealthFinding]:
    if any(s.table_oid == key["table_oid"] and supports(s, key["columns"]) for s in shapes):
        return
    parent = clean_line(f"{key['parent_schema']}.{key['parent_table']}")
    columns = ", ".join(clean_line(c) for c in key["column_names"])
    size = key["table_bytes"]
    touched = (key["parent_deleted"] or 0) + (key["parent_updated"] or 0)
    evidence = f"foreign key {clean_line(key['name'])} to {parent} has no index that leads with ({columns})"
    evidence += f"; {_table_size(key)}; {parent} saw {_count(key['parent_deleted'])} deletes"
    evidence += f" and {_count(key['parent_updated'])} updates since the statistics were reset"
    small = size is not None and size < SMALL_TABLE
    risk = "each delete on the referenced table, and each update of its key, reads this whole table"
    risk += "" if touched else " (none seen so far)"
    yield HealthFinding(
        kind=FindingKind.MISSING_FK,
        severity="info" if small else "warning",
        oid=0,
        table_oid=key["table_oid"],
        index=columns,
        table=_shown(key, "table_name"),
        size_bytes=size,
        scans=None,
        evidence=evidence,
        risk=risk,
        fix="" if key["partitioned"] else _create_ddl(key, taken),
    )


def _table_size(key: Row) -> str:
    if key["partitioned"]:
        return "the table is partitioned: index its partitions one by one, then the parent"
    rows = f"about {key['table_rows']:,.0f} rows" if key["table_rows"] >= 0 else "rows not counted (never analysed)"
    size = "size not read" if key["table_bytes"] is None else f"{key['table_bytes'] / MIB:.1f} MiB"
    return f"the table has {rows}, {size}"


def _create_ddl(key: Row, taken: set[tuple[str, str]]) -> str:
    name = free_name(key["schema_name"], key["table_name"], key["column_names"], taken)
    taken.add((key["schema_name"], name))
    return (
        sql.SQL("CREATE INDEX CONCURRENTLY {} ON {} ({})")
        .format(
            sql.Identifier(name),
            _name(key["schema_name"], key["table_name"]),
            sql.SQL(", ").join(sql.Identifier(c) for c in key["column_names"]),
        )
        .as_string()
    )


def free_name(schema: str, table: str, columns: Sequence[str], taken: set[tuple[str, str]]) -> str:
    """A name for an index as PostgreSQL would choose it, `table_column_idx`, at most 63 bytes, not among `taken`."""
    stem = "_".join([table, *columns])
    for number in range(1_000):
        suffix = "_idx" if number == 0 else f"_idx{number}"
        room = NAME_BYTES - len(suffix)
        name = stem.encode()[:room].decode(errors="ignore") + suffix
        if (schema, name) not in taken:
            return name
    raise ValueError(f"a thousand indexes are named like {stem}")

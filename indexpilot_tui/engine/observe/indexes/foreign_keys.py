"""Foreign keys, from the side of the table that refers: which index finds its rows, and where there is none. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.observe.indexes.predicate import parts
from indexpilot_tui.engine.observe.indexes.say import count
from indexpilot_tui.engine.observe.indexes.situation import Situation
from indexpilot_tui.engine.observe.indexes.structure import Shape
from indexpilot_tui.engine.observe.model import FindingKind, HealthFinding
from indexpilot_tui.engine.postgres.text import clean_line

Row = Mapping[str, Any]
MIB = 1024 * 1024
# Below this a sequential scan of the referencing table costs less than the index would in writes: pganalyze leaves tables
# under 10 MB out of its advice altogether (its documentation); a foreign key is looked up a row at a time, so we take 1.
SMALL_TABLE = 1 * MIB
NAME_BYTES = 63  # NAMEDATALEN - 1: longer names are cut by the server with a mere notice


def supports(shape: Shape, columns: Sequence[int]) -> bool:
    """Whether this index finds the rows of a foreign key: a usable one whose leading keys are those columns in any order.

    btree, or hash for a single column. The check of the constraint looks for equal, so never null, values: a predicate
    that only says IS NOT NULL does not stand in the way, any other does.
    """
    facts = shape.facts
    if not facts.usable or facts.method not in ("btree", "hash") or len(shape.keys) < len(columns):
        return False
    if facts.has_predicate and not _only_not_null(facts.predicate):
        return False
    return set(shape.columns[: len(columns)]) == set(columns)


def _only_not_null(predicate: str | None) -> bool:
    found = parts(predicate) if predicate else None
    return found is not None and all(part.endswith(" IS NOT NULL") for part in found)


def supporting(shapes: Sequence[Shape], foreign_keys: Sequence[Row], situation: Situation) -> set[int]:
    """Indexes that a foreign key must not lose, however few their scans: for each key one of those that serve it, unless
    one that is used or needed serves it as well. `shapes` are the indexes that stay."""
    by_table: dict[int, list[Shape]] = {}
    for shape in shapes:
        by_table.setdefault(shape.facts.table_oid, []).append(shape)
    kept: set[int] = set()
    for key in foreign_keys:
        serving = [s for s in by_table.get(key["table_oid"], []) if supports(s, key["columns"])]
        if serving and not any(situation.scanned(s.facts) or s.needed or s.facts.unique for s in serving):
            kept.add(min(serving, key=lambda s: (s.oid not in kept, len(s.keys), s.oid)).oid)
    return kept


def missing(key: Row, shapes: Iterable[Shape], taken: set[tuple[str, str]]) -> Iterable[HealthFinding]:
    """The finding about a foreign key that no index of its table serves. A key without its details had one when it was
    read, which is being rebuilt or has just gone: the next reading tells."""
    if "parent_table" not in key or any(supports(s, key["columns"]) for s in shapes):
        return
    parent = clean_line(f"{key['parent_schema']}.{key['parent_table']}")
    columns = ", ".join(clean_line(c) for c in key["column_names"])
    size = key["table_bytes"]
    deleted, updated = key["parent_deleted"], key["parent_updated"]
    evidence = f"foreign key {clean_line(key['name'])} to {parent} has no index that leads with ({columns}), so each delete"
    evidence += f" on {parent}, and each update of its key, reads this whole table; {_table_size(key)}; {parent} saw"
    evidence += f" {count(deleted)} deletes and {count(updated)} updates since the statistics were reset"
    if size and deleted:
        evidence += f": an index saves reading up to {deleted * size / MIB:,.1f} MiB for the deletes alone"
    small = size is not None and size < SMALL_TABLE
    risk = "each row inserted, and each update that is not HOT, makes one entry more; the forecast tells its size"
    if key["partitioned"]:
        risk += "; the table is partitioned: the change builds one index a partition, and psql alone cannot run this"
    yield HealthFinding(
        kind=FindingKind.MISSING_FK,
        severity="info" if small else "warning",
        oid=0,
        table_oid=key["table_oid"],
        index=columns,
        table=clean_line(f"{key['schema_name']}.{key['table_name']}"),
        size_bytes=size,
        scans=None,
        evidence=evidence,
        risk=risk,
        fix=_create_ddl(key, taken),
    )


def _table_size(key: Row) -> str:
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
            sql.Identifier(key["schema_name"], key["table_name"]),
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

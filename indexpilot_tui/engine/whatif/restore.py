"""A snapshot as DDL for the shadow: a list of steps, each of which may fail without stopping the rest.

The texts come from the target and are not trusted: the caller runs every step as one statement of the extended protocol
and as a role without powers. Functions of the target are never created, so what needs one is left out and named.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from psycopg import sql

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.snapshot import Column, Index, Relation, Snapshot, UserType


@dataclass(frozen=True, slots=True)
class Step:
    """One statement. `fallback` is tried when it fails; `what` (cleaned) names the object in the issue that is reported
    then; `quiet` steps add nothing when they fail (the failure of what they belong to was reported)."""

    statement: sql.Composed
    what: str
    fallback: sql.Composed | None = None
    quiet: bool = False
    without: str = "without generated columns and collations"  # what the fallback lacks


_STORAGE_OPTIONS = ("parallel_workers", "fillfactor")  # what the planner or a size estimate reads
# a value of a sequence costs the planner what any function of its type costs; sequences are not restored
_NEXTVAL = re.compile(r"nextval\('(?:[^']|'')*'::regclass\)")
_FUNCTION_OF_BIGINT = "pg_catalog.txid_current()"


def name_of(schema: str, name: str) -> sql.Identifier:
    return sql.Identifier(schema, name)


def _raw(text: str) -> sql.SQL:
    return sql.SQL(text)


def schemas(snapshot: Snapshot) -> list[str]:
    """The schemas that have to exist, in order."""
    found = {r.schema for r in snapshot.relations.values()} | {t.schema for t in snapshot.types}
    found |= {i.schema for i in snapshot.indexes.values()} | {e.schema for e in snapshot.extended}
    found |= {c.collation.schema for r in snapshot.relations.values() for c in r.columns if c.collation is not None}
    found |= {t.collation.schema for t in snapshot.types if t.collation is not None}
    found |= {c.schema for i in snapshot.indexes.values() for c in i.collations}
    found |= {c.schema for c in snapshot.server.collations} | {f.schema for f in snapshot.functions}
    return sorted(found - {"pg_catalog", "information_schema", "public"})


def types(wanted: Iterable[UserType], tables: Collection[tuple[str, str]] = ()) -> Iterator[Step]:
    """Enums, domains (what their checks say does not matter to a plan, that there is one does), composite and range types.
    Extension types come with theirs, and the row types of `tables` (schema, name) with those."""
    for t in wanted:
        if t.extension or t.is_array or (t.kind == "c" and (t.schema, t.name) in tables):
            continue
        name = name_of(t.schema, t.name)
        what = clean_line(f"type {t.schema}.{t.name}")
        if t.kind == "e":
            labels = sql.SQL(", ").join(sql.Literal(label) for label in t.labels)
            yield Step(sql.SQL("create type {} as enum ({})").format(name, labels), what)
        elif t.kind == "d" and t.base:
            parts = [sql.SQL("create domain {} as {}").format(name, _raw(t.base))]
            if t.collation is not None:
                parts.append(sql.SQL("collate {}").format(name_of(t.collation.schema, t.collation.name)))
            if t.constrained:
                parts.append(sql.SQL("check (true)").format())
            yield Step(sql.SQL(" ").join(parts), what)
        elif t.kind == "r" and t.subtype:
            yield Step(sql.SQL("create type {} as range (subtype = {})").format(name, _raw(t.subtype)), what)
        elif t.kind == "c":
            members = [sql.SQL("{} {}").format(sql.Identifier(n), _raw(y)) for n, y in t.attributes]
            yield Step(sql.SQL("create type {} as ({})").format(name, sql.SQL(", ").join(members)), what)


def _column(column: Column, *, plain: bool) -> sql.Composed:
    """One column. A dropped one keeps its number (it is dropped again afterwards); `plain` leaves out what may not work."""
    if column.dropped:
        return sql.SQL("{} int").format(sql.Identifier(column.name))
    parts: list[sql.Composable] = [sql.Identifier(column.name), _raw(column.type)]
    if column.collation is not None and not plain:
        parts.append(sql.SQL("collate {}").format(name_of(column.collation.schema, column.collation.name)))
    if column.generated and column.expression and not plain:
        kind = "stored" if column.generated == "s" else "virtual"
        parts.append(sql.SQL("generated always as ({}) {}").format(_raw(column.expression), _raw(kind)))
    if column.not_null:
        parts.append(sql.SQL("not null"))
    return sql.SQL(" ").join(parts)


def table(relation: Relation, unknown_types: set[str]) -> Iterator[Step]:
    """A table on its own; it is attached to its parents later. Columns of a type that the shadow lacks become bytea."""
    columns = [
        c if c.type not in unknown_types else replace(c, type="bytea", generated="", collation=None)
        for c in relation.columns
    ]
    tail: list[sql.Composable] = []
    if relation.kind == "p" and relation.part_key:
        tail.append(_raw(f" partition by {relation.part_key}"))
    options = [o for o in relation.options if o.split("=")[0] in _STORAGE_OPTIONS and relation.kind != "p"]
    if options:
        tail.append(_raw(f" with ({', '.join(options)})"))
    name = name_of(relation.schema, relation.name)

    def create(plain: bool) -> sql.Composed:
        body = sql.SQL(", ").join(_column(c, plain=plain) for c in columns)
        return sql.SQL("create table {} ({})").format(name, body) + sql.Composed(tail)

    yield Step(create(False), clean_line(f"table {relation.qualified}"), fallback=create(True))
    dropped = [c for c in columns if c.dropped]
    if dropped:
        actions = sql.SQL(", ").join(sql.SQL("drop column {}").format(sql.Identifier(c.name)) for c in dropped)
        yield Step(sql.SQL("alter table {} {}").format(name, actions), clean_line(relation.qualified), quiet=True)


def defaults(relation: Relation, unknown_types: set[str]) -> Iterator[Step]:
    """Defaults that cost something where an INSERT leaves the column out, one by one: a function may be missing."""
    name = name_of(relation.schema, relation.name)
    for c in relation.columns:
        if c.dropped or c.type in unknown_types:
            continue
        what = clean_line(f"default of {relation.qualified}.{c.name}")
        if c.identity and not relation.is_partition:  # a partition has that of its table
            kind = _raw("always" if c.identity == "a" else "by default")
            yield Step(
                sql.SQL("alter table {} alter {} add generated {} as identity").format(name, sql.Identifier(c.name), kind),
                what, quiet=True,
            )  # fmt: skip
        elif c.default and "(" in c.default:
            expression = _raw(_NEXTVAL.sub(_FUNCTION_OF_BIGINT, c.default))
            yield Step(
                sql.SQL("alter table {} alter {} set default {}").format(name, sql.Identifier(c.name), expression),
                what, quiet=True,
            )  # fmt: skip


def attachments(snapshot: Snapshot) -> Iterator[Step]:
    """Partitions to their partitioned tables, children to the tables that they inherit from."""
    for relation in snapshot.relations.values():
        for parent_oid in relation.parents:
            parent = snapshot.relations.get(parent_oid)
            if parent is None:
                continue
            parent_name, name = name_of(parent.schema, parent.name), name_of(relation.schema, relation.name)
            if relation.is_partition and relation.bound:
                yield Step(
                    sql.SQL("alter table {} attach partition {} {}").format(parent_name, name, _raw(relation.bound)),
                    clean_line(f"partition {relation.qualified}"),
                )
            else:
                yield Step(
                    sql.SQL("alter table {} inherit {}").format(name, parent_name),
                    clean_line(f"inheritance of {relation.qualified}"),
                )


def checks(snapshot: Snapshot, kind: str) -> Iterator[Step]:
    """CHECK constraints (kind c) or foreign keys (kind f)."""
    for c in snapshot.constraints:
        relation = snapshot.relations.get(c.table_oid)
        if c.kind != kind or relation is None:
            continue
        yield Step(
            sql.SQL("alter table {} add constraint {} {}").format(
                name_of(relation.schema, relation.name), sql.Identifier(c.name), _raw(c.definition)
            ),
            clean_line(f"constraint {c.name} of {relation.qualified}"),
        )


def index(entry: Index, relation: Relation) -> Step:
    """One index, through its constraint where it has one."""
    what = clean_line(f"index {entry.schema}.{entry.name}")
    if entry.constraint_name and entry.constraint_definition:
        only = "only " if entry.partitioned else ""
        return Step(
            sql.SQL("alter table {}{} add constraint {} {}").format(
                _raw(only), name_of(relation.schema, relation.name), sql.Identifier(entry.constraint_name),
                _raw(entry.constraint_definition),
            ),
            what,
        )  # fmt: skip
    return Step(sql.Composed([_raw(entry.definition)]), what)


def index_attachments(snapshot: Snapshot) -> Iterator[Step]:
    for entry in snapshot.indexes.values():
        parent = snapshot.indexes.get(entry.parent) if entry.parent is not None else None
        if parent is not None:
            yield Step(
                sql.SQL("alter index {} attach partition {}").format(
                    name_of(parent.schema, parent.name), name_of(entry.schema, entry.name)
                ),
                clean_line(f"index {entry.schema}.{entry.name}"),
                quiet=True,
            )


def views(snapshot: Snapshot) -> Iterator[Step]:
    for relation in snapshot.relations.values():
        if relation.kind == "v" and relation.view:
            # the view's own column names may differ from those of its query
            names = sql.SQL(", ").join(sql.Identifier(c.name) for c in relation.columns if not c.dropped)
            # conditions are not pushed into such a view unless they are leakproof
            barrier = any(o in ("security_barrier=true", "security_barrier=on") for o in relation.options)
            yield Step(
                sql.SQL("create view {} ({}) {} as {}").format(
                    name_of(relation.schema, relation.name), names,
                    _raw("with (security_barrier)" if barrier else ""), _raw(relation.view),
                ),
                clean_line(f"view {relation.qualified}"),
            )  # fmt: skip


def extended(snapshot: Snapshot) -> Iterator[Step]:
    seen: set[int] = set()
    for e in snapshot.extended:
        if e.oid not in seen:
            seen.add(e.oid)
            yield Step(sql.Composed([_raw(e.definition)]), clean_line(f"statistics {e.schema}.{e.name}"))

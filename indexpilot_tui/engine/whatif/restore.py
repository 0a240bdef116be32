"""A snapshot as DDL for the shadow: a list of steps, each of which may fail without stopping the rest.

The texts come from the target or a file and are not trusted: each is made anew by `definitions`, and what that refuses is
left out and named. The caller runs every step as one statement of the extended protocol and as a role without powers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from psycopg import sql

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif import definitions
from indexpilot_tui.engine.whatif.snapshot import Column, Index, Relation, Snapshot, UserType


@dataclass(frozen=True, slots=True)
class Step:
    """One statement. `fallback` is tried when it fails; `what` (cleaned) names the object in the issue that is reported
    then; `quiet` steps add nothing when they fail (the failure of what they belong to was reported). `refused` (cleaned):
    why there is no statement, since its text is not what it should be; that is always told."""

    statement: sql.Composed | None
    what: str
    fallback: sql.Composed | None = None
    quiet: bool = False
    without: str = "without generated columns and collations"  # what the fallback lacks
    refused: str = ""


def made(what: str, make: Callable[[], sql.Composed], *, quiet: bool = False) -> Step:
    """The step of a statement that is put together of texts from outside."""
    try:
        return Step(make(), what, quiet=quiet)
    except definitions.DefinitionError as exc:
        return Step(None, what, quiet=quiet, refused=str(exc))


# what the planner or a size estimate reads
_STORAGE_OPTION = re.compile(r"(?:parallel_workers|fillfactor)=\d{1,4}")
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
        make = partial(_type, t)
        if t.kind == "e" or (t.kind == "d" and t.base) or (t.kind == "r" and t.subtype) or t.kind == "c":
            yield made(clean_line(f"type {t.schema}.{t.name}"), make)


def _type(t: UserType) -> sql.Composed:
    name = name_of(t.schema, t.name)
    if t.kind == "e":
        labels = sql.SQL(", ").join(sql.Literal(label) for label in t.labels)
        return sql.SQL("create type {} as enum ({})").format(name, labels)
    if t.kind == "d":
        parts = [sql.SQL("create domain {} as {}").format(name, _raw(definitions.type_name(t.base or "")))]
        if t.collation is not None:
            parts.append(sql.SQL("collate {}").format(name_of(t.collation.schema, t.collation.name)))
        if t.constrained:
            parts.append(sql.SQL("check (true)").format())
        return sql.SQL(" ").join(parts)
    if t.kind == "r":
        return sql.SQL("create type {} as range (subtype = {})").format(name, _raw(definitions.type_name(t.subtype or "")))
    members = [sql.SQL("{} {}").format(sql.Identifier(n), _raw(definitions.type_name(y))) for n, y in t.attributes]
    return sql.SQL("create type {} as ({})").format(name, sql.SQL(", ").join(members))


def _column(column: Column, *, plain: bool) -> sql.Composed:
    """One column. A dropped one keeps its number (it is dropped again afterwards); `plain` leaves out what may not work."""
    if column.dropped:
        return sql.SQL("{} int").format(sql.Identifier(column.name))
    parts: list[sql.Composable] = [sql.Identifier(column.name), _raw(definitions.type_name(column.type))]
    if column.collation is not None and not plain:
        parts.append(sql.SQL("collate {}").format(name_of(column.collation.schema, column.collation.name)))
    if column.generated and column.expression and not plain:
        expression, kind = definitions.expression(column.expression), "stored" if column.generated == "s" else "virtual"
        parts.append(sql.SQL("generated always as {} {}").format(_raw(expression), _raw(kind)))
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
        try:
            tail.append(_raw(f" partition by {definitions.partition_key(relation.part_key)}"))
        except definitions.DefinitionError as exc:
            yield Step(None, clean_line(f"partition key of {relation.qualified}"), refused=str(exc))
    options = [o for o in relation.options if _STORAGE_OPTION.fullmatch(o) and relation.kind != "p"]
    if options:
        tail.append(_raw(f" with ({', '.join(options)})"))
    name = name_of(relation.schema, relation.name)

    def create(plain: bool) -> sql.Composed:
        body = sql.SQL(", ").join(_column(c, plain=plain) for c in columns)
        return sql.SQL("create table {} ({})").format(name, body) + sql.Composed(tail)

    what = clean_line(f"table {relation.qualified}")
    try:
        yield Step(create(False), what, fallback=create(True))
    except definitions.DefinitionError as exc:  # a generated column's expression: the types were looked at before
        yield Step(None, clean_line(f"generated columns of {relation.qualified}"), refused=str(exc))
        yield made(what, partial(create, True))
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
            yield made(what, partial(_default, name, c.name, c.default), quiet=True)


def _default(table: sql.Identifier, column: str, text: str) -> sql.Composed:
    expression = _raw(definitions.expression(_NEXTVAL.sub(_FUNCTION_OF_BIGINT, text)))
    return sql.SQL("alter table {} alter {} set default {}").format(table, sql.Identifier(column), expression)


def attachments(snapshot: Snapshot) -> Iterator[Step]:
    """Partitions to their partitioned tables, children to the tables that they inherit from."""
    for relation in snapshot.relations.values():
        for parent_oid in relation.parents:
            parent = snapshot.relations.get(parent_oid)
            if parent is None:
                continue
            parent_name, name = name_of(parent.schema, parent.name), name_of(relation.schema, relation.name)
            if relation.is_partition and relation.bound:
                attach = partial(_attach, parent_name, name, relation.bound)
                yield made(clean_line(f"partition {relation.qualified}"), attach)
            else:
                yield Step(
                    sql.SQL("alter table {} inherit {}").format(name, parent_name),
                    clean_line(f"inheritance of {relation.qualified}"),
                )


def _attach(parent: sql.Identifier, name: sql.Identifier, bound: str) -> sql.Composed:
    return sql.SQL("alter table {} attach partition {} {}").format(parent, name, _raw(definitions.partition_bound(bound)))


def checks(snapshot: Snapshot, kind: str) -> Iterator[Step]:
    """CHECK constraints (kind c) or foreign keys (kind f)."""
    for c in snapshot.constraints:
        relation = snapshot.relations.get(c.table_oid)
        if c.kind != kind or relation is None:
            continue
        make = partial(definitions.constraint, c.definition, relation.schema, relation.name, c.name)
        yield made(clean_line(f"constraint {c.name} of {relation.qualified}"), make)


def index(entry: Index, relation: Relation) -> Step:
    """One index, through its constraint where it has one."""
    what = clean_line(f"index {entry.schema}.{entry.name}")
    if entry.constraint_name and entry.constraint_definition:
        make = partial(
            definitions.constraint, entry.constraint_definition, relation.schema, relation.name, entry.constraint_name,
            only=entry.partitioned,
        )  # fmt: skip
        return made(what, make)
    return made(what, partial(definitions.index, entry.definition, entry.name, relation.schema, relation.name))


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
            yield made(clean_line(f"view {relation.qualified}"), partial(_view, relation, relation.view, names, barrier))


def _view(relation: Relation, text: str, names: sql.Composed, barrier: bool) -> sql.Composed:
    return sql.SQL("create view {} ({}) {} as {}").format(
        name_of(relation.schema, relation.name), names, _raw("with (security_barrier)" if barrier else ""),
        _raw(definitions.query(text)),
    )  # fmt: skip


def extended(snapshot: Snapshot) -> Iterator[Step]:
    seen: set[int] = set()
    for e in snapshot.extended:
        relation = snapshot.relations.get(e.table_oid)
        if e.oid not in seen and relation is not None:
            seen.add(e.oid)
            make = partial(definitions.statistics, e.definition, e.schema, e.name, relation.schema, relation.name)
            yield made(clean_line(f"statistics {e.schema}.{e.name}"), make)

"""What a migration meets: the tables and indexes that it names, as the target has them, and what its own statements add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from indexpilot_tui.check.migration.script import Step
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.whatif.read import Reader, read_snapshot, resolve, server_traits
from indexpilot_tui.engine.whatif.snapshot import Relation, Snapshot

Name = tuple[str, str]
Row = dict[str, Any]
PAGE = 8192


@dataclass(slots=True)
class Created:
    """An index that an earlier statement of the file made. `redundant` are the existing ones (schema.name) that it makes
    superfluous; `elements` its keys: names of columns, and expressions as written."""

    table: int
    name: str  # cleaned
    method: str
    elements: tuple[str, ...]
    where: str
    redundant: tuple[str, ...]


@dataclass(slots=True)
class Migrated:
    """`found` has the OID of each name under the search_path of its statement, None: not there. `tables_made` and
    `indexes` grow as the statements are judged in order."""

    session: Session
    snapshot: Snapshot
    path: tuple[str, ...]
    found: dict[tuple[tuple[str, ...], Name], int | None]
    facts: dict[int, Row]
    tables_made: set[Name] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    indexes: list[Created] = field(default_factory=list)

    def _path(self, step: Step) -> tuple[str, ...]:
        return ("pg_catalog", *step.path) if step.path else self.path

    def oid(self, step: Step, name: Name) -> int | None:
        return self.found.get((self._path(step), name))

    def table(self, step: Step, name: Name) -> Relation | None:
        """The table that a statement means; None when the target has none of this name."""
        oid = self.oid(step, name)
        return self.snapshot.relations.get(oid) if oid is not None else None

    def index(self, step: Step, name: Name) -> Row | None:
        oid = self.oid(step, name)
        return self.facts.get(oid) if oid is not None else None

    def made(self, name: Name) -> bool:
        """Whether the file itself makes this table: it is empty, and nobody uses it."""
        return name in self.tables_made or any(n[1] == name[1] and not (n[0] and name[0]) for n in self.tables_made)

    def schema_of(self, step: Step, name: Name, relation: Relation | None) -> str:
        return name[0] or (relation.schema if relation is not None else next((p for p in self._path(step)[1:]), "public"))

    def pages(self, relation: Relation) -> int:
        members = self.snapshot.members(relation.oid)
        return sum(self.snapshot.sizes[m].pages for m in members if m in self.snapshot.sizes)

    def has_name(self, step: Step, schema: str, name: str) -> int | None:
        """The OID of a relation or index of this name in a schema."""
        return self.found.get((self._path(step), (schema, name)))


def names_of(step: Step) -> tuple[set[Name], set[Name]]:
    """The (tables, indexes) that a statement names."""
    import postgast
    from postgast import pg_query_pb2 as pb

    if step.node is None:
        return set(), set()
    tables = {(r.schemaname, r.relname) for r in postgast.find_nodes(step.node, pb.RangeVar)}
    indexes: set[Name] = set()
    if step.kind == "drop_stmt":
        kind = step.node.drop_stmt.remove_type
        named = indexes if kind == pb.OBJECT_INDEX else tables if kind in (pb.OBJECT_TABLE, pb.OBJECT_MATVIEW) else set()
        for item in step.node.drop_stmt.objects:
            parts = [i.string.sval for i in item.list.items]
            if parts:
                named.add((parts[-2] if len(parts) > 1 else "", parts[-1]))
    if step.kind == "index_stmt" and step.node.index_stmt.idxname:
        schema = step.node.index_stmt.relation.schemaname
        indexes.add((schema, step.node.index_stmt.idxname))
    return tables, indexes


def _schema(snapshot: Snapshot, facts: dict[int, Row], oid: int) -> str:
    if oid in facts:
        return str(facts[oid]["schema"])
    return snapshot.relations[oid].schema if oid in snapshot.relations else "pg_catalog"


async def read_target(session: Session, steps: Sequence[Step]) -> Migrated:
    """Look up every name of the file and read the tables behind them. Raises what Session.rows raises."""
    reader = Reader(session)
    server = await server_traits(reader)
    by_path: dict[tuple[str, ...], set[Name]] = {}
    for step in steps:
        tables, indexes = names_of(step)
        path = ("pg_catalog", *step.path) if step.path else server.search_path
        by_path.setdefault(path, set()).update(tables | indexes)
    found: dict[tuple[tuple[str, ...], Name], int | None] = {}
    for path, names in by_path.items():
        found |= {(path, name): oid for name, oid in (await resolve(reader, names, path)).items()}
    oids = sorted({oid for oid in found.values() if oid is not None})
    facts = {r["oid"]: r for r in await reader.ask("index_facts", oids=oids)} if oids else {}
    wanted = {*oids, *(r["table_oid"] for r in facts.values())}
    snapshot = await read_snapshot(session, (), server=server, reader=reader, also=sorted(wanted))
    for (path, name), oid in found.items():
        # a path that the file sets is all there is; the session's own may be another one when the file is run
        if oid is not None and not name[0] and path != server.search_path and _schema(snapshot, facts, oid) not in path:
            found[path, name] = None
    siblings = [i.oid for i in snapshot.indexes.values() if i.oid not in facts]
    if siblings:
        facts |= {r["oid"]: r for r in await reader.ask("index_facts", oids=siblings)}
    return Migrated(session, snapshot, server.search_path, found, facts)

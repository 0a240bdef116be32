"""Reading a target: definitions and statistics by catalog queries over the monitor session, and nothing else.

No rows are read and nothing is written. pg_get_viewdef, pg_get_expr and pg_relation_size take and release a weak lock on
what they describe; when one is not to be had within the session's lock_timeout, sizes fall back to the catalog's.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import fields
from functools import cache
from typing import Any

from psycopg.sql import Composed

from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.whatif.calls import called_by_bodies, of_definitions
from indexpilot_tui.engine.whatif.snapshot import (
    Activity,
    Collation,
    Column,
    ColumnStats,
    ExtendedStats,
    Function,
    Index,
    Relation,
    ServerTraits,
    Size,
    Snapshot,
    TableConstraint,
    UserType,
)
from indexpilot_tui.errors import ServerError

PACKAGE = "indexpilot_tui.engine.whatif"
Name = tuple[str, str]  # schema or '', relation


class Reader:
    """Counts what it sends, so that a forecast can say what it cost the target."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.statements = 0
        self.ms = 0.0

    async def ask(self, name: str, **params: Any) -> list[dict[str, Any]]:
        """Run one question of sql/. Raises what Session.rows raises."""
        return await self.send(load(PACKAGE, name, self.session.facts.server_version), params)

    async def send(self, query: str | Composed, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Run a query that had to be composed."""
        start = time.perf_counter()
        try:
            return await self.session.rows(query, params)
        finally:
            self.statements += 1
            self.ms += (time.perf_counter() - start) * 1000


def search_path(text: str, user: str) -> tuple[str, ...]:
    """The schemas of a search_path setting, `$user` expanded; pg_catalog comes first unless it is named."""
    parts: list[str] = []
    for raw in text.split(","):
        item = raw.strip()
        quoted = len(item) > 1 and item.startswith('"') and item.endswith('"')
        name = item[1:-1].replace('""', '"') if quoted else item.lower()
        if name:
            parts.append(user if name == "$user" else name)
    return tuple(parts if "pg_catalog" in parts else ["pg_catalog", *parts])


async def server_traits(reader: Reader) -> ServerTraits:
    row = (await reader.ask("server"))[0]
    settings = await reader.ask("settings")
    return ServerTraits(
        version=reader.session.facts.server_version,
        collate=row["collate"],
        encoding=row["encoding"],
        search_path=search_path(row["search_path"], reader.session.facts.session_user),
        block_size=row["block_size"],
        maintenance_work_mem=row["maintenance_work_mem"],
        extensions=tuple(zip(row["extensions"], row["extension_schemas"], strict=True)),
        settings=tuple((s["name"], s["setting"]) for s in settings),
        statistics_reader=bool(row.get("statistics_reader")),
        locale=row.get("locale") or "",
        collations=_collations(row),
    )


async def resolve(reader: Reader, names: Collection[Name], path: tuple[str, ...]) -> dict[Name, int | None]:
    """What each name means: the first match along `path`; else the only relation of that name outside the path
    (an application's own search_path is not ours to see); None when there is none, or more than one."""
    wanted = sorted(set(names))
    if not wanted:
        return {}
    rows = await reader.ask("resolve", schemas=[s for s, _ in wanted], names=[n for _, n in wanted])
    found: dict[Name, int | None] = {}
    for position, name in enumerate(wanted, 1):
        matches = [r for r in rows if r["ord"] == position]
        by_path = [r for schema in path for r in matches if r["schema"] == schema]
        if name[0]:
            by_path = matches
        if by_path:
            found[name] = by_path[0]["oid"]
        else:
            found[name] = matches[0]["oid"] if len(matches) == 1 else None
    return found


async def _sizes(reader: Reader, known: dict[int, tuple[int, float, int]]) -> tuple[dict[int, Size], list[str]]:
    notes: list[str] = []
    pages: dict[int, int] = {}
    try:
        pages = {r["oid"]: r["pages"] for r in await reader.ask("sizes", oids=list(known)) if r["pages"] is not None}
    except ServerError as exc:
        if "lock timeout" not in exc.message:
            raise
        notes.append("a table is locked exclusively right now, so sizes are those of the last VACUUM or ANALYZE")
    sizes: dict[int, Size] = {}
    for oid, (relpages, reltuples, visible) in known.items():
        unknown = relpages == 0 and reltuples == 0 and reader.session.facts.server_version < 140000
        sizes[oid] = Size(pages.get(oid, relpages), relpages, -1.0 if unknown else reltuples, visible)
    return sizes, notes


def _relation(row: dict[str, Any], columns: list[dict[str, Any]]) -> Relation:
    return Relation(
        oid=row["oid"],
        schema=row["schema"],
        name=row["name"],
        kind=row["kind"],
        options=tuple(row["reloptions"] or ()),
        is_partition=row["is_partition"],
        bound=row["bound"],
        part_key=row["part_key"],
        view=row["view"],
        parents=tuple(row["parents"]),
        columns=tuple(Column(**_of(Column, c, collation=_collation(c))) for c in columns),
        row_security=row["row_security"],
        persistence=row.get("persistence", "p"),
    )


@cache
def _names(kind: type) -> frozenset[str]:
    return frozenset(f.name for f in fields(kind))


def _of(kind: type, row: dict[str, Any], **made: Any) -> dict[str, Any]:
    """The fields of a row that a dataclass has, and `made` ones: the file of another version may have more, or fewer."""
    names = _names(kind)
    return {k: v for k, v in row.items() if k in names} | made


def _collation(row: dict[str, Any]) -> Collation | None:
    if not row.get("collation_schema") or not row.get("collation_name"):
        return None
    return Collation(
        row["collation_schema"], row["collation_name"], row.get("collation_locale") or "",
        row.get("collation_provider") or "c", row.get("collation_deterministic") is not False,
    )  # fmt: skip


def _collations(row: dict[str, Any]) -> tuple[Collation, ...]:
    return tuple(Collation(s, n, x, p, d != "false") for s, n, x, p, d in row.get("collations") or ())


def _index(row: dict[str, Any]) -> Index:
    return Index(
        **_of(Index, row, partitioned=row["kind"] == "I", columns=tuple(row["columns"]), collations=_collations(row))
    )  # fmt: skip


def _type(row: dict[str, Any]) -> UserType:
    attributes = tuple(zip(row["attribute_names"], row["attribute_types"], strict=True))
    return UserType(
        **_of(UserType, row, labels=tuple(row["labels"]), attributes=attributes, collation=_collation(row))
    )  # fmt: skip


async def read_snapshot(
    session: Session, names: Collection[Name], *, server: ServerTraits | None = None, reader: Reader | None = None,
    also: Collection[int] = (), calls: Collection[str] = (),
) -> Snapshot:  # fmt: skip
    """Everything that the planner needs to know about `names` (schema or '', relation), the OIDs `also`, and what is
    behind them; `calls` are the functions that statements call.

    Raises what Session.rows raises: PrivilegeError, ServerError, ConnectError.
    """
    reader = reader or Reader(session)
    server = server or await server_traits(reader)
    resolved = await resolve(reader, names, server.search_path)
    seeds = sorted({oid for oid in resolved.values() if oid is not None} | set(also))
    rows = await reader.ask("relations", oids=seeds)
    oids = [r["oid"] for r in rows]
    tables = [r["oid"] for r in rows if r["kind"] in ("r", "p", "m")]
    columns = await reader.ask("columns", oids=oids)
    by_table: dict[int, list[dict[str, Any]]] = {}
    for column in columns:
        by_table.setdefault(column["oid"], []).append(column)
    indexes = await reader.ask("indexes", oids=tables)
    constraints = await reader.ask("constraints", oids=tables)
    extended = await _extended(reader, tables)
    own_types = sorted({c["type_oid"] for c in columns if c["type_oid"] >= FIRST_USER_OID})
    types = await reader.ask("types", types=own_types) if own_types else []
    named = {(r["schema"], r["name"]) for r in rows if r["oid"] in set(tables)}
    named |= {(i["schema"], i["name"]) for i in indexes if 0 in i["columns"]}
    stats = await reader.ask("stats", schemas=sorted({s for s, _ in named}), names=sorted({n for _, n in named}))
    hidden = {(r["schema"], r["name"]) for r in rows if r["kind"] in ("r", "p", "m") and not r["readable"]}
    hidden |= {(i["schema"], i["name"]) for i in indexes if 0 in i["columns"]} if hidden else set()
    by_reader: set[Name] = set()
    if hidden and server.statistics_reader:
        schemas, names_ = sorted({s for s, _ in hidden}), sorted({n for _, n in hidden})
        told = [s for s in await reader.ask("stats_reader", schemas=schemas, names=names_)
                if (s["schema"], s["relation"]) in hidden]  # fmt: skip
        by_reader = {(s["schema"], s["relation"]) for s in told}
        stats = [s for s in stats if (s["schema"], s["relation"]) not in by_reader] + told
    relations = {r["oid"]: _relation(r, by_table.get(r["oid"], [])) for r in rows}
    made = {i["oid"]: _index(i) for i in indexes}
    checks = tuple(TableConstraint(**_of(TableConstraint, k)) for k in constraints)
    known = {r["oid"]: (r["relpages"], r["reltuples"], r["relallvisible"]) for r in rows if r["kind"] in ("r", "m")}
    known |= {i["oid"]: (i["relpages"], i["reltuples"], 0) for i in indexes if i["kind"] == "i"}
    sizes, notes = await _sizes(reader, known)
    return Snapshot(
        server=server,
        relations=relations,
        indexes=made,
        constraints=checks,
        stats=tuple(ColumnStats(**_of(ColumnStats, s)) for s in stats if (s["schema"], s["relation"]) in named),
        extended=extended,
        types=tuple(_type(t) for t in types),
        sizes=sizes,
        activity={r["oid"]: _activity(r, (r["schema"], r["name"]) in by_reader) for r in rows},
        resolved=resolved,
        read_statements=reader.statements,
        read_ms=reader.ms,
        notes=tuple(notes),
        functions=await _functions(reader, of_definitions(relations.values(), made.values(), checks) | set(calls)),
    )


async def _functions(reader: Reader, names: set[str]) -> tuple[Function, ...]:
    """The functions of these names, and those that their texts call."""
    found: dict[int, Function] = {}
    asked: set[str] = set()
    for _ in range(FUNCTION_ROUNDS):
        wanted = names - asked
        if not wanted:
            break
        rows = await reader.ask("functions", names=sorted(wanted))
        fresh = [Function(**_of(Function, r)) for r in rows if r["oid"] not in found]
        asked |= wanted
        found |= {f.oid: f for f in fresh}
        names = called_by_bodies(fresh)
    return tuple(sorted(found.values(), key=lambda f: f.oid))


async def _extended(reader: Reader, tables: list[int]) -> tuple[ExtendedStats, ...]:
    rows = await reader.ask("extended", oids=tables)
    found: dict[tuple[str, str, bool, str], ColumnStats] = {}
    if any(r["expressions"] for r in rows):
        schemas, names = sorted({r["schema"] for r in rows}), sorted({r["name"] for r in rows})
        for s in await reader.ask("extended_expressions", schemas=schemas, names=names):
            found[s["schema"], s["relation"], s["inherited"], s["column"]] = ColumnStats(**_of(ColumnStats, s))
    made: list[ExtendedStats] = []
    for r in rows:
        lists = {k: tuple(r[k] or ()) for k in ("columns", "expressions", "mcf", "mcf_base")}
        pairs = {k: tuple(tuple(x) for x in r[k] or ()) for k in ("mcv", "mcv_nulls")}
        stats = tuple(found.get((r["schema"], r["name"], r["inherited"], x)) for x in lists["expressions"])
        made.append(ExtendedStats(**_of(ExtendedStats, r, **lists, **pairs, expression_stats=stats)))
    return tuple(made)


FUNCTION_ROUNDS = 4  # functions that call functions
FIRST_USER_OID = 16384  # FirstNormalObjectId, access/transam.h: what is below came with initdb


def _activity(row: dict[str, Any], by_reader: bool) -> Activity:
    return Activity(
        readable=row["readable"] or by_reader,
        modified=row["modified"],
        updated=row["updated"],
        hot_updated=row["hot_updated"],
        analyzed_s_ago=row["analyzed_s_ago"],
        tablespace_options=tuple(row["tablespace_options"] or ()),
    )

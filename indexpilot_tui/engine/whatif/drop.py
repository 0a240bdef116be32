"""The blast radius of a DROP INDEX: what the catalog says stands on the index, what the workload needs it for, and what it
takes to have it back. Reads catalog rows and plans; changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif import index, sizes
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.drop_model import DropForecast, PlanChange, Rebuild, ServedKey, Standbys, Usage
from indexpilot_tui.engine.whatif.expressions import derive
from indexpilot_tui.engine.whatif.model import QueryForecast
from indexpilot_tui.engine.whatif.plan import Plan, nodes
from indexpilot_tui.engine.whatif.rates import Rates
from indexpilot_tui.engine.whatif.read import Reader
from indexpilot_tui.engine.whatif.shape import shape_of
from indexpilot_tui.engine.whatif.snapshot import Snapshot
from indexpilot_tui.engine.whatif.statements import HIDDEN, Parsed

Row = dict[str, Any]
_DELETE = {"a": "no action", "r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}
_DEARER = 1.001  # a cost that differs by less is the same plan with another rounding


@dataclass(frozen=True, slots=True)
class Standing:
    """What was read about an index. `facts` of it, `parts` of the parts of a partitioned one, `siblings` of the table's
    other indexes, `keys` the table's foreign keys, `window` the age of the counters."""

    facts: Row
    parts: tuple[Row, ...]
    siblings: tuple[Row, ...]
    keys: tuple[Row, ...]
    window: Row


async def read_standing(reader: Reader, snapshot: Snapshot, oid: int, table: int) -> Standing:
    """Three questions to the target. Raises what Session.rows raises."""
    parts = _below(snapshot, oid)
    others = [i.oid for i in snapshot.indexes.values() if i.table_oid == table and i.oid != oid]
    rows = {r["oid"]: r for r in await reader.ask("index_facts", oids=[oid, *parts, *others])}
    keys = await reader.ask("key_tables", oids=[table])
    window = await reader.ask("usage_window")
    return Standing(
        facts=rows[oid],
        parts=tuple(rows[p] for p in parts if p in rows),
        siblings=tuple(rows[o] for o in others if o in rows),
        keys=tuple(keys),
        window=window[0],
    )


def _below(snapshot: Snapshot, oid: int) -> list[int]:
    children = [i.oid for i in snapshot.indexes.values() if i.parent == oid]
    return [*children, *(x for c in children for x in _below(snapshot, c))]


async def rebuild(shadow: ShadowDatabase, oid: int, rates: Rates | None = None) -> Rebuild | None:
    """What a fresh build of an existing index takes, its parts together; None when the shadow does not have it."""
    snapshot = shadow.snapshot
    wanted = [p for p in [oid, *_below(snapshot, oid)] if p in shadow.oids and not snapshot.indexes[p].partitioned]
    rates = rates or Rates()
    size, low, high, temp, volume = 0, 0.0, 0.0, 0, 0
    for part in wanted:
        owner = snapshot.indexes[part].table_oid
        described = await index.describe(shadow, [shadow.oids[owner]])
        made = next(m for m in described if m.oid == shadow.oids[part])
        derived, _ = await derive(shadow, made, snapshot.relations[owner])
        shape, _ = await shape_of(shadow, made, owner, derived)
        bytes_ = sizes.estimate(shape).size_bytes
        seconds = rates.seconds(shape, bytes_)
        size, low, high = size + bytes_, low + seconds[0], high + seconds[1]
        temp = max(temp, rates.temp_bytes(shape, bytes_, snapshot.server.maintenance_work_mem))
        volume += rates.wal_bytes(shape.method, bytes_)
    return Rebuild(size, (round(low, 2), round(high, 2)), volume, temp, rates.basis) if wanted else None


def radius(
    standing: Standing, snapshot: Snapshot, table: int, parsed: Sequence[Parsed], queries: Sequence[QueryForecast],
    back: Rebuild | None,
) -> DropForecast:  # fmt: skip
    """Everything together. `parsed` is the workload (all of it), `queries` what was planned of it."""
    facts = standing.facts
    changed = tuple(_plan_changes(queries))
    served = tuple(_served_keys(standing))
    conflicts = tuple(_on_conflict(standing, snapshot, table, parsed))
    refused = tuple(_refused(facts))
    breaks = tuple(_breaks(standing, conflicts))
    usage, standbys = _usage(standing), _standbys(standing.window)
    unknown = tuple(_unknown(usage, standbys, parsed, queries))
    level = "none"
    if refused:
        level = "refused"
    elif breaks:
        level = "breaks"
    elif served or any(c.cost_after > c.cost_before * _DEARER for c in changed):
        level = "slower"
    elif unknown:
        level = "unknown"
    return DropForecast(
        level=level,
        refused=refused,
        breaks=breaks,
        plans=changed,
        served_keys=served,
        on_conflict=conflicts,
        constraint=clean_line(facts["constraint_name"]) if facts["constraint_name"] else None,
        referenced_by=tuple(clean_line(n) for n in facts["foreign_key_names"]),
        replica_identity=facts["replica_identity"],
        clustered=facts["clustered"],
        partition_of=clean_line(f"{facts['parent_schema']}.{facts['parent_name']}") if facts["of_partition"] else None,
        usage=usage,
        standbys=standbys,
        rebuild=back,
        unknown=unknown,
    )


def _refused(facts: Row) -> Iterable[str]:
    if facts["constraint_name"]:
        kind = {"p": "primary key", "u": "unique", "x": "exclusion"}.get(facts["constraint_kind"], "")
        yield f"{kind} constraint {clean_line(facts['constraint_name'])} requires it (SQLSTATE 2BP01)"
    if facts["foreign_keys"]:
        names = clean_line(", ".join(facts["foreign_key_names"]))
        many = "a foreign key refers" if facts["foreign_keys"] == 1 else f"{facts['foreign_keys']} foreign keys refer"
        yield f"{many} to it: {names} (SQLSTATE 2BP01)"
    if facts["of_partition"]:
        parent = clean_line(f"{facts['parent_schema']}.{facts['parent_name']}")
        yield f"it is the part of the partitioned index {parent} (SQLSTATE 2BP01)"
    if facts["partitioned"]:
        yield "DROP INDEX CONCURRENTLY does not take a partitioned index, and without it all partitions are locked (0A000)"


def _breaks(standing: Standing, conflicts: Sequence[str]) -> Iterable[str]:
    facts = standing.facts
    if facts["replica_identity"]:
        yield "it is the table's replica identity: the next UPDATE or DELETE of a published table fails (55000)"
    if conflicts:
        many = "1 statement names" if len(conflicts) == 1 else f"{len(conflicts)} statements name"
        yield f"{many} it as arbiter of ON CONFLICT and would fail without it (42P10)"
    if facts["is_unique"] and not facts["constraint_name"] and not any(_as_strict(s, facts) for s in standing.siblings):
        if facts["valid"]:
            yield "it enforces uniqueness: without it duplicates get in, and it cannot be built again over them"
        elif facts["ready"]:
            yield "it is INVALID, yet being UNIQUE it still rejects duplicates: those get in without it"


def _as_strict(other: Row, facts: Row) -> bool:
    """Whether another index rejects every duplicate that this one rejects: unique over some of its columns."""
    if not (other["is_unique"] and other["valid"]) or other["is_partial"] or other["has_expressions"]:
        return False
    return set(other["columns"][: other["key_columns"]]) <= set(facts["columns"][: facts["key_columns"]])


def _scans(plan: Plan) -> set[str]:
    """How a plan gets at its rows: one text a scan."""
    found: set[str] = set()
    for node in nodes(plan):
        kind, name = str(node["Node Type"]), node.get("Index Name")
        if "Relation Name" in node or name is not None:
            where = f" on {node['Relation Name']}" if "Relation Name" in node else ""
            found.add(clean_line(f"{kind}{f' using {name}' if name else ''}{where}"))
    return found


def _plan_changes(queries: Sequence[QueryForecast]) -> Iterable[PlanChange]:
    """The worst by cost first."""
    for q in sorted(queries, key=lambda q: (-(q.cost_after - q.cost_before) * q.calls, q.queryid)):
        now, then = _scans(q.plan_before), _scans(q.plan_after)
        dearer = q.cost_before and abs(q.cost_after / q.cost_before - 1) > _DEARER - 1
        if now != then or dearer:
            gone, new = tuple(sorted(now - then)), tuple(sorted(then - now))
            yield PlanChange(q.queryid, q.query, q.calls, q.cost_before, q.cost_after, gone, new)
        elif q.points:
            worst = max(q.points, key=lambda p: p.cost_after - p.cost_before)
            if worst.cost_before and worst.cost_after / worst.cost_before > _DEARER:
                yield PlanChange(
                    q.queryid, q.query, q.calls, worst.cost_before, worst.cost_after, (), (), constants=worst.label
                )  # fmt: skip


def _leads(row: Row, columns: Sequence[int]) -> bool:
    """Whether an index finds the rows of a foreign key: its leading keys are those columns, in any order."""
    if row["method"] not in ("btree", "hash") or row["key_columns"] < len(columns):
        return False
    return set(row["columns"][: len(columns)]) == set(columns) and 0 not in row["columns"][: len(columns)]


def _served_keys(standing: Standing) -> Iterable[ServedKey]:
    facts = standing.facts
    if facts["is_partial"] or not facts["valid"]:
        return
    for key in standing.keys:
        if not _leads(facts, key["columns"]):
            continue
        if any(_leads(s, key["columns"]) and s["valid"] and not s["is_partial"] for s in standing.siblings):
            continue
        yield ServedKey(
            name=clean_line(key["name"]),
            parent=clean_line(f"{key['parent_schema']}.{key['parent_name']}"),
            on_delete=_DELETE.get(key["on_delete"], "no action"),
            parent_deleted=key["parent_deleted"],
            parent_updated=key["parent_updated"],
        )


def _on_conflict(standing: Standing, snapshot: Snapshot, table: int, parsed: Sequence[Parsed]) -> Iterable[str]:
    """Statements whose ON CONFLICT finds its arbiter in this index and in no other."""
    facts = standing.facts
    if not facts["is_unique"] or not facts["valid"] or not facts["immediate"]:
        return
    names = {c.number: c.name for c in snapshot.relations[table].columns}
    mine = [names.get(n, "") for n in facts["columns"][: facts["key_columns"]]]
    others = [
        {names.get(n, "") for n in s["columns"][: s["key_columns"]]}
        for s in standing.siblings
        if s["is_unique"] and s["valid"] and s["immediate"] and not s["is_partial"] and not s["has_expressions"]
    ]
    for p in parsed:
        if p.kind != "insert" or p.tree is None or p.target is None or snapshot.resolved.get(p.target) != table:
            continue
        clause = p.tree.stmts[0].stmt.insert_stmt.on_conflict_clause
        if clause.infer.conname:
            if clause.infer.conname == facts["constraint_name"]:
                yield clean_line(p.statement.key)
            continue
        elements = [e.index_elem for e in clause.infer.index_elems]
        if not elements or len(elements) != len(mine):
            continue
        wanted = {e.name for e in elements if e.name}
        if facts["has_expressions"]:
            # which expression is meant is the server's to say; as many keys with an expression among them is near enough
            if any(not e.name for e in elements) and wanted == {m for m in mine if m}:
                yield clean_line(p.statement.key)
        elif wanted == set(mine) and wanted not in others:
            yield clean_line(p.statement.key)


def _usage(standing: Standing) -> Usage:
    rows = standing.parts or (standing.facts,)
    counted = [r["scans"] for r in rows if r["scans"] is not None]
    last = [r["last_scan"] for r in rows if isinstance(r["last_scan"], datetime)]
    at, since = standing.window["at"], standing.window["stats_since"]
    window = (at - since).total_seconds() if isinstance(at, datetime) and isinstance(since, datetime) else None
    return Usage(
        scans=sum(counted) if counted else None,
        since=since.isoformat() if isinstance(since, datetime) else None,
        window_s=max(0.0, window) if window is not None else None,
        last_scan=max(last).isoformat() if last else None,
    )


def _standbys(window: Row) -> Standbys:
    if window["in_recovery"]:
        return Standbys("unknown", 0, "this is a standby: scans of the primary and of other standbys are not counted here")
    known = max(window["standbys"], window["slots"])
    if known:
        return Standbys(
            "unknown", known, f"{known} standbys replicate from this server: ask each of them for the scans of this index"
        )
    return Standbys("none_connected", 0, "no standby is connected (one that replays from an archive is not seen from here)")


def _unknown(usage: Usage, standbys: Standbys, parsed: Sequence[Parsed], queries: Sequence[QueryForecast]) -> Iterable[str]:
    if not queries:
        yield "no statement of the workload touches the table, so which plans need the index is not known"
    hidden = sum(1 for p in parsed if HIDDEN in p.statement.sql[:40])
    if hidden:
        yield f"the texts of {hidden} statements are hidden from this role (grant pg_read_all_stats)"
    if usage.scans is None:
        yield "its scans could not be read"
    elif usage.window_s is None:
        yield "since when its scans are counted is not known"
    if standbys.status == "unknown":
        yield standbys.detail

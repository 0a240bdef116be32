"""One change on the shadow: plans before, the change, plans after."""

from __future__ import annotations

import asyncio
import copy
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from indexpilot_tui.engine.postgres.ddl import IndexStatement
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif import covering, effects, index, price, sizes
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.expressions import derive
from indexpilot_tui.engine.whatif.hypothetical import resize
from indexpilot_tui.engine.whatif.made import MadeIndex
from indexpilot_tui.engine.whatif.model import IndexForecast, PricePoint
from indexpilot_tui.engine.whatif.plan import (
    Planned,
    indexes_used,
    plans_after,
    plans_before,
    set_path,
    skips_leading,
)
from indexpilot_tui.engine.whatif.rates import Rates
from indexpilot_tui.engine.whatif.shape import mean_key_width, shape_of
from indexpilot_tui.engine.whatif.sizing import index_image, point, write_file
from indexpilot_tui.engine.whatif.statements import Parsed
from indexpilot_tui.errors import UsageError

SKIP_SCAN_VERSION = 180000  # B-tree skip scan came with PostgreSQL 18


@dataclass(slots=True)
class Outcome:
    """What a change does. `users` are the keys of the statements whose plan uses the index (create, reindex: after it;
    drop: before it). `doubts` are (level, reason)."""

    name: str
    before: dict[str, Planned]
    after: dict[str, Planned] = field(default_factory=dict)
    users: set[str] = field(default_factory=set)
    points: dict[str, tuple[PricePoint, ...]] = field(default_factory=dict)
    index: IndexForecast = field(default_factory=lambda: IndexForecast(0, (0.0, 0.0), 0, 0))
    hot: tuple[float | None, str] = (0.0, "none are lost")
    wal_per_write: float | None = None
    redundant: list[str] = field(default_factory=list)
    covered: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    doubts: list[tuple[str, str]] = field(default_factory=list)


def shadow_ddl(change: IndexStatement, schema: str, table: str) -> sql.Composed:
    """The change for the shadow: its table by name, never CONCURRENTLY (nobody waits there)."""
    import postgast
    from postgast import pg_query_pb2 as pb

    node = copy.deepcopy(change.tree)
    node.index_stmt.relation.schemaname, node.index_stmt.relation.relname = schema, table
    node.index_stmt.concurrent = False
    node.index_stmt.ClearField("table_space")
    tree = pb.ParseResult()
    tree.stmts.add().stmt.CopyFrom(node)
    return sql.Composed([sql.SQL(postgast.deparse(tree))])


async def forecast_create(
    shadow: ShadowDatabase, change: IndexStatement, table: int, parsed: Sequence[Parsed], touching: set[str],
    observed: Mapping[str, Sequence[Mapping[int, str]]] | None = None, rates: Rates | None = None,
) -> Outcome:  # fmt: skip
    """Forecast a CREATE INDEX. `observed` are constants that run now, by statement.

    Raises UsageError for what the server would refuse as well.
    """
    snapshot = shadow.snapshot
    relation = snapshot.relations.get(table)
    if relation is None:
        raise UsageError(
            "no index can be made on this: it is an index, or a system catalog", field="DDL",
            value=clean_line(".".join(x for x in (change.table_schema, change.table) if x)),
            remedy="name a table of the application",
        )  # fmt: skip
    if snapshot.table(table) is None or table not in shadow.oids:
        what = {"v": "a view", "f": "a foreign table"}.get(relation.kind, "not a table that the shadow could take over")
        raise UsageError(f"{clean_line(relation.qualified)} is {what}", field="DDL", remedy="name a table")
    before = await plans_before(shadow, parsed)
    tables = [shadow.oids[o] for o in _family(shadow, table)]
    await set_path(shadow, tuple(dict.fromkeys([*snapshot.server.search_path, relation.schema])))
    try:
        made = await index.create(shadow, shadow_ddl(change, relation.schema, relation.name), tables)
    except psycopg.errors.OperationalError:
        raise
    except psycopg.Error as exc:
        raise UsageError(
            f"the index cannot be made: {clean_line(exc.diag.message_primary or str(exc), 300)}", field="DDL",
            value=clean_line(change.text, 200),
            remedy="check names and types",
        ) from exc  # fmt: skip
    try:
        root = next((m for m in made if m.table_oid == shadow.oids[table]), made[0])
        outcome = Outcome(root.name, before)
        await _size_new(shadow, made, table, outcome, rates or Rates())
        outcome.after = await plans_after(shadow, parsed, before, touching)
        names = {m.name for m in made}
        outcome.users = {k for k, p in outcome.after.items() if p.plan and indexes_used(p.plan) & names}
        chosen = price.chosen(shadow, parsed, outcome.after, observed, made)
        after = await price.plans(shadow, chosen)
        outcome.points = await price.compared(
            shadow, chosen, after, names, hide=lambda: index.switch(shadow, [m.oid for m in made], on=False),
            show=lambda: index.switch(shadow, [m.oid for m in made], on=True),
        )  # fmt: skip
        _tell_points(outcome)
        found, notes = await effects.redundant(shadow, root)
        outcome.covered = await covering.covered_by(shadow, root)
        outcome.redundant, outcome.notes = found, [*outcome.notes, *notes]
        _note_skip_scans(shadow, made, outcome)
        columns = await effects.blocking_columns(shadow, shadow.oids[table], snapshot.server.version)
        outcome.hot = effects.hot_lost(snapshot, relation, columns, {m.oid for m in made}, parsed)
    finally:
        await index.drop(shadow, made)
    return outcome


def _note_skip_scans(shadow: ShadowDatabase, made: Sequence[MadeIndex], outcome: Outcome) -> None:
    """The shadow's planner can skip-scan; one before 18 cannot."""
    version = shadow.snapshot.server.version
    leading = {
        m.name: m.attributes[0].expression for m in made if m.method == "btree" and m.key_columns > 1 and m.attributes
    }
    keys = [k for k, p in outcome.after.items() if p.plan and skips_leading(p.plan, leading)]
    if version < SKIP_SCAN_VERSION <= shadow.cluster.version and keys:
        outcome.doubts.append((
            "low",
            f"statements {clean_line(', '.join(keys[:5]))} search the index without its first column: PostgreSQL 18 skips "
            f"in it, the target's {version // 10000} reads all of it, so their cost after is too low",
        ))  # fmt: skip


def _family(shadow: ShadowDatabase, table: int) -> list[int]:
    """A table with its partitions at every level (target OIDs)."""
    return [table, *(o for c in shadow.snapshot.partitions(table) for o in _family(shadow, c))]


async def _size_new(shadow: ShadowDatabase, made: Sequence[MadeIndex], table: int, outcome: Outcome, rates: Rates) -> None:
    """Give the new index, or each part of it, the size that the model forecasts."""
    snapshot = shadow.snapshot
    total, wal, temp, volume = 0, 0.0, 0, 0
    low = high = 0.0
    parts = await resize(shadow, made)
    outcome.notes += dict.fromkeys(clean_line(n) for p in parts for n in p.notes)
    reasons = Counter(r for p in parts for r in p.reasons)
    outcome.doubts += [("medium", r if len(parts) == 1 else f"{r} ({n} of {len(parts)} parts)") for r, n in reasons.items()]
    if parts:
        largest = max(parts, key=lambda p: p.size.pages)
        of = f"; of the largest of {len(parts)} parts" if len(parts) > 1 else ""
        rough = any(p.size.rough and p.shape.rows > 0 for p in parts)
        basis = f"index size is modelled, not measured ({largest.size.basis}{of})"
        outcome.doubts.append(("medium" if rough else "high", basis))
    for part in parts:
        seconds = rates.seconds(part.shape, part.size.size_bytes)
        total, low, high = total + part.size.size_bytes, low + seconds[0], high + seconds[1]
        temp = max(temp, rates.temp_bytes(part.shape, part.size.size_bytes, snapshot.server.maintenance_work_mem))
        volume += rates.wal_bytes(part.shape.method, part.size.size_bytes)
        wal = max(wal, sizes.wal_per_insert(part.shape))
    logged = snapshot.relations[table].persistence != "u"
    span = (round(low, 2), round(high, 2))
    outcome.index = IndexForecast(total, span, volume if logged else 0, temp, rates.basis)
    outcome.wal_per_write = wal if logged else 0.0
    if not logged:
        outcome.notes.append("the table is unlogged, so neither the build nor a write of the index makes WAL")
    if shadow.snapshot.relations[table].kind == "p":
        outcome.notes.append("the table is partitioned: the change builds one index a partition and joins them at the end")


def _tell_points(outcome: Outcome) -> None:
    """Where a constant matters: the generic plan leaves the index alone, and another does not."""
    for key, found in outcome.points.items():
        if key not in outcome.users:
            outcome.notes += [
                f"statement {clean_line(key)} uses the index for {x.label}: cost {x.cost_before:,.0f} -> "
                f"{x.cost_after:,.0f}; the generic plan does not"
                for x in found
                if x.uses_index
            ]
    if any(x.uses_index != (key in outcome.users) for key, found in outcome.points.items() for x in found):
        outcome.doubts.append(("medium", "whether the index is used depends on the constants; see the price points"))


async def _with(
    shadow: ShadowDatabase, parsed: Sequence[Parsed], touching: set[str], before: dict[str, Planned],
    do: Callable[[], Awaitable[None]], undo: Callable[[], Awaitable[None]],
) -> dict[str, Planned]:  # fmt: skip
    try:
        await do()
        return await plans_after(shadow, parsed, before, touching)
    finally:
        await undo()


def _parts(shadow: ShadowDatabase, oid: int) -> list[int]:
    """An index with the parts of a partitioned one (target OIDs)."""
    children = [i.oid for i in shadow.snapshot.indexes.values() if i.parent == oid]
    return [oid, *(o for c in children for o in _parts(shadow, c))]


async def forecast_drop(
    shadow: ShadowDatabase, oid: int, parsed: Sequence[Parsed], touching: set[str],
    observed: Mapping[str, Sequence[Mapping[int, str]]] | None = None,
) -> Outcome:  # fmt: skip
    """Forecast a DROP INDEX: the plans without it, and the space that comes back (as `index.size_bytes`)."""
    snapshot = shadow.snapshot
    entry = snapshot.indexes[oid]
    before = await plans_before(shadow, parsed)
    parts = [p for p in _parts(shadow, oid) if p in shadow.oids]
    hidden = [shadow.oids[p] for p in parts]
    outcome = Outcome(f"{entry.schema}.{entry.name}", before)
    names = {snapshot.indexes[p].name for p in parts}
    outcome.users = {k for k, p in before.items() if p.plan and indexes_used(p.plan) & names}
    await index.switch(shadow, hidden, on=False)
    try:
        outcome.after = await plans_after(shadow, parsed, before, touching)
        chosen = price.chosen(shadow, parsed, outcome.after, observed, ())
        after = await price.plans(shadow, chosen)
    finally:
        await index.switch(shadow, hidden, on=True)
    outcome.points = await price.compared(shadow, chosen, after, names)
    _tell_points(outcome)
    size = sum(snapshot.sizes[p].pages for p in parts if p in snapshot.sizes) * sizes.PAGE
    outcome.index = IndexForecast(size, (0.0, 0.1), 0, 0)
    outcome.notes.append(f"{size / 1e6:,.1f} MB of index come back (size of now, measured)")
    outcome.hot = (0.0, "a drop loses none")
    return outcome


async def forecast_invalid(shadow: ShadowDatabase, name: str, parsed: Sequence[Parsed]) -> Outcome:
    """Forecast a DROP of an INVALID index: no plan uses it, so all stay as they are."""
    before = await plans_before(shadow, parsed)
    outcome = Outcome(name, before, after=dict(before))
    outcome.hot = (0.0, "a drop loses none")
    return outcome


async def forecast_reindex(
    shadow: ShadowDatabase, oid: int, table: int, parsed: Sequence[Parsed], touching: set[str], rates: Rates | None = None
) -> Outcome:
    """Forecast a REINDEX INDEX: the index at the size that it would have after a fresh build."""
    snapshot = shadow.snapshot
    entry = snapshot.indexes[oid]
    if entry.partitioned:
        raise UsageError("this is a partitioned index", field="DDL", remedy="name the index of one partition")
    before = await plans_before(shadow, parsed)
    shadow_oid, old = shadow.oids[oid], snapshot.sizes[oid]
    made = next(m for m in await index.describe(shadow, [shadow.oids[entry.table_oid]]) if m.oid == shadow_oid)
    derived, _notes = await derive(shadow, made, snapshot.relations[table])
    shape, reasons = await shape_of(shadow, made, table, derived)
    size = sizes.estimate(shape)
    pages = min(size.pages, old.pages) if old.pages > 1 else size.pages
    outcome = Outcome(f"{entry.schema}.{entry.name}", before)
    built = shadow.empty_files[shadow_oid]

    async def resize(to: int, relpages: int, tuples: float) -> None:
        image = index_image(shadow, entry.method, built, to, mean_key_width(shape), shape.heap_pages)
        file = await asyncio.to_thread(write_file, shadow, image, to)
        await point(shadow, [(shadow_oid, file, relpages, tuples, 0)])

    outcome.after = await _with(
        shadow, parsed, touching, before,
        lambda: resize(pages, pages, shape.rows), lambda: resize(old.pages, old.relpages, old.reltuples),
    )  # fmt: skip
    outcome.users = {k for k, p in outcome.after.items() if p.plan and entry.name in indexes_used(p.plan)}
    size_bytes = pages * sizes.PAGE
    rates = rates or Rates()
    outcome.index = IndexForecast(
        size_bytes, rates.seconds(shape, size_bytes), rates.wal_bytes(shape.method, size_bytes),
        rates.temp_bytes(shape, size_bytes, snapshot.server.maintenance_work_mem), rates.basis,
    )  # fmt: skip
    outcome.doubts += [("medium", r) for r in reasons]
    outcome.doubts.append(("medium" if size.rough else "high", f"new size is modelled, not measured ({size.basis})"))
    outcome.notes.append(f"size now {old.pages * sizes.PAGE / 1e6:,.1f} MB, after {size_bytes / 1e6:,.1f} MB")
    outcome.hot = (0.0, "a rebuild loses none")
    return outcome

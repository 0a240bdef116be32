"""The second backend: HypoPG on the target itself, where it is installed. Its index is in the memory of a session of ours.

It plans with the target's own planner and knows its functions and types, but it sends EXPLAIN to the target (which takes an
AccessShareLock on each table while it plans), needs SELECT on the tables, knows no GIN, GiST or SP-GiST, and its sizes take
no account of deduplication: two to twelve times too large (measured, tests.bench.sizes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.postgres.ddl import IndexStatement
from indexpilot_tui.engine.postgres.planner import explain, planning_session, qualified
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif import sizes
from indexpilot_tui.engine.whatif.change import Outcome, shadow_ddl
from indexpilot_tui.engine.whatif.model import IndexForecast
from indexpilot_tui.engine.whatif.plan import Planned, indexes_used
from indexpilot_tui.engine.whatif.read import Reader
from indexpilot_tui.engine.whatif.snapshot import Snapshot
from indexpilot_tui.engine.whatif.statements import Parsed, substituted
from indexpilot_tui.errors import IndexPilotError, NotInstalledError, UsageError

DOUBT = "HypoPG takes no account of deduplication: its size is 2 to 12 times too large where keys repeat, and costs with it"


async def schema_of(reader: Reader) -> str:
    """The schema of HypoPG on the target. Raises NotInstalledError when it is not there or not for this role."""
    if not reader.session.facts.direct:
        raise NotInstalledError(
            "HypoPG keeps its indexes in one server session, and this connection goes through a pooler", field="backend",
            remedy="connect directly, or use the shadow",
        )  # fmt: skip
    rows = await reader.ask("hypopg")
    if not rows or not rows[0]["usable"]:
        raise NotInstalledError(
            "HypoPG is not installed on the target, or its schema is not for this role", field="backend", value="hypopg",
            remedy="CREATE EXTENSION hypopg, or use the shadow",
        )  # fmt: skip
    return str(rows[0]["schema"])


async def forecast(
    reader: Reader, snapshot: Snapshot, change: IndexStatement, table: int, parsed: Sequence[Parsed], touching: set[str]
) -> Outcome:
    """Forecast a CREATE INDEX on the target's own planner.

    Raises NotInstalledError, UsageError (not a CREATE INDEX, or one that HypoPG cannot do), and what Session.rows raises.
    """
    schema = await schema_of(reader)
    if change.kind != "create":
        raise UsageError(
            "HypoPG forecasts CREATE INDEX only", field="backend", value="hypopg", remedy="use the shadow",
        )  # fmt: skip
    target, settings = reader.session.target, reader.session.settings
    if target is None or settings is None:
        raise NotInstalledError("HypoPG plans on a session of its own, and where to open it is not known", field="backend")
    path = _path(snapshot, parsed)
    async with planning_session(target, settings) as planner:
        return await _forecast(Reader(planner), snapshot, change, table, parsed, touching, schema, path)


def _path(snapshot: Snapshot, parsed: Sequence[Parsed]) -> list[str]:
    """The target's own search_path, then the schemas in which unqualified names were found."""
    found = [snapshot.resolved.get(n) for p in parsed for n in p.tables if not n[0]]
    schemas = [*snapshot.server.search_path, *(snapshot.relations[o].schema for o in found if o in snapshot.relations)]
    return list(dict.fromkeys(schemas))


async def _forecast(
    reader: Reader, snapshot: Snapshot, change: IndexStatement, table: int, parsed: Sequence[Parsed], touching: set[str],
    schema: str, path: list[str],
) -> Outcome:  # fmt: skip
    relation = snapshot.relations[table]
    before = {p.statement.key: await _plan(reader, p, path) for p in parsed}
    text = shadow_ddl(change, relation.schema, relation.name).as_string(None)
    try:
        rows = await _call(reader, schema, "select indexrelid::int8 as oid, indexname::text as name from {}(%(ddl)s)",
                           "hypopg_create_index", {"ddl": text})  # fmt: skip
    except IndexPilotError as exc:
        if reader.session.closed:
            raise
        raise UsageError(f"HypoPG cannot do this: {clean_line(exc.message, 300)}", field="DDL",
                         value=clean_line(change.text, 200), remedy="use the shadow") from exc  # fmt: skip
    outcome = Outcome(rows[0]["name"], before)
    after = {p.statement.key: p for p in parsed if p.statement.key in touching}
    outcome.after = {k: await _plan(reader, p, path) for k, p in after.items() if before[k].plan is not None}
    size = await _call(reader, schema, "select {}(%(oid)s::pg_catalog.oid)::int8 as size", "hypopg_relation_size",
                       {"oid": rows[0]["oid"]})  # fmt: skip
    outcome.users = {k for k, p in outcome.after.items() if p.plan and outcome.name in indexes_used(p.plan)}
    outcome.index = _index(snapshot, table, change.method, int(size[0]["size"]))
    outcome.hot = (None, "not forecast by HypoPG")
    outcome.doubts.append(("medium", DOUBT))
    return outcome


async def _call(
    reader: Reader, schema: str, text: str, function: str, params: dict[str, Any] | None
) -> list[dict[str, Any]]:
    query = sql.SQL(text).format(sql.Identifier(schema, function))
    return await reader.send(query, params)


def _index(snapshot: Snapshot, table: int, method: str, size: int) -> IndexForecast:
    heap = sum(snapshot.sizes[m].pages for m in snapshot.members(table) if m in snapshot.sizes)
    shape = sizes.IndexShape(method, snapshot.rows(table), (sizes.KeyColumn(8, False, 8, 0.0, 0.0),), heap_pages=heap)
    temp = sizes.temp_bytes(shape, snapshot.server.maintenance_work_mem)
    return IndexForecast(size, sizes.build_seconds(shape, size, heap), sizes.wal_bytes(size), temp)


async def _plan(reader: Reader, parsed: Parsed, path: list[str]) -> Planned:
    """EXPLAIN without execution on the target; what it refuses is a reason."""
    if parsed.refused:
        return Planned(None, parsed.refused)
    try:
        tree = await qualified(reader.session, parsed.tree, path)
        plan = await explain(reader.session, substituted(tree, {}), generic=parsed.parameters > 0)
        return Planned(plan, "", parsed.sql)
    except IndexPilotError as exc:
        if reader.session.closed:
            raise
        return Planned(None, clean_line(exc.message, 200))


def difference(ours: Outcome, theirs: Outcome) -> str:
    """What HypoPG on the target says beside the shadow, in one sentence (clean)."""
    pairs = [
        (key, ours.after.get(key, mine).cost, theirs.after.get(key, other).cost, mine.cost, other.cost)
        for key, mine in ours.before.items()
        if mine.plan and (other := theirs.before.get(key)) is not None and other.plan
    ]
    if not pairs:
        return "cross-check: HypoPG planned none of the statements"
    off = [(abs(a / b - 1) if b else 0.0, abs(c / d - 1) if d else 0.0, key) for key, a, b, c, d in pairs]
    worst = max(off)
    users = sum((key in ours.users) != (key in theirs.users) for key, *_ in pairs)
    return clean_line(
        f"cross-check: HypoPG on the target planned {len(pairs)} statements; costs before differ by at most "
        f"{100 * max(x[1] for x in off):.2f} %, after by at most {100 * worst[0]:.2f} % (statement {worst[2]}); "
        f"{users} differ in whether the index is used"
    )

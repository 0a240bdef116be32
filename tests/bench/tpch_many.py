"""TPC-H with fourteen further indexes of every access method that do not exist yet: planned on the shadow, then built.

    python -m tests.bench.tpch_many [--scale 0.2] [--bindir DIR] [--embedded]

The 22 queries are priced on the shadow as the target is (base), with the indexes at the sizes that the model forecasts
(model), and with them at their true sizes, a GIN index's counts of entries and pages included (true), each against the server's own EXPLAIN with the real indexes. Without
--bindir the target is the embedded PostgreSQL 18; --embedded plans an older target with 18 all the same.
Exit status 1 when base or true deviates by more than 0.1 % anywhere, or model by more than 2 % without a named cause, on a
target whose own major is at hand.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.engine.whatif import index
from indexpilot_tui.engine.whatif.hypothetical import Given, Known, resize
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.plan import indexes_used, nodes, plans_before
from indexpilot_tui.engine.whatif.read import read_snapshot
from indexpilot_tui.engine.whatif.shadow import ShadowServer
from indexpilot_tui.engine.whatif.sizing import apply
from indexpilot_tui.engine.whatif.statements import parse
from indexpilot_tui.settings.model import Settings, Target
from tests.bench.tpch_server import queries, tpch_server

INDEXES = (
    "create index m01 on lineitem (l_partkey)", "create index m02 on lineitem (l_shipdate) include (l_discount, l_quantity)",
    "create index m03 on lineitem (l_suppkey, l_partkey)", "create index m04 on orders (o_custkey, o_orderdate desc)",
    "create index m05 on lineitem using hash (l_orderkey)", "create index m06 on lineitem using brin (l_shipdate)",
    "create index m07 on part using gin (p_name gin_trgm_ops)", "create index m08 on part (p_brand, p_container, p_size)",
    "create index m09 on supplier using gist (s_comment gist_trgm_ops)",
    "create index m10 on customer using spgist (c_address)",
    "create index m11 on lineitem (l_orderkey) where l_receiptdate > l_commitdate",
    "create unique index m12 on partsupp (ps_suppkey, ps_partkey) include (ps_supplycost)",
    "create index m13 on part (lower(p_mfgr))", "create index m14 on customer (c_mktsegment, c_custkey)",
    "create index m15 on part (p_type text_pattern_ops)", 'create index m16 on orders (o_orderpriority collate "C")',
    "create index m17 on orders (o_orderdate) where o_orderstatus = 'F'",
)  # fmt: skip
GUESSED = "m11"


@dataclass(frozen=True)
class Compared:
    """Costs of the server and of the shadow by query, and whether the plans have the same nodes."""

    what: str
    server: Mapping[str, dict[str, Any]]
    shadow: Mapping[str, dict[str, Any]]

    def error(self, key: str) -> float:
        return float(self.shadow[key]["Total Cost"] / self.server[key]["Total Cost"] - 1)

    @property
    def worst(self) -> float:
        return max(abs(self.error(k)) for k in self.server)

    def same_plan(self, key: str) -> bool:
        named = ("Node Type", "Join Type", "Index Name")
        kinds = [[tuple(n.get(x) for x in named) for n in nodes(p[key])] for p in (self.server, self.shadow)]
        return kinds[0] == kinds[1]

    def cause(self, key: str) -> str:
        """Why a query deviates; '' when there is no known cause."""
        if any(n.get("Index Name") == GUESSED for p in (self.server, self.shadow) for n in nodes(p[key])):
            return f"{GUESSED} compares columns in its predicate: its share of the rows is a guess, as the forecast says"
        return "" if self.same_plan(key) else "planned otherwise"

    @property
    def worst_unnamed(self) -> float:
        return max((abs(self.error(k)) for k in self.server if not self.cause(k)), default=0.0)

    def show(self) -> str:
        errors = sorted(abs(self.error(k)) for k in self.server)
        lines = [f"{self.what}: median {errors[len(errors) // 2]:.4%}, worst {self.worst:.4%}, within 0.1 %: "
                 f"{sum(e <= 0.001 for e in errors)}, within 2 %: {sum(e <= 0.02 for e in errors)} of {len(errors)}"]  # fmt: skip
        lines += [
            f"  q{k}: server {self.server[k]['Total Cost']:,.2f} shadow {self.shadow[k]['Total Cost']:,.2f} "
            f"{self.error(k):+.3%} {self.cause(k)}"
            for k in self.server if abs(self.error(k)) > 0.001
        ]  # fmt: skip
        return "\n".join(lines)


def _plans(conn: psycopg.Connection[Any]) -> dict[str, dict[str, Any]]:
    found = {}
    for key, query in queries().items():
        row = conn.execute(b"explain (format json) " + query.encode()).fetchone()
        assert row is not None
        found[key] = row[0][0]["Plan"]
    return found


async def measure(conninfo: str, *, own_major: bool = True, indexes: tuple[str, ...] = INDEXES) -> list[Compared]:
    """The three comparisons; the indexes are dropped again."""
    parsed = [parse(Statement(k, q, 1.0)) for k, q in queries().items()]
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("create extension if not exists pg_trgm")
        base = _plans(conn)
        session = await connect(Target(name="t", environment="development", dsn=conninfo), Purpose.MONITOR, Settings())
        snapshot = await read_snapshot(session, {n for p in parsed for n in p.tables})
        for ddl in indexes:
            conn.execute(ddl.encode())
        real = _plans(conn)
        rows = conn.execute("select relname, pg_relation_size(oid) / 8192, reltuples from pg_class where relname ~ '^m..$'")
        sizes = {name: Known(int(pages), float(tuples)) for name, pages, tuples in rows}
        for name in [x.split()[2] for x in indexes if " using gin " in x]:
            conn.execute("create extension if not exists pageinspect")
            meta = conn.execute(
                "select n_entry_pages, n_entries from gin_metapage_info(get_raw_page(%s, 0))", (name,)
            ).fetchone()
            assert meta is not None
            sizes[name] = replace(sizes[name], entries=meta[1], entry_pages=meta[0])
        for name in sizes:
            conn.execute(f"drop index {name}".encode())
    await session.close()
    server = ShadowServer(own_major=own_major)
    try:
        shadow = await server.database(snapshot)
        await apply(shadow, snapshot)

        async def plans(given: Given | None) -> dict[str, dict[str, Any]]:
            made = []
            for ddl in indexes:
                table = snapshot.resolved["", ddl.split(" on ")[1].split()[0]]
                assert table is not None
                await shadow.plain.execute("set search_path = public")
                statement = sql.Composed([sql.SQL(ddl)])  # type: ignore[arg-type]
                made += await index.create(shadow, statement, [shadow.oids[table]])
            await resize(shadow, made, given)
            shadow.plans.clear()
            found = await plans_before(shadow, parsed)
            await index.drop(shadow, made)
            shadow.plans.clear()
            return {k: p.plan for k, p in found.items() if p.plan is not None}

        shadow.search_path = ("public",)
        before = {k: p.plan for k, p in (await plans_before(shadow, parsed)).items() if p.plan is not None}
        return [
            Compared("base", base, before),
            Compared(f"{len(indexes)} further indexes, sizes of the model", real, await plans(None)),
            Compared(f"{len(indexes)} further indexes, true sizes", real, await plans(lambda m: sizes[m.name])),
        ]
    finally:
        await server.close()


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.2)
    parser.add_argument("--bindir", type=Path, default=None)
    parser.add_argument("--embedded", action="store_true")
    args = parser.parse_args()
    async with tpch_server(args.scale, args.bindir) as (cluster, _target):
        start = time.perf_counter()
        found = await measure(cluster.conninfo("tpch"), own_major=not args.embedded)
    for x in found:
        print(x.show())
    used = {n for p in found[1].shadow.values() for n in indexes_used(p) if n.startswith("m")}
    print(f"further indexes in plans: {', '.join(sorted(used))}; {time.perf_counter() - start:.1f} s")
    base, model, true = found
    return 0 if args.embedded or (base.worst <= 0.001 and model.worst_unnamed <= 0.02 and true.worst <= 0.001) else 1


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))

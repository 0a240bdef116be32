"""How right are the forecast sizes? Indexes over skewed, duplicated, sparse, wide and correlated keys, then the real ones.

    python -m tests.bench.sizes [--rows 300000] [--tpch 0.2] [--bindir /usr/lib/postgresql/15/bin]

For each index: the forecast's size, the real one's right after CREATE INDEX, their ratio, and HypoPG's where the server has
it. Exit status 1 when a B-tree, hash or BRIN index is off by more than 1.3 times, or any other by more than 2.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.simulate import Simulator
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target
from tests.bench.tpch_server import DEBIAN_15, load, queries

WITHIN = 1.3
WITHIN_ROUGH = 2.0  # GIN, GiST and SP-GiST: what their keys share is in no statistic
ROUGH = ("gin", "gist", "spgist")

# Zipf by inversion; a hash of the row number in place of random(), so that every run sees the same data.
DATA = """
create extension if not exists pg_trgm;
create function public.h(g int, salt text) returns float8 immutable language sql as
  $$ select abs(hashtextextended(g::text || salt, 7)::float8) / 9223372036854775807.0 $$;
create table keys as
  select g as id, (h(g, 'a') * 40)::int as tenant, exp(h(g, 'b') * ln(20000))::int as zipf,
         exp(h(g, 'b2') * ln({rows}))::int as zipf_long, (h(g, 'c') * {rows} / 3)::int as thrice,
         case when h(g, 'd') < 0.03 then g end as sparse, case when h(g, 'd2') < 0.5 then (h(g, 'e') * 900)::int end as half,
         md5(h(g, 'f')::text)::uuid as token, h(g, 'g') < 0.02 as flag,
         timestamptz '2024-01-01' + g * interval '37 s' as made,
         timestamptz '2024-01-01' + g * interval '37 s' + (h(g, 'i') * 20)::int * interval '1 day' as done,
         date '2024-01-01' + (h(g, 'j') * 400)::int as day, (h(g, 'k') * 1e9)::bigint as big,
         (h(g, 'l') * 500)::numeric(10,2) as price, h(g, 'm') as ratio,
         repeat(md5(g::text), 1 + (h(g, 'n') * 12)::int) as wide,
         'user' || (h(g, 'o') * {rows})::int || '@example.org' as mail,
         repeat('x', (h(g, 'p') * h(g, 'p2') * 60)::int) || (h(g, 'q') * 5000)::int as note,
         (array['new', 'paid', 'packed', 'shipped', 'done'])[1 + (4.99 * h(g, 'r') ^ 0.2)::int] as status
    from generate_series(1, {rows}) g;
alter table keys add primary key (id);
alter table keys add country text, add city int, add zip int, add category smallint;
update keys set city = thrice % 1500, zip = (thrice % 1500) * 7 + id % 7, country = 'country' || thrice % 30,
                category = zipf % 12;
create statistics keys_place (ndistinct) on city, zip, country from keys;
create table refs as select g as id, 1 + (h(g, 's') * 2000)::int as left_id, 1 + (h(g, 't') * 2000)::int as right_id
  from generate_series(1, {rows} / 8) g;
create table docs as
  select g as id, jsonb_build_object('user', (h(g, 'u') * 3000)::int, 'kind', 'k' || (h(g, 'v') * 20)::int, 'n', g) as doc,
         array['t' || (h(g, 'w') * 50)::int, 't' || (h(g, 'x') * 400)::int, 'u' || (h(g, 'y') * 7)::int] as tags,
         int4range((h(g, 'z') * 1e6)::int, (h(g, 'z') * 1e6)::int + 50) as span,
         point(h(g, 'A') * 100, h(g, 'B') * 100) as at,
         'some ' || md5((h(g, 'C') * 4000)::int::text) || ' words ' || (h(g, 'D') * 900)::int as body,
         to_tsvector('simple', 'w' || (h(g, 'E') * 5000)::int || ' x' || (h(g, 'F') * 90)::int || ' y' || g % 7) as words
    from generate_series(1, {rows} / 6) g;
drop function public.h;
"""
KEYS = (
    "keys (tenant)", "keys (zipf)", "keys (zipf_long)", "keys (thrice)", "keys (sparse)", "keys (half)", "keys (token)",
    "keys (flag)", "keys (made)", "keys (day)", "keys (big)", "keys (price)", "keys (ratio)", "keys (wide)", "keys (mail)",
    "keys (note)", "keys (status)", "keys (country)", "keys (lower(mail))", "keys (upper(status))",
    "keys (((made at time zone 'UTC')::date))",
    "keys (tenant, made)", "keys (tenant, day)", "keys (zipf, day)", "keys (status, tenant)", "keys (half, thrice)",
    "keys (city, zip)", "keys (country, city, zip)", "keys (made, done)", "keys (flag, status, category)",
    "keys (country, mail)", "keys (tenant) include (price, day)", "keys (made) where status = 'done'",
    "keys (tenant, id)", "keys (id) where status = 'new'", "keys (zipf) where sparse is not null",
    "keys (tenant) where flag", "keys (day) with (fillfactor = 70)", "keys (zipf) with (deduplicate_items = off)",
    "keys (wide text_pattern_ops)", "keys using hash (thrice)", "keys using hash (token)",
    "keys using hash (status)", "keys using hash (half)", "keys using hash (zipf)", "keys using hash (flag)",
    "keys using hash (sparse)", "keys using hash (zipf) where sparse is not null",
    "keys using brin (made)",
    "keys using brin (made, day) with (pages_per_range = 16)", "refs (left_id, right_id)", "refs (right_id)",
    "docs using gin (doc)", "docs using gin (doc jsonb_path_ops)", "docs using gin (tags)", "docs using gin (words)",
    "docs using gin (body gin_trgm_ops)", "docs using gist (span)", "docs using gist (at)", "docs using spgist (at)",
    "docs using spgist (body)", "docs using spgist (span)",
)  # fmt: skip
TPCH = (
    "lineitem (l_partkey)", "lineitem (l_suppkey)", "lineitem (l_shipdate)", "lineitem (l_suppkey, l_partkey)",
    "lineitem (l_comment)", "lineitem (l_extendedprice)", "lineitem (l_shipmode)", "lineitem (l_returnflag, l_linestatus)",
    "lineitem (l_orderkey) include (l_quantity)", "lineitem (l_shipdate, l_discount)",
    "lineitem (l_receiptdate, l_commitdate)", "lineitem (l_shipdate, l_receiptdate, l_commitdate)",
    "lineitem (l_partkey, l_shipdate)", "lineitem (l_orderkey, l_suppkey)", "lineitem using hash (l_partkey)",
    "lineitem using brin (l_shipdate)", "orders (o_custkey)", "orders (o_custkey, o_orderdate)", "orders (o_comment)",
    "orders (o_clerk)", "orders (o_totalprice)", "orders (o_orderpriority, o_orderdate)", "orders (lower(o_comment))",
    "partsupp (ps_suppkey)", "partsupp (ps_supplycost)", "customer (c_nationkey, c_acctbal)", "customer (c_mktsegment)",
    "part (p_brand, p_container)", "part (p_type)", "part (p_name)", "lineitem (l_shipdate) where l_quantity < 10",
)  # fmt: skip


@dataclass(frozen=True)
class Sized:
    index: str
    forecast: int
    real: int
    hypopg: int | None

    @property
    def ratio(self) -> float:
        return self.forecast / self.real

    @property
    def good(self) -> bool:
        limit = WITHIN_ROUGH if any(f"using {m} " in self.index for m in ROUGH) else WITHIN
        return 1 / limit <= self.ratio <= limit


def _hypopg(conn: psycopg.Connection[Any], ddl: str) -> int | None:
    if not conn.execute("select 1 from pg_extension where extname = 'hypopg'").fetchone():
        return None
    try:
        row = conn.execute("select hypopg_relation_size(indexrelid) from hypopg_create_index(%s)", (ddl,)).fetchone()
        return int(row[0]) if row else None
    except psycopg.Error:
        return None  # an access method or an expression that HypoPG does not know
    finally:
        conn.execute("select hypopg_reset()")


def _real(conn: psycopg.Connection[Any], ddl: str) -> int:
    conn.execute(ddl.replace("index on", "index sized on").encode())
    row = conn.execute("select pg_relation_size(oid) from pg_class where relname = 'sized'").fetchone()
    conn.execute("drop index sized")
    assert row is not None
    return int(row[0])


async def measure(conninfo: str, indexes: Iterable[str], workload: Sequence[Statement] = ()) -> list[Sized]:
    """Forecast each index (with the tables of `workload` in view), build it, drop it again."""
    found: list[Sized] = []
    session = await connect(Target(name="sizes", environment="development", dsn=conninfo), Purpose.MONITOR, Settings())
    simulator = Simulator()
    try:
        with psycopg.connect(conninfo, autocommit=True) as conn:
            for index in indexes:
                ddl = f"create index on {index}"
                forecast = await simulator.simulate(session, ddl, workload)
                found.append(Sized(index, forecast.index.size_bytes, _real(conn, ddl), _hypopg(conn, ddl)))
    finally:
        await simulator.close()
        await session.close()
    return found


def fill(conninfo: str, rows: int) -> None:
    """The synthetic tables, vacuumed and analyzed."""
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute(sql.SQL(DATA.replace("{rows}", str(rows))))  # type: ignore[arg-type]
        conn.execute("vacuum (full, analyze)")
        if conn.execute("select 1 from pg_available_extensions where name = 'hypopg'").fetchone():
            conn.execute("create extension hypopg")


def show(found: list[Sized]) -> str:
    """The table, the misses and the spread."""
    lines = [f"{'index':<56} {'forecast':>12} {'real':>12} {'ratio':>6}  HypoPG"]
    for x in found:
        hypo = f"{x.hypopg / x.real:.2f}" if x.hypopg else "-"
        miss = "" if x.good else "   MISS"
        lines.append(f"{x.index:<56} {x.forecast:>12,} {x.real:>12,} {x.ratio:>6.2f}  {hypo:>5}{miss}")
    exact = [x for x in found if not any(f"using {m} " in x.index for m in ROUGH)]
    spread = [max(x.ratio, 1 / x.ratio) for x in exact]
    hypo_spread = [max(x.hypopg / x.real, x.real / x.hypopg) for x in exact if x.hypopg]
    lines.append(f"{sum(s <= WITHIN for s in spread)} of {len(exact)} B-tree, hash and BRIN indexes within {WITHIN}x, worst "
                 f"{max(spread):.2f}x; all {len(found)} within their limits: {all(x.good for x in found)}")  # fmt: skip
    if hypo_spread:
        lines.append(f"HypoPG: {sum(s <= WITHIN for s in hypo_spread)} of {len(hypo_spread)} within {WITHIN}x, worst "
                     f"{max(hypo_spread):.2f}x")  # fmt: skip
    return "\n".join(lines)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--tpch", type=float, default=0.2, help="0: leave TPC-H out")
    parser.add_argument("--bindir", type=Path, default=DEBIAN_15)
    args = parser.parse_args()
    settings = {"autovacuum": "off", "maintenance_work_mem": "512MB", "max_wal_size": "4GB"}
    async with await LocalCluster.start("sizes", bindir=args.bindir, settings=settings) as cluster:
        with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
            conn.execute("create database keys")
            conn.execute("create database tpch")
        await asyncio.to_thread(fill, cluster.conninfo("keys"), args.rows)
        found = await measure(cluster.conninfo("keys"), KEYS)
        if args.tpch > 0:
            await asyncio.to_thread(load, cluster.conninfo("tpch"), args.tpch)
            with psycopg.connect(cluster.conninfo("tpch"), autocommit=True) as conn:
                if conn.execute("select 1 from pg_available_extensions where name = 'hypopg'").fetchone():
                    conn.execute("create extension hypopg")
            found += await measure(cluster.conninfo("tpch"), TPCH, [Statement(k, q, 1.0) for k, q in queries().items()])
    print(show(found))
    return 0 if all(x.good for x in found) else 1


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))

"""How good is the advice? 19 TPC-H queries on PostgreSQL 15 without an index, judged by somebody else's planner.

    python -m tests.bench.advisor [--scale 0.2] [--budgets 40,85,145,240] [--mode whole|partial]
        [--sizes hypopg|layout|model] [--seeds N] [--really] [--build]

Two judges (tests/bench/judges.py): HypoPG 1.3.1 with its own sizes, and the server itself with the indexes really built.
--sizes: what a budget's MiB are, and what the planner is told. `hypopg`: HypoPG's sizes, so that the figures compare with other
advisors'; it counts 12 bytes of overhead a column, so that covering indexes are far too large. `layout`: tuples as a
B-tree stores them, without deduplication. `model`: the product's own model. --mode: `whole` tables only, `partial` indexes
too where the evidence is there (the default of `indexpilot advise`). --seeds: repeat in fresh interpreters with other hash
seeds and compare the bytes. --really: ask the server with each set really built. --build: wall time before and after, and
what verification would say of each query.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg

from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.engine.whatif.advise.advisor import Options, advise, read_case
from indexpilot_tui.engine.whatif.advise.model import Advice
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.shadow import ShadowServer
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target
from tests.bench.judges import HypopgSizes, Judgement, blind, costs, judge, layout_size, really
from tests.bench.tpch_server import DATA, DATABASE, DEBIAN_15, load

BUDGETS = (40, 85, 145, 240)
EXTEND = {40: 73.0, 85: 63.0, 145: 57.6, 240: 52.8}
BARS = {40: 71.0, 85: 61.0, 145: 52.0, 240: 44.5}
MIB = 1 << 20
SETTINGS = {"autovacuum": "off", "jit": "off", "work_mem": "64MB", "shared_buffers": "512MB"}
REPEATS = 5
VERSION = 150000  # of the target


SIZES = {"layout": layout_size, "model": None}
HYPOPG = "hypopg"


def statements() -> list[Statement]:
    """The 19 queries, one call each."""
    found: dict[str, Any] = json.loads((DATA / "tpch_queries.json").read_text("utf-8"))
    return [Statement(str(n), found["queries"][str(n)], 1.0) for n in found["s19"]]


@asynccontextmanager
async def bare_server(scale: float) -> AsyncIterator[str]:
    """PostgreSQL 15 with TPC-H without any index, and HypoPG; yields its conninfo."""
    async with await LocalCluster.start("advisor", bindir=DEBIAN_15, settings=SETTINGS) as cluster:
        with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
            conn.execute("create database tpch")
        await asyncio.to_thread(load, cluster.conninfo(DATABASE), scale)
        with psycopg.connect(cluster.conninfo(DATABASE), autocommit=True) as conn:
            keys = conn.execute(
                "select conrelid::regclass::text, conname::text from pg_constraint"
                " where contype = 'p' and connamespace = 'public'::regnamespace"
            ).fetchall()
            for table, name in keys:
                conn.execute(f"alter table {table} drop constraint {name}".encode())
            conn.execute("vacuum (analyze)")
            conn.execute("create extension hypopg")
        yield cluster.conninfo(DATABASE)


async def advise_once(
    conninfo: str, asked: Sequence[Statement], options: Options, server: ShadowServer
) -> tuple[Advice, float]:
    """One advice and its seconds, reading the target included."""
    started = time.perf_counter()
    session = await connect(Target(name="tpch", environment="development", dsn=conninfo), Purpose.MONITOR, Settings())
    try:
        case = await read_case(session, asked)
        return await advise(server, case, options), time.perf_counter() - started
    finally:
        await session.close()


def options_of(mode: str, budget: int, sizes: str, hypopg: HypopgSizes) -> Options:
    return Options(budget_bytes=budget * MIB, size_of=hypopg if sizes == HYPOPG else SIZES[sizes], partial=mode != "whole")


def digest(advice: Advice) -> str:
    """Everything in an advice but the times."""
    data = advice.to_json()
    del data["elapsed_ms"], data["read"]
    return json.dumps(data, sort_keys=True)


def _times(conn: psycopg.Connection[Any], sql: str) -> list[float]:
    found = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        conn.execute(sql.encode()).fetchall()
        found.append((time.perf_counter() - start) * 1000)
    return found[1:]  # the first run warms the cache


def build(conninfo: str, advice: Advice, asked: Sequence[Statement]) -> list[str]:
    """Build the set, time every query before and after; a verdict needs the ranges of both to stand apart."""
    out = []
    with psycopg.connect(conninfo, autocommit=True) as conn:
        planned = sum(costs(conn, asked).values())
        before = {s.key: _times(conn, s.sql) for s in asked}
        started = time.perf_counter()
        for i in advice.indexes:
            conn.execute(i.ddl.replace(" CONCURRENTLY", "").encode())
        built = time.perf_counter() - started
        conn.execute("vacuum (analyze)")
        row = conn.execute("select sum(pg_relation_size(indexrelid)) from pg_index where indexrelid >= 16384").fetchone()
        assert row is not None
        again = costs(conn, asked)
        after = {s.key: _times(conn, s.sql) for s in asked}
        for table in ("region", "nation", "part", "supplier", "partsupp", "customer", "orders", "lineitem"):
            names = conn.execute("select indexrelid::regclass::text from pg_index where indrelid = %s::regclass", (table,))
            for (name,) in names.fetchall():
                conn.execute(f"drop index {name}".encode())
    forecast = {q.queryid: q for q in advice.queries}
    counts = {"improved": 0, "no evidence": 0, "regressed": 0}
    for s in asked:
        was, now = statistics.median(before[s.key]), statistics.median(after[s.key])
        verdict = "no evidence"
        if max(after[s.key]) < min(before[s.key]):
            verdict = "improved"
        elif min(after[s.key]) > max(before[s.key]):
            verdict = "regressed"
        counts[verdict] += 1
        f = forecast[s.key]
        out.append(
            f"  q{s.key:>2}: forecast {f.cost_after / f.cost_before:5.2f}x, measured {now / was:5.2f}x "
            f"({was:7.1f} -> {now:7.1f} ms) {verdict}"
        )
    total_before = sum(statistics.median(x) for x in before.values())
    total_after = sum(statistics.median(x) for x in after.values())
    out.append(
        f"  built {len(advice.indexes)} indexes in {built:.1f} s: forecast {advice.size_bytes / MIB:.1f} MiB, "
        f"real {row[0] / MIB:.1f} MiB; cost by the server with the real indexes "
        f"{100 * sum(again.values()) / planned:.1f} % (forecast {100 * advice.cost_after / advice.cost_before:.1f} %); "
        f"wall time {total_before / 1000:.2f} -> {total_after / 1000:.2f} s "
        f"({100 * (total_after / total_before - 1):+.0f} %); "
        f"verification would say: {counts}"
    )
    return out


async def run(
    conninfo: str, mode: str, budgets: Sequence[int], sizes: str = HYPOPG, *, show: bool = True
) -> list[tuple[int, Advice, float, Judgement]]:
    """The advice for each budget, with its judgement; the shadow's server runs already, as in a console."""
    asked = statements()
    server = ShadowServer()
    results = []
    sizing = psycopg.connect(conninfo, autocommit=True)
    try:
        await server.warm(VERSION)
        hypopg = HypopgSizes(sizing)
        for budget in budgets:
            options = options_of(mode, budget, sizes, hypopg)
            spent = hypopg.seconds
            advice, seconds = await advise_once(conninfo, asked, options, server)
            seconds -= hypopg.seconds - spent
            results.append((budget, advice, seconds, judge(conninfo, advice, asked)))
            if show:
                print(line(mode, *results[-1], sizes=sizes), flush=True)
    finally:
        sizing.close()
        await server.close()
    return results


def line(mode: str, budget: int, advice: Advice, seconds: float, found: Judgement, *, sizes: str = HYPOPG) -> str:
    """One result as text."""
    bar = f"bar {BARS[budget]}, Extend {EXTEND[budget]}" if budget in BARS else ""
    shadow = 100 * advice.cost_after / advice.cost_before
    return (
        f"{mode:>7} {budget:>4} MiB: HypoPG {found.percent:5.2f} % ({bar}; {found.as_written:.2f} as the queries are written), shadow {shadow:5.2f} %, "
        f"{len(advice.indexes)} indexes, "
        f"{found.size / MIB:.1f} MiB of HypoPG's, {advice.candidates} candidates, {advice.explains} EXPLAINs, {seconds:.2f} s"
        + ("" if found.same_sizes or sizes != HYPOPG else " SIZES DIFFER FROM HYPOPG")
    )


def with_seeds(conninfo: str, mode: str, budget: int, seeds: int, sizes: str) -> set[str]:
    """Digests of the same advice from fresh interpreters, one for each PYTHONHASHSEED."""
    code = (
        "import asyncio, sys; from tests.bench.advisor import *\n"
        "async def main():\n"
        "    server = ShadowServer()\n"
        "    try:\n"
        "        hypopg = HypopgSizes(psycopg.connect(sys.argv[1], autocommit=True))\n"
        "        options = options_of(sys.argv[2], int(sys.argv[3]), sys.argv[4], hypopg)\n"
        "        advice, _ = await advise_once(sys.argv[1], statements(), options, server)\n"
        "    finally:\n"
        "        await server.close()\n"
        "    print(digest(advice))\n"
        "asyncio.run(main())\n"
    )
    found = set()
    for seed in range(seeds):
        done = subprocess.run(
            [sys.executable, "-c", code, conninfo, mode, str(budget), sizes], check=True, capture_output=True, text=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)}, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        found.add(done.stdout)
    return found


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.2)
    parser.add_argument("--budgets", default=",".join(map(str, BUDGETS)))
    parser.add_argument("--mode", action="append", choices=("whole", "partial"))
    parser.add_argument("--sizes", choices=(HYPOPG, *SIZES), default=HYPOPG)
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--build", action="store_true")
    parser.add_argument("--really", action="store_true", help="build each set and ask the server itself")
    parser.add_argument("--show", action="store_true", help="print the indexes")
    parser.add_argument("--conninfo", help="a server that is prepared already")
    args = parser.parse_args()
    budgets = [int(b) for b in args.budgets.split(",")]

    async def all_of(conninfo: str) -> int:
        missed = 0
        for mode in args.mode or ["whole", "partial"]:
            results = await run(conninfo, mode, budgets, args.sizes)
            if mode != "whole":
                print(blind(conninfo))
            for budget, advice, seconds, found in results:
                if args.show:
                    lines = [f"    {i.ddl}  {i.size_bytes / MIB:.1f} MiB, gain {i.gain:,.0f}" for i in advice.indexes]
                    print(budget, *lines, sep="\n")
                if args.really:
                    built, size = really(conninfo, advice, statements())
                    print(f"{mode:>7} {budget:>4} MiB: the server with it really built {built:5.2f} %, {size / MIB:.1f} MiB")
                missed += found.percent > BARS.get(budget, 100.0) or seconds > 5
            if args.seeds:
                for budget in budgets:
                    different = len(with_seeds(conninfo, mode, budget, args.seeds, args.sizes))
                    print(f"{mode} {budget} MiB: {different} different results from {args.seeds} hash seeds")
            if args.build:
                for budget, advice, _, _ in results:
                    print(f"{mode} {budget} MiB built:", *build(conninfo, advice, statements()), sep="\n")
        return missed

    if args.conninfo:
        return await all_of(args.conninfo)
    async with bare_server(args.scale) as conninfo:
        return await all_of(conninfo)


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))

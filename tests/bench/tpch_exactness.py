"""How exact is a forecast? TPC-H in another major version: forecast an index, then really build it and compare.

    python -m tests.bench.tpch_exactness [--scale 0.2] [--bindir /usr/lib/postgresql/15/bin] [--embedded] [DDL ...]

Planned by the target's own major version where its programs are at hand; --embedded plans with 18 all the same.

For each of the 22 queries it prints the server's own cost before and after the index and the forecast's error, then the
index size and build time against the real ones, and what the target's counters say about writes.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.engine.whatif.model import Forecast, Statement
from indexpilot_tui.engine.whatif.plan import nodes
from indexpilot_tui.engine.whatif.simulate import Simulator
from indexpilot_tui.settings.model import Settings, Target
from tests.bench.tpch_server import DEBIAN_15, queries, tpch_server

DEFAULT = "CREATE INDEX ON lineitem (l_partkey)"


@dataclass(frozen=True)
class Line:
    """One query: the server's costs, the forecast's, and whether both planners chose the same kinds of nodes."""

    key: str
    before: float
    after: float
    forecast_before: float
    forecast_after: float
    same_plans: bool
    uses_index: bool

    @property
    def error(self) -> float:
        """The larger of the relative errors before and after."""
        return max(abs(self.forecast_before / self.before - 1), abs(self.forecast_after / self.after - 1))


@dataclass(frozen=True)
class Report:
    forecast: Forecast
    lines: list[Line]
    real_size: int
    real_seconds: float
    cold_seconds: float
    warm_seconds: float
    untouched: bool  # no write, no new object on the target
    facts: tuple[dict[str, Any], dict[str, Any]]

    @property
    def median_error(self) -> float:
        return statistics.median(x.error for x in self.lines)

    def within(self, limit: float) -> int:
        return sum(x.error <= limit for x in self.lines)


def _footprint(conn: psycopg.Connection[Any]) -> dict[str, Any]:
    row = conn.execute(
        "select d.tup_inserted, d.tup_updated, d.tup_deleted, d.temp_files,"
        " (select count(*) from pg_class), (select count(*) from pg_proc), (select count(*) from pg_statistic),"
        " (select array_agg(extname::text order by extname) from pg_extension)"
        " from pg_stat_database d where d.datname = current_database()"
    ).fetchone()
    names = ("inserted", "updated", "deleted", "temp_files", "relations", "functions", "statistics", "extensions")
    return dict(zip(names, row or (), strict=True))


def _plan(conn: psycopg.Connection[Any], query: str) -> dict[str, Any]:
    row = conn.execute(b"explain (format json) " + query.encode()).fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def _kinds(plan: dict[str, Any]) -> list[str]:
    return [f"{n['Node Type']}/{n.get('Join Type', '')}" for n in nodes(plan)]


async def measure(target: Target, conninfo: str, ddl: str = DEFAULT, *, own_major: bool = True) -> Report:
    """Forecast `ddl`, build it for real, compare, and drop it again."""
    texts = queries()
    statements = [Statement(key, text, 1.0) for key, text in texts.items()]
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("select pg_stat_clear_snapshot()")
        first = _footprint(conn)
        simulator = Simulator(own_major=own_major)
        try:
            session = await connect(target, Purpose.MONITOR, Settings())
            start = time.perf_counter()
            forecast = await simulator.simulate(session, ddl, statements)
            cold = time.perf_counter() - start
            start = time.perf_counter()
            await simulator.simulate(session, ddl, statements)
            warm = time.perf_counter() - start
            await session.close()
        finally:
            await simulator.close()
        await asyncio.sleep(0.5)  # a backend reports its counters when it ends
        second = _footprint(conn)
        before = {k: _plan(conn, q) for k, q in texts.items()}
        start = time.perf_counter()
        conn.execute(ddl.encode())
        seconds = time.perf_counter() - start
        name = sql.Identifier(*forecast.table.split(".")[:-1], forecast.name)
        size = conn.execute("select pg_relation_size(%s::text::regclass)", (name.as_string(conn),)).fetchone()
        after = {k: _plan(conn, q) for k, q in texts.items()}
        conn.execute(sql.SQL("drop index {}").format(name))
    by_key = {q.queryid: q for q in forecast.queries}
    lines = [
        Line(
            k, before[k]["Total Cost"], after[k]["Total Cost"], by_key[k].cost_before, by_key[k].cost_after,
            _kinds(before[k]) == _kinds(by_key[k].plan_before) and _kinds(after[k]) == _kinds(by_key[k].plan_after),
            by_key[k].uses_index,
        )
        for k in texts
        if k in by_key
    ]  # fmt: skip
    return Report(forecast, lines, size[0] if size else 0, seconds, cold, warm, first == second, (first, second))


def show(report: Report, ddl: str) -> str:
    """The report as text."""
    out = [
        ddl,
        f"{'query':>5} {'before':>14} {'forecast':>9} {'after':>14} {'forecast':>9}  index  plans",
    ]
    for x in report.lines:
        out.append(
            f"{x.key:>5} {x.before:>14,.2f} {x.forecast_before / x.before - 1:>+9.3%} {x.after:>14,.2f}"
            f" {x.forecast_after / x.after - 1:>+9.3%}  {'yes' if x.uses_index else '':<5}  "
            + ("same" if x.same_plans else "planned otherwise by the newer planner")
        )
    f = report.forecast
    out += [
        f"median error {report.median_error:.4%}; within 2 %: {report.within(0.02)} of {len(report.lines)}; "
        f"left out: {len(f.left_out)}",
        f"index size: forecast {f.index.size_bytes:,} real {report.real_size:,} "
        f"({f.index.size_bytes / report.real_size:.3f}x); build: forecast {f.index.build_seconds[0]} to "
        f"{f.index.build_seconds[1]} s, real {report.real_seconds:.2f} s",
        f"forecast took {report.cold_seconds:.2f} s cold, {report.warm_seconds * 1000:.0f} ms warm; "
        f"it read {f.read_statements} catalog queries in {f.read_ms:.1f} ms",
        f"target untouched: {report.untouched} {report.facts[1]}",
        f"confidence {f.confidence.level}: " + "; ".join(f.confidence.reasons),
    ]
    return "\n".join(out)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.2)
    parser.add_argument("--bindir", type=Path, default=DEBIAN_15)
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("ddl", nargs="*", default=[DEFAULT])
    args = parser.parse_args()
    good = True
    async with tpch_server(args.scale, args.bindir) as (cluster, target):
        for ddl in args.ddl:
            report = await measure(target, cluster.conninfo("tpch"), ddl, own_major=not args.embedded)
            print(show(report, ddl), end="\n\n")
            good = good and report.untouched and report.median_error < 0.005 and report.within(0.02) >= 19
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))

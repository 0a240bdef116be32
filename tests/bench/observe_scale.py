"""How looking grows with the database: 1,000 to 20,000 indexes, and 5,000 statements in pg_stat_statements.

    python -m tests.bench.observe_scale [--sizes 1000,5000,20000] [--seconds 120] [--statements 5000]

Four indexes a table. Server times are those of the login's own statements in pg_stat_statements, planning included. The first index
health is read by itself, as the check reads it; the refresh and the memory are those of the whole console on a pty of 120x40.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass

import psycopg

from indexpilot_tui.engine.observe.health import read_health
from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target
from tests.bench.counting import Counting
from tests.bench.observe_cost import REFRESH, spent
from tests.bench.terminal import Terminal, usage

TABLES_AT_ONCE = 250
MAKE = """do $$ begin for i in {first}..{last} loop
  execute format('create table app.t%s (id int primary key, a int not null, b text, c timestamptz)', i);
  execute format('create index t%s_a on app.t%s (a)', i, i);
  execute format('create index t%s_ab on app.t%s (a, lower(b)) where a > 5', i, i);
  execute format('create index t%s_c on app.t%s (c desc)', i, i);
  if i %% 10 = 0 then execute format('create index t%s_a2 on app.t%s (a, id)', i, i); end if;
  if i > 1 then execute format('alter table app.t%s add foreign key (a) references app.t%s', i, i - 1); end if;
end loop; end $$"""
HEAD = (
    "| indexes | tables | findings | first health: server | statements | longest | our CPU | refresh: server | slow questions "
    "| all: statements a refresh | round trips | console memory | CPU |\n" + "| --- " * 13 + "|"
)


@dataclass
class Figures:
    indexes: int
    tables: int
    findings: int
    health_ms: float
    health_statements: int
    longest_ms: float
    health_cpu_s: float
    refresh_ms: float = 0.0
    slow_ms: float = 0.0
    refresh_statements: float = 0.0
    refresh_trips: float = 0.0
    memory_mb: float = 0.0
    cpu_s_per_min: float = 0.0

    def line(self) -> str:
        return (
            f"| {self.indexes:,} | {self.tables:,} | {self.findings:,} | {self.health_ms:,.0f} ms | {self.health_statements} "
            f"| {self.longest_ms:.0f} ms | {self.health_cpu_s:.2f} s | {self.refresh_ms:.2f} ms "
            f"| {self.slow_ms:.0f} ms/min | {self.refresh_statements:.1f} "
            f"| {self.refresh_trips:.1f} | {self.memory_mb:.0f} MB | {self.cpu_s_per_min:.1f} s/min |"
        )


def grow(conn: psycopg.Connection[tuple[object, ...]], have: int, want: int) -> None:
    """Tables `have + 1` to `want`."""
    for first in range(have + 1, want + 1, TABLES_AT_ONCE):
        conn.execute(MAKE.format(first=first, last=min(want, first + TABLES_AT_ONCE - 1)).replace("%%", "%").encode())
    conn.execute("vacuum analyze")


def fill(conn: psycopg.Connection[tuple[object, ...]], statements: int, tables: int) -> None:
    """So many entries of pg_stat_statements, whatever the number of tables: an alias or a constant makes no other statement."""
    conn.execute("select pg_stat_statements_reset()")
    for number in range(statements):
        more = " and a is not null" * (number // tables)
        conn.execute(f"select a, count(*) from app.t{number % tables + 1} where id = 1{more} group by a".encode())
    row = conn.execute("select count(*) from pg_stat_statements").fetchone()
    assert row
    assert int(str(row[0])) >= statements


async def first_health(cluster: LocalCluster, user: str) -> tuple[float, int, float, float, int, int]:
    """Server ms, statements, the longest, our CPU seconds, indexes, findings."""
    target = Target(name="scale", environment="development", dsn=cluster.conninfo("bench", user))
    with psycopg.connect(cluster.conninfo("bench"), autocommit=True) as conn:
        session = await connect(target, Purpose.MONITOR, Settings())
        before = spent(conn, user)
        cpu = time.process_time()
        try:
            health = await read_health(session, Settings())
        finally:
            await session.close()
        cpu = time.process_time() - cpu
        after = spent(conn, user)
        row = conn.execute(
            "select max(max_exec_time) from pg_stat_statements where userid = %s::regrole and query like '%%indexpilot%%'",
            (user,),
        ).fetchone()
    assert row
    ms = sum(after[1:]) - sum(before[1:])
    return ms, int(after[0] - before[0]), float(str(row[0])), cpu, len(health.indexes), len(health.findings)


def by_text(conn: psycopg.Connection[tuple[object, ...]], user: str) -> dict[str, tuple[int, float]]:
    rows = conn.execute(
        "select left(regexp_replace(query, '\\s+', ' ', 'g'), 110), sum(calls)::int, sum(total_exec_time + total_plan_time)"
        " from pg_stat_statements where userid = %s::regrole group by 1", (user,)
    ).fetchall()  # fmt: skip
    return {str(text): (int(str(calls)), float(str(ms))) for text, calls, ms in rows}


def console(cluster: LocalCluster, door: Counting, figures: Figures, user: str, seconds: float) -> None:
    """The whole console, over `seconds` after its first health."""
    target = f"host={door.host} port={cluster.port} user={user} dbname=bench"
    with psycopg.connect(cluster.conninfo("bench"), autocommit=True) as conn:
        terminal = Terminal.start([sys.executable, "-m", "indexpilot_tui", target, "--environment", "development"])
        try:
            terminal.wait_for(rb"%d indexes" % figures.indexes, 180)
            time.sleep(60)  # until it knows what each question costs here
            was = by_text(conn, user)
            before, trips, cpu = spent(conn, user), door.round_trips, usage(terminal.pid)[0]
            time.sleep(seconds)
            after, refreshes = spent(conn, user), seconds / 2.0
            now = by_text(conn, user)
            used, figures.memory_mb = usage(terminal.pid)
        finally:
            terminal.close()
    mine = sum(ms - was.get(text, (0, 0.0))[1] for text, (_, ms) in now.items() if text.startswith(REFRESH))
    figures.refresh_ms = mine / refreshes
    figures.slow_ms = (sum(after[1:]) - sum(before[1:]) - mine) / seconds * 60
    figures.refresh_statements = (after[0] - before[0]) / refreshes
    figures.refresh_trips = (door.round_trips - trips) / refreshes
    figures.cpu_s_per_min = (used - cpu) / seconds * 60


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,5000,20000")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--statements", type=int, default=5000)
    args = parser.parse_args()
    settings = {
        "shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track_planning": "on",
        "pg_stat_statements.max": "6000", "autovacuum": "off", "max_locks_per_transaction": "4000", "shared_buffers": "512MB",
    }  # fmt: skip
    async with await LocalCluster.start("scale", settings=settings) as cluster:
        with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
            conn.execute("create database bench")
        with (
            psycopg.connect(cluster.conninfo("bench"), autocommit=True) as conn,
            Counting(cluster.socket_dir / f".s.PGSQL.{cluster.port}") as door,
        ):
            conn.execute("create extension pg_stat_statements schema public")
            conn.execute("create schema app")
            print(HEAD)
            tables = 0
            for number, size in enumerate(int(part) for part in args.sizes.split(",")):
                grow(conn, tables, size // 4)
                tables = size // 4
                for user in (f"check{number}", f"watch{number}"):
                    conn.execute(f"create role {user} login in role pg_monitor".encode())
                fill(conn, args.statements, tables)
                ms, statements, longest, cpu, indexes, findings = await first_health(cluster, f"check{number}")
                figures = Figures(indexes, tables, findings, ms, statements, longest, cpu)
                await asyncio.to_thread(console, cluster, door, figures, f"watch{number}", args.seconds)
                print(figures.line(), flush=True)


if __name__ == "__main__":
    asyncio.run(main())

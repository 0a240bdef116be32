"""What looking costs, beside pg_activity 3.6 on the same server and load, in one run.

    python -m tests.bench.observe_cost [--seconds 60] [--sessions 30] [--only ours|theirs]

30 sessions work on an embedded server (pgbench, each transaction with a pause in it, so that they are active); each console runs
on a pty of 120x40 at its refresh of 2 s, logged in with pg_monitor. Statements and their server time are those of the console's own
login in pg_stat_statements; round trips are counted on the wire. Gates, pace and slow questions are in the console's figures, shared
out over its refreshes; the last row is the refresh alone, at its most. pg_activity comes from PyPI into a virtual environment of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path

import psycopg

from indexpilot_tui.engine.engine import Engine
from indexpilot_tui.localpg import LocalCluster, binaries
from indexpilot_tui.settings.model import Settings, Target
from tests.bench.counting import Counting
from tests.bench.terminal import Terminal, usage

RIVAL = ("pg_activity>=3.6,<3.7", "psycopg[binary]>=3.3")
SCRIPT = """\\set aid random(1, 100000 * :scale)
\\set delta random(-5000, 5000)
begin;
update pgbench_accounts set abalance = abalance + :delta where aid = :aid;
select abalance from pgbench_accounts where aid = :aid;
end;
select pg_sleep(0.15);
"""
# what a refresh consists of: the pulse, and the counters behind the time of their reset
REFRESH = (
    "with /* indexpilot */ a as materialized", "select /* indexpilot */ i.stats_reset",
    "select /* indexpilot */ s.userid::int8, s.queryid, s.toplevel",
)  # fmt: skip
WARM_S = 8.0
REFRESH_S = 2.0


@dataclass
class Figures:
    name: str
    statements: float
    round_trips: float
    exec_ms: float
    plan_ms: float
    cpu_s_per_min: float
    rss_mb: float
    terminal_bytes: float

    def line(self) -> str:
        return (
            f"| {self.name} | {self.statements:.1f} | {self.round_trips:.1f} | {self.exec_ms:.2f} | {self.plan_ms:.2f} "
            f"| {self.cpu_s_per_min:.2f} | {self.rss_mb:.0f} | {self.terminal_bytes:,.0f} |"
        )


HEAD = (
    "| per refresh of 2 s | statements | round trips | server ms | planning ms | CPU s/min | MB | bytes to the terminal |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def rival_program() -> str:
    """pg_activity in a virtual environment that this makes once."""
    home = Path("/var/tmp") / f"ixp-bench-{os.geteuid()}-pg_activity"
    program = home / "bin" / "pg_activity"
    if not program.exists():
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([home / "bin" / "pip", "install", "-q", *RIVAL], stderr=subprocess.DEVNULL, check=True)
    return str(program)


def spent(conn: psycopg.Connection[tuple[object, ...]], role: str) -> tuple[float, float, float]:
    """Statements, execution ms and planning ms of a login so far."""
    row = conn.execute(
        "select coalesce(sum(calls), 0)::float8, coalesce(sum(total_exec_time), 0), coalesce(sum(total_plan_time), 0) "
        "from pg_stat_statements where userid = %s::regrole",
        (role,),
    ).fetchone()
    assert row
    return float(str(row[0])), float(str(row[1])), float(str(row[2]))


def watch(name: str, role: str, command: list[str], cluster: LocalCluster, door: Counting, shown: bytes, seconds: float,
          env: dict[str, str] | None = None) -> Figures:  # fmt: skip
    """Let one console run and take its figures over `seconds`."""
    with psycopg.connect(cluster.conninfo("bench"), autocommit=True) as conn:
        terminal = Terminal.start(command, env=env)
        try:
            terminal.wait_for(shown)
            time.sleep(WARM_S)
            before, trips, cpu, written = spent(conn, role), door.round_trips, usage(terminal.pid)[0], terminal.written
            time.sleep(seconds)
            after = spent(conn, role)
            used, rss = usage(terminal.pid)
            refreshes = seconds / REFRESH_S
            return Figures(
                name,
                *(
                    (value) / refreshes
                    for value in (
                        after[0] - before[0],
                        door.round_trips - trips,
                        after[1] - before[1],
                        after[2] - before[2],
                    )
                ),
                (used - cpu) / seconds * 60,
                rss,
                (terminal.written - written) / refreshes,
            )
        finally:
            terminal.close()


async def alone(role: str, cluster: LocalCluster, door: Counting, seconds: float) -> str:
    """The refresh by itself: statements (with a slow question where one rides along) and round trips at their most, the
    server's ms of what it consists of in the mean."""
    target = Target(name="alone", environment="development", dsn=f"host={door.host} port=5432 user={role} dbname=bench")
    engine = await Engine.open(target, Settings())
    most, trips, before = 0, 0, (0.0, 0.0)
    count, warm = round(seconds / REFRESH_S), round(WARM_S / REFRESH_S)
    try:
        for number in range(warm + count):
            at = door.round_trips
            seen = await engine.observe()
            if number >= warm:
                most, trips = max(most, seen.cost.statements), max(trips, door.round_trips - at)
            if number == warm - 1:
                before = await asyncio.to_thread(_refreshing, cluster, role)
            await asyncio.sleep(REFRESH_S)
        after = await asyncio.to_thread(_refreshing, cluster, role)
    finally:
        await engine.close()
    execution, planning = ((b - a) / count for a, b in zip(before, after, strict=True))
    return f"| a refresh alone | at most {most} | at most {trips} | {execution:.2f} | {planning:.2f} | | | |"


def _refreshing(cluster: LocalCluster, role: str) -> tuple[float, float]:
    """Execution and planning ms of refreshes so far."""
    with psycopg.connect(cluster.conninfo("bench"), autocommit=True) as conn:
        rows = conn.execute(
            "select regexp_replace(query, '\\s+', ' ', 'g'), total_exec_time, total_plan_time from pg_stat_statements"
            " where userid = %s::regrole", (role,)
        ).fetchall()  # fmt: skip
    mine = [
        (float(str(execution)), float(str(planning))) for text, execution, planning in rows if str(text).startswith(REFRESH)
    ]
    assert len(mine) == len(REFRESH)
    return sum(execution for execution, _ in mine), sum(planning for _, planning in mine)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--sessions", type=int, default=30)
    parser.add_argument("--only", choices=("ours", "theirs"))
    args = parser.parse_args()
    settings = {
        "shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track_planning": "on", "max_connections": "120",
        "shared_buffers": "256MB",
    }  # fmt: skip
    program = rival_program() if args.only != "ours" else ""
    async with await LocalCluster.start("cost", settings=settings) as cluster:
        with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
            conn.execute("create database bench")
            for role in ("ours", "theirs", "alone"):
                conn.execute(f"create role {role} login in role pg_monitor".encode())
        with psycopg.connect(cluster.conninfo("bench"), autocommit=True) as conn:
            conn.execute("create extension pg_stat_statements schema public")
        pgbench, socket = str(binaries.embedded() / "pgbench"), str(cluster.socket_dir)
        where = ["-h", socket, "-p", str(cluster.port), "-U", cluster.superuser]
        await asyncio.to_thread(
            subprocess.run, [pgbench, *where, "-i", "-s", "10", "-q", "bench"], check=True, capture_output=True
        )
        script = Path(tempfile.mkdtemp()) / "load.sql"
        script.write_text(SCRIPT)
        load = subprocess.Popen(
            [pgbench, *where, "-n", "-c", str(args.sessions), "-T", "3600", "-f", str(script), "bench"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        print(HEAD)
        try:
            with Counting(cluster.socket_dir / f".s.PGSQL.{cluster.port}") as door:
                if args.only != "ours":
                    command = [program, "-h", door.host, "-p", "5432", "-U", "theirs", "-d", "bench", "--refresh", "2"]
                    print((await asyncio.to_thread(watch, "pg_activity 3.6", "theirs", command, cluster, door,
                                                   rb"Running queri", args.seconds)).line())  # fmt: skip
                if args.only != "theirs":
                    target = f"host={door.host} port=5432 user=ours dbname=bench"
                    command = [sys.executable, "-m", "indexpilot_tui", target, "--environment", "development"]
                    print((await asyncio.to_thread(watch, "indexpilot", "ours", command, cluster, door,
                                                   rb"pgbench_accounts", args.seconds)).line())  # fmt: skip
                    print(await alone("alone", cluster, door, args.seconds))
        finally:
            load.terminate()
            load.wait(10)


if __name__ == "__main__":
    asyncio.run(main())

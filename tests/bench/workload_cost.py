"""What a change costs the workload: a guarded build beside a bare CREATE INDEX CONCURRENTLY of the same index.

    python -m tests.bench.workload_cost [--scale 100] [--clients 4] [--seconds 15] [--rounds 2] [--hold 10]

One PostgreSQL 15 (durable: fsync and synchronous_commit on), pgbench's own reader and writer on it all the time, as fast as they
can. Each round builds the index once in each of the two ways, and the ways take turns at being first; tps and latencies come from
pgbench's log of every transaction. "During" is from the start of the executor to the verified end, so that what the engine does
itself is in it; "after" has its verification in it.

Then the night that matters: a report with an old snapshot is open, the build waits for it, and a deploy's ALTER TABLE queues
behind the build, with everybody behind the ALTER TABLE, until the report ends `--hold` seconds later;
`--rounds` times in each way. Limits are the defaults.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from indexpilot_tui.engine.model.change import State
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.validated import validated
from tests.bench.tpch_server import DEBIAN_15
from tests.faults.scenes import LAST_WAIT, Rival, phase
from tests.faults.workshop import OWNER, Workshop, make_workshop
from tests.pgbench import Figures, Pgbench, Span, Transaction, figures, of_cluster

INDEX = "cost_idx"
# updates of abalance stay HOT with it: what is measured is the build and not what the index costs later
DDL = f"create index {INDEX} on public.pgbench_accounts (bid, aid)"
REPORT = ("set transaction isolation level repeatable read", "select count(*) from public.pgbench_branches")
DEPLOY = "alter table public.pgbench_accounts add column if not exists deployed_{} int"
WAYS = ("guarded", "bare")
PHASES = ("before", "during", "after")
SERVER = {
    "shared_preload_libraries": "pg_stat_statements", "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
    "shared_buffers": "512MB", "max_wal_size": "8GB", "autovacuum": "off", "max_connections": "120",
}  # fmt: skip
BUILD_S = 900.0


@dataclass
class Run:
    """One build in one of the ways. `tries`: how often the build was begun; `deploy_s`: how long the ALTER TABLE took."""

    way: str
    spans: dict[str, Span] = field(default_factory=dict)
    build_s: float = 0.0
    tries: int = 1
    deploy_s: float = 0.0
    said: str = ""


def cost_settings(seconds: float) -> Settings:
    """The defaults, without the gates that ask whether the machine is busy: it is, on purpose."""
    return validated(
        Settings,
        {
            "production_safeguards": {"maintenance_window": {"enabled": False}, "throttle": {"enabled": False}},
            "verification": {"window_seconds": max(5, round(seconds))},
            "rate_limiter": {"index_creation": {"max_requests": 1000}},
        },
    )


async def furnish(workshop: Workshop, load: Pgbench, scale: int) -> None:
    await load.fill(scale)
    for table in ("accounts", "branches", "tellers", "history"):
        workshop.sql(f"alter table public.pgbench_{table} owner to {OWNER}")
    workshop.sql(f"grant usage, create on schema public to {OWNER}")
    workshop.sql("checkpoint")


class _Bare:
    """CREATE INDEX CONCURRENTLY as a person would type it."""

    def __init__(self, workshop: Workshop) -> None:
        self.rival = Rival(workshop, DDL.replace("create index", "create index concurrently"), name="bare")

    async def ended(self) -> str:
        await self.rival.done(BUILD_S)
        return str(self.rival.error or "")


async def _begin(workshop: Workshop, way: str) -> tuple[_Bare | None, int]:
    if way == "bare":
        return _Bare(workshop), 0
    change_id = await workshop.approved(DDL)
    await workshop.spawn(change_id)
    return None, change_id


async def _end(workshop: Workshop, run: Run, bare: _Bare | None, change_id: int) -> None:
    """Wait for the end of the build; of a guarded one until it is verified in the catalog."""
    if bare is not None:
        run.said = await bare.ended()
        run.build_s = bare.rival.seconds
        return
    change = await workshop.until(change_id, State.OBSERVING, State.DONE, seconds=BUILD_S)
    begun = [e.at for e in change.events if e.action == "ddl.intent"]
    over = [e.at for e in change.events if e.action == "ddl.outcome"]
    run.tries, run.build_s = len(begun), (over[-1] - begun[-1]).total_seconds()


async def _after(workshop: Workshop, change_id: int) -> None:
    """The guarded change comes to its own end; the index goes, however it was built."""
    if change_id:
        await workshop.until(change_id, State.DONE, seconds=120)
    workshop.sql(f"drop index concurrently if exists public.{INDEX}")
    workshop.sql("checkpoint")


async def build(workshop: Workshop, way: str, seconds: float) -> Run:
    """Before, during and after one build."""
    run = Run(way)
    marks = [time.time()]
    await asyncio.sleep(seconds)
    marks.append(time.time())
    bare, change_id = await _begin(workshop, way)
    await _end(workshop, run, bare, change_id)
    marks.append(time.time())
    await asyncio.sleep(seconds)
    marks.append(time.time())
    run.spans = {name: Span(*marks[n : n + 2]) for n, name in enumerate(PHASES)}
    await _after(workshop, change_id)
    return run


async def conflict(workshop: Workshop, way: str, hold: float, number: int) -> Run:
    """The night that matters; the span "during" begins with the ALTER TABLE."""
    run = Run(way)
    report = workshop.blocker(*REPORT)
    bare, change_id = await _begin(workshop, way)
    await _last_wait(workshop, change_id)
    begin = time.time()
    deploy = Rival(workshop, DEPLOY.format(number), name="deploy")
    await asyncio.sleep(hold)
    report.close()
    await _end(workshop, run, bare, change_id)
    await deploy.done(60)
    run.deploy_s = deploy.seconds
    run.said = str(deploy.error or run.said)
    run.spans = {"during": Span(begin, time.time())}
    await _after(workshop, change_id)
    return run


async def _last_wait(workshop: Workshop, change_id: int) -> None:
    if change_id:
        await phase(workshop, LAST_WAIT, change_id, BUILD_S)
        return
    end = time.monotonic() + BUILD_S
    while not workshop.sql("select 1 from pg_stat_progress_create_index where phase = %s", LAST_WAIT):
        if time.monotonic() > end:
            raise AssertionError("the bare build never came to its last wait")
        await asyncio.sleep(0.1)


@dataclass
class Measured:
    runs: list[Run]
    nights: list[Run]
    transactions: list[Transaction]

    def of(self, way: str, name: str) -> Figures:
        return figures(self.transactions, [run.spans[name] for run in self.runs if run.way == way])

    def night(self, run: Run) -> Figures:
        return figures(self.transactions, [run.spans["during"]])

    def silence(self, run: Run) -> float:
        """The longest stretch without the end of any transaction, seconds."""
        span = run.spans["during"]
        ends = sorted(t.end for t in self.transactions if span.begin <= t.end <= span.end)
        marks = [span.begin, *ends, span.end]
        return max(b - a for a, b in itertools.pairwise(marks))


async def measure(
    cluster: LocalCluster, settings: Settings, *, scale: int, clients: int, seconds: float, rounds: int, hold: float
) -> Measured:
    async with make_workshop(cluster, settings) as workshop:
        load = Pgbench(cluster.bindir / "pgbench", of_cluster(cluster, workshop.dbname), clients)
        await furnish(workshop, load, scale)
        load.start()
        try:
            await asyncio.sleep(min(seconds, 5))  # caches
            runs, nights = [], []
            for number in range(rounds):
                for way in WAYS if number % 2 == 0 else WAYS[::-1]:
                    runs.append(await build(workshop, way, seconds))
                    print(f"round {number + 1}, {way}: {runs[-1].build_s:.1f} s", file=sys.stderr, flush=True)
            for number, way in enumerate(WAYS * rounds):
                nights.append(await conflict(workshop, way, hold, number))
                print(f"the night, {way}: ALTER TABLE {nights[-1].deploy_s:.2f} s", file=sys.stderr, flush=True)
            transactions = await asyncio.to_thread(load.stop)
        finally:
            load.close()
    return Measured(runs, nights, transactions)


def table(measured: Measured) -> str:
    lines = [
        "| way | phase | seconds | tps | of before | median ms | p99 ms | longest read ms | longest write ms |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for way in WAYS:
        before = measured.of(way, "before").tps
        for name in PHASES:
            f = measured.of(way, name)
            spent = ", ".join(f"{run.spans[name].seconds:.1f}" for run in measured.runs if run.way == way)
            lines.append(
                f"| {way} | {name} | {spent} | {f.tps:,.0f} | {100 * f.tps / before:.0f} % | {f.median_ms:.2f} | {f.p99_ms:.2f} "
                f"| {f.worst_read_ms:.0f} | {f.worst_write_ms:.0f} |"
            )
    lines += ["", "| the night: way | ALTER TABLE took | longest read | longest write | nobody got an answer for | builds begun | end |",
              "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for run in measured.nights:
        f = measured.night(run)
        lines.append(
            f"| {run.way} | {run.deploy_s:.2f} s | {f.worst_read_ms / 1000:.2f} s | {f.worst_write_ms / 1000:.2f} s "
            f"| {measured.silence(run):.2f} s | {run.tries} | {run.said or 'built'} |"
        )
    return "\n".join(lines)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=100)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--hold", type=float, default=10.0)
    parser.add_argument("--bindir", type=Path, default=DEBIAN_15)
    args = parser.parse_args()
    async with await LocalCluster.start("cost", settings=SERVER, bindir=args.bindir) as cluster:
        measured = await measure(
            cluster, cost_settings(args.seconds), scale=args.scale, clients=args.clients, seconds=args.seconds,
            rounds=args.rounds, hold=args.hold,
        )  # fmt: skip
        with psycopg.connect(cluster.conninfo()) as conn:
            version: tuple[Any, ...] | None = conn.execute("show server_version").fetchone()
    print(f"PostgreSQL {version[0] if version else '?'}, scale {args.scale}, {args.clients} clients, {args.rounds} rounds\n")
    print(table(measured))


if __name__ == "__main__":
    asyncio.run(main())

"""Does the verification flag the query that got slower, and only what the index changed? TPC-H, with changes carried out.

    python -m tests.bench.tpch_verification [--scale 0.1] [--embedded] [--rounds 12] [--noise] [DDL ...]

A server with TPC-H, a control schema, an operator and an approver. Each index of a set that the planner likes and that makes
queries slower is proposed, approved and built by the product; the queries run `--rounds` times between proposal and start, and
as often while the change is observed. For each query it prints what the product said beside what is so: the mean times that the
client measured, and whether the server's own EXPLAIN of the very text, constants and all, shows another plan. `--noise` slows
the machine down while the change is observed, so that queries which the index does not concern get slower, too.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from indexpilot_tui.engine.changes.plan_shapes import shape
from indexpilot_tui.engine.control import Control
from indexpilot_tui.engine.deeds import Deeds
from indexpilot_tui.engine.journal.setup import setup_sql
from indexpilot_tui.engine.model.change import Change, QueryVerdict, State
from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target
from indexpilot_tui.settings.validated import validated
from tests.bench.tpch_server import DATABASE, DEBIAN_15, load, queries

SET = ("CREATE INDEX ON public.lineitem (l_partkey)", "CREATE INDEX ON public.lineitem (l_suppkey)")
LEFT_OUT = {"17", "20"}  # minutes without an index
OWNER, OPERATOR, APPROVER = "tpch_owner", "tpch_operator", "tpch_approver"
SLOWER = 1.1  # what counts as slower or faster, by the client's clock: the 10 % of the policy


@dataclass(frozen=True)
class Line:
    """One query under one change. `other_plan` is the server's own word for the text with its constants."""

    key: str
    before_ms: float
    after_ms: float
    other_plan: bool
    said: QueryVerdict | None

    @property
    def ratio(self) -> float:
        return self.after_ms / self.before_ms

    @property
    def verdict(self) -> str:
        return self.said.verdict if self.said is not None else "not seen"


@dataclass(frozen=True)
class Judged:
    """One change: its verdict and the lines."""

    ddl: str
    change: Change
    lines: tuple[Line, ...]

    @property
    def slower(self) -> list[Line]:
        """Queries that have another plan and got slower by the client's clock."""
        return [x for x in self.lines if x.other_plan and x.ratio > SLOWER]

    @property
    def wrongly(self) -> list[Line]:
        """Queries that were called improved or regressed and whose plan the server says is the one from before."""
        return [x for x in self.lines if x.verdict in ("improved", "regressed") and not x.other_plan]


def settings(rounds: int) -> Settings:
    """Everything that would hold a change up on a private server is off; the verification is the product's."""
    return validated(Settings, {
            "production_safeguards": {
                "maintenance_window": {"enabled": False}, "throttle": {"enabled": False}, "backup": {"enabled": False},
                "disk": {"enabled": False}, "cpu_throttle": {"enabled": False}, "storage_budget": {"enabled": False},
            },
            "observe": {"statement_timeout_ms": 30_000},
            "verification": {"window_seconds": 3600, "min_calls": min(30, max(5, rounds))},
        })  # fmt: skip


def prepare(cluster: LocalCluster, scale: float) -> None:
    """TPC-H, the control schema and three roles."""
    with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
        conn.execute(f"create database {DATABASE}".encode())
    load(cluster.conninfo(DATABASE), scale)
    with psycopg.connect(cluster.conninfo(DATABASE), autocommit=True) as conn:
        conn.execute(setup_sql().encode())
        for role, options in ((OWNER, "nologin"), (OPERATOR, "login"), (APPROVER, "login")):
            conn.execute(f"create role {role} {options}".encode())
        option = " with inherit false, set true" if conn.info.server_version >= 160000 else ""
        conn.execute(
            f"create extension pg_stat_statements; grant indexpilot_operator to {OPERATOR};"
            f"grant indexpilot_approver to {APPROVER}; grant {OWNER} to {OPERATOR}{option};"
            f"grant pg_read_all_data to {OPERATOR}; grant create on schema public to {OWNER}".encode()
        )
        tables = "select relname::text from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
        for (table,) in conn.execute(tables).fetchall():
            conn.execute(f"alter table {table} owner to {OWNER}".encode())


def run(conn: psycopg.Connection[Any], texts: dict[str, str], rounds: int) -> dict[str, float]:
    """Every query `rounds` times, in turn; the mean time of each in ms by the client's clock."""
    took: dict[str, list[float]] = {key: [] for key in texts}
    for _ in range(rounds):
        for key, text in texts.items():
            start = time.perf_counter()
            conn.execute(text.encode())
            took[key].append((time.perf_counter() - start) * 1000)
    return {key: statistics.fmean(values) for key, values in took.items()}


def explained(conn: psycopg.Connection[Any], texts: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Query id and shape of the plan of each query, as the server tells them for the text with its constants."""
    found = {}
    for key, text in texts.items():
        row = conn.execute(b"explain (verbose, format json) " + text.encode()).fetchone()
        assert row is not None
        plain = conn.execute(b"explain (format json) " + text.encode()).fetchone()
        assert plain is not None
        found[key] = (str(row[0][0]["Query Identifier"]), shape(plain[0][0]["Plan"]))
    return found


def _spin(parent: int) -> None:
    while os.getppid() == parent:
        sum(range(100_000))


@contextmanager
def noise(on: bool) -> Iterator[None]:
    """A process a core that does nothing but compute."""
    context = multiprocessing.get_context("spawn")
    count = (os.cpu_count() or 2) if on else 0
    workers = [context.Process(target=_spin, args=(os.getpid(),), daemon=True) for _ in range(count)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


async def until(control: Control, change_id: int, *states: State, seconds: float = 300) -> Change:
    end = time.monotonic() + seconds
    while True:
        change = await control.change(change_id)
        if change.state in states:
            return change
        if time.monotonic() > end or change.ended or change.state is State.NEEDS_OPERATOR:
            raise RuntimeError(f"change {change_id} is {change.state}: {change.outcome}")
        await asyncio.sleep(0.3)


async def judge(cluster: LocalCluster, ddl: str, texts: dict[str, str], rounds: int, *, noisy: bool) -> Judged:
    """Carry one change out with the queries before and after it, and lay what was said beside what is so."""

    def login(name: str) -> Target:
        dsn = cluster.conninfo(DATABASE, name)
        return Target(name="tpch", environment="development", dsn=dsn, allow_unix_socket_changes=True)

    policy = settings(rounds)
    control = Control(login(OPERATOR), policy, lambda _: None, login(APPROVER))
    deeds = Deeds(control)
    monitor = await connect(login(OPERATOR), Purpose.MONITOR, policy)
    await control.open()
    try:
        with psycopg.connect(cluster.conninfo(DATABASE), autocommit=True) as conn:
            await asyncio.to_thread(run, conn, texts, 1)  # warm
            change = await deeds.propose(monitor, ddl, "a measurement")
            before = await asyncio.to_thread(run, conn, texts, rounds)
            was = explained(conn, texts)
            await deeds.approve(change.id)
            await deeds.apply(monitor, change.id)
            await until(control, change.id, State.OBSERVING)
            now = explained(conn, texts)
            with noise(noisy):
                after = await asyncio.to_thread(run, conn, texts, rounds)
        await deeds.keep(change.id)
        change = await until(control, change.id, State.DONE)
    finally:
        await control.close()
        await monitor.close()
    assert change.verification is not None
    said = {q.queryid: q for q in change.verification.queries}
    lines = (Line(k, before[k], after[k], was[k][1] != now[k][1], said.get(was[k][0])) for k in texts)
    return Judged(ddl, change, tuple(lines))


async def measure(
    scale: float, rounds: int, ddl: Sequence[str] = SET, *, bindir: Path | None = DEBIAN_15, noisy: bool = False,
    keys: Sequence[str] | None = None,
) -> list[Judged]:  # fmt: skip
    """One change after the other; each index stands when the next one is built."""
    texts = {k: q for k, q in queries().items() if k not in LEFT_OUT and (keys is None or k in keys)}
    preload = {"autovacuum": "off", "shared_preload_libraries": "pg_stat_statements", "max_connections": "60"}
    async with await LocalCluster.start("target", bindir=bindir, settings=preload) as cluster:
        await asyncio.to_thread(prepare, cluster, scale)
        return [await judge(cluster, one, texts, rounds, noisy=noisy) for one in ddl]


def table(judged: Judged) -> str:
    """What was said beside what is so, as text."""
    v = judged.change.verification
    assert v is not None
    out = [f"{judged.ddl}: {v.verdict}", f"  {v.reason}", ""]
    out.append(
        f"  {'query':>5} {'before ms':>10} {'after ms':>10} {'times':>6}  {'plan is so':<10} {'plan said':<13} verdict"
    )
    for line in judged.lines:
        said = line.said.plan if line.said is not None else "-"
        so = "another" if line.other_plan else "same"
        mark = {"regressed": " <- slower", "improved": " <- faster"}.get(line.verdict, "")
        out.append(
            f"  {'q' + line.key:>5} {line.before_ms:>10.1f} {line.after_ms:>10.1f} {line.ratio:>6.2f}  {so:<10} {said:<13}"
            f" {line.verdict}{mark}"
        )
    moved = [x for x in judged.lines if not x.other_plan and not 1 / SLOWER <= x.ratio <= SLOWER]
    out += [
        "",
        f"  got slower with another plan: {_names(judged.slower)};"
        f" of these flagged: {_names([x for x in judged.slower if x.verdict == 'regressed'])}",
        f"  moved by more than 10 % with the plan of before: {_names(moved)}; flagged wrongly: {_names(judged.wrongly)}",
    ]
    return "\n".join(out)


def _names(lines: Sequence[Line]) -> str:
    return ", ".join(f"q{x.key}" for x in lines) or "none"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("ddl", nargs="*", default=list(SET))
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--embedded", action="store_true", help="PostgreSQL 18 in place of Debian's 15")
    parser.add_argument("--noise", action="store_true")
    args = parser.parse_args()
    bindir = None if args.embedded else DEBIAN_15
    with tempfile.TemporaryDirectory(prefix="indexpilot-state-") as folder:
        os.environ["XDG_STATE_HOME"] = folder
        found = asyncio.run(measure(args.scale, args.rounds, args.ddl, bindir=bindir, noisy=args.noise))
    for judged in found:
        print(table(judged), end="\n\n")


if __name__ == "__main__":
    main()

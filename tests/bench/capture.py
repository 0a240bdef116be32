"""What does a capture cost the target? A database of many tables, read through a proxy that counts bytes.

    python -m tests.bench.capture [--tables 3000] [--bindir /usr/lib/postgresql/15/bin]

Each table has ten columns with full histograms, four indexes and a foreign key. It prints the statements that the capture
sent, their time and the longest one, the bytes on the wire in both directions, the file's size, how long a forecast takes
from it, and what the target's own counters say about writes, for a capture and for a forecast.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from indexpilot_tui.engine.postgres.session import Purpose, SentStatement, connect
from indexpilot_tui.engine.whatif.bundle.capture import capture
from indexpilot_tui.engine.whatif.bundle.file import read_bundle, write_bundle
from indexpilot_tui.engine.whatif.bundle.redact import redacted
from indexpilot_tui.engine.whatif.bundle.session import BundleSession
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.simulate import Simulator
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target
from tests.bench.tpch_server import DEBIAN_15

DATABASE = "many"
ROWS = 400
_TABLE = """
create table app.t{n} (id bigint primary key, parent_id bigint, a int, b int, c numeric(10,2), status text, name text,
  created_at timestamptz, day date, done boolean{fk});
insert into app.t{n} select g, 1 + g % {rows}, g % 50, (g * 7919) % 1000, g / 3.0, (array['open','done','held'])[1 + g % 3],
  'name ' || md5(g::text), timestamptz '2024-01-01' + g * interval '1 hour', date '2024-01-01' + g, g % 2 = 0
  from generate_series(1, {rows}) g;
create index on app.t{n} (parent_id); create index on app.t{n} (status, created_at); create index on app.t{n} (lower(name));
"""


@dataclass
class Traffic:
    """Bytes on the wire, as the target sees them."""

    asked: int = 0
    answered: int = 0


@asynccontextmanager
async def counting_proxy(conninfo: str) -> AsyncIterator[tuple[str, Traffic]]:
    """A socket in front of a server's own that counts what passes. Yields the conninfo to use, and the counters."""
    params = conninfo_to_dict(conninfo)
    host, port = str(params["host"]), params.get("port") or 5432
    traffic = Traffic()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, field: str) -> None:
        while data := await reader.read(1 << 16):
            setattr(traffic, field, getattr(traffic, field) + len(data))
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        await asyncio.gather(pump(reader, far_writer, "asked"), pump(far_reader, writer, "answered"))

    with tempfile.TemporaryDirectory(prefix="indexpilot-proxy-") as folder:
        server = await asyncio.start_unix_server(serve, f"{folder}/.s.PGSQL.{port}")
        async with server:
            yield make_conninfo(conninfo, host=folder), traffic


def fill(conninfo: str, tables: int) -> None:
    """`tables` tables with data, indexes, foreign keys and statistics."""
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("create schema app")
        for n in range(tables):
            fk = f", foreign key (parent_id) references app.t{n - 1}" if n % 10 else ""
            conn.execute(_TABLE.format(n=n, rows=ROWS, fk=fk).encode())
        conn.execute("vacuum (analyze)")


def footprint(conn: psycopg.Connection[Any]) -> dict[str, Any]:
    """What changes on a server that something is written to. `next_xid`: a write cannot do without a transaction id."""
    conn.execute("select pg_stat_clear_snapshot()")
    row = conn.execute(
        "select tup_inserted, tup_updated, tup_deleted, temp_files,"
        " (select count(*) from pg_class), (select count(*) from pg_extension), (select count(*) from pg_proc),"
        " pg_snapshot_xmax(pg_current_snapshot())::text"
        " from pg_stat_database where datname = current_database()"
    ).fetchone()
    assert row is not None
    names = ("inserted", "updated", "deleted", "temp_files", "relations", "extensions", "functions", "next_xid")
    return dict(zip(names, row, strict=True))


async def run(tables: int, bindir: Path | None) -> None:
    async with await LocalCluster.start("target", bindir=bindir, settings={"autovacuum": "off"}) as cluster:
        with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
            conn.execute(f"create database {DATABASE}".encode())
        started = time.perf_counter()
        await asyncio.to_thread(fill, cluster.conninfo(DATABASE), tables)
        print(f"{tables} tables made in {time.perf_counter() - started:.0f} s")
        sent: list[SentStatement] = []
        with psycopg.connect(cluster.conninfo(DATABASE), autocommit=True) as watcher:
            async with counting_proxy(cluster.conninfo(DATABASE)) as (conninfo, traffic):
                target = Target(name="many", environment="development", dsn=conninfo)
                session = await connect(target, Purpose.MONITOR, Settings(), sink=sent.append)
                sent.clear()
                before, asked, answered = footprint(watcher), traffic.asked, traffic.answered
                started = time.perf_counter()
                bundle = await capture(session)
                seconds = time.perf_counter() - started
                after = footprint(watcher)
                asked, answered = traffic.asked - asked, traffic.answered - answered
                await forecasts(session, bundle, watcher, sent)
                await session.close()
                longest = max(sent[: bundle.header.cost.statements], key=lambda s: s.ms)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "many.bundle"
            started = time.perf_counter()
            size = write_bundle(bundle, path)
            wrote = time.perf_counter() - started
            started = time.perf_counter()
            read_bundle(path)
            read = time.perf_counter() - started
            started = time.perf_counter()
            small = write_bundle(redacted(bundle), path)
            hidden = time.perf_counter() - started
        cost = bundle.header.cost
        print(f"capture: {cost.statements} statements, {cost.ms:.0f} ms of round trips, {seconds:.2f} s in all")
        print(f"  longest statement {longest.ms:.0f} ms: {longest.text[:90]}")
        print(f"  on the wire: {asked / 1e6:.2f} MB asked, {answered / 1e6:.2f} MB answered")
        print(f"  file: {size / 1e6:.2f} MB, written in {wrote:.2f} s, read in {read:.2f} s")
        print(f"  redacted: {small / 1e6:.2f} MB, {hidden:.2f} s more")
        print(f"  target before and after: {'unchanged' if before == after else f'CHANGED {before} -> {after}'}")
        print(f"  our memory at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


async def forecasts(session: Any, bundle: Any, watcher: psycopg.Connection[Any], sent: list[SentStatement]) -> None:
    """One forecast from the server and the same from the bundle."""
    simulator = Simulator()
    try:
        ddl, query = "create index on app.t7 (b)", Statement("1", "select * from app.t7 where b = 5", 1.0)
        for label, source in (("server", session), ("bundle", BundleSession(bundle))):
            before = footprint(watcher)
            found = await simulator.simulate(source, ddl, [query])
            again = await simulator.simulate(source, ddl, [query])
            print(
                f"forecast from the {label}: cost {found.cost_before:.2f} -> {found.cost_after:.2f}; first "
                f"{found.elapsed_ms:.0f} ms, again {again.elapsed_ms:.0f} ms; read {found.read_statements} statements, "
                f"{found.read_ms:.0f} ms; target {'unchanged' if footprint(watcher) == before else 'CHANGED'}"
            )
    finally:
        await simulator.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=3000)
    parser.add_argument("--bindir", type=Path, default=DEBIAN_15)
    options = parser.parse_args()
    asyncio.run(run(options.tables, options.bindir))


if __name__ == "__main__":
    main()

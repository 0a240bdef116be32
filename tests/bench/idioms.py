"""Statements as applications write them, normalised by pg_stat_statements itself: which can be planned again?

    python -m tests.bench.idioms [--bindir /usr/lib/postgresql/15/bin] [--embedded]

Each statement is run on a server with pg_stat_statements and then forecast from what that view says. Exit status 1 when one
of them is lost: neither planned nor listed with a reason.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass
from pathlib import Path

import psycopg

from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.simulate import Simulator
from indexpilot_tui.engine.whatif.workload import from_pg_stat_statements
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target

SCHEMA = """
create extension pg_stat_statements; create extension pg_trgm; create extension citext; create extension hstore;
create type state as enum ('new', 'paid', 'done');
create schema billing;
create table acct (id bigint primary key, tenant int not null, mail citext, name text, born date,
  made timestamptz not null,
  gone timestamptz, state state not null, tags text[], doc jsonb, props hstore, score numeric(8,2), flags int, at point,
  span tstzrange, code char(6), u uuid, search tsvector, addr inet);
insert into acct select g, g % 20, 'u' || g || '@x.org', 'name ' || g % 300, date '1970-01-01' + g,
  now() - g * interval '1 h',
  case when g % 10 = 0 then now() end, (array['new', 'paid', 'done'])[1 + g % 3]::state, array['a' || g % 9, 'b'],
  jsonb_build_object('k', g % 50, 'n', jsonb_build_object('m', 'x' || g % 7)), hstore('c', (g % 5)::text), g % 90, g % 16,
  point(g, g), tstzrange(now() - g * interval '1 h', now()), 'c' || g % 99, md5(g::text)::uuid,
  to_tsvector('simple', 'w' || g % 40), ('10.0.' || g % 200 || '.1')::inet from generate_series(1, 5000) g;
create table billing."Invoice" (
  "Id" int primary key, "acctId" bigint references acct, total numeric, due date, paid boolean);
insert into billing."Invoice" select g, 1 + g % 5000, g % 700, date '2024-01-01' + g % 500, g % 4 > 0
  from generate_series(1, 9000) g;
create table ev (id bigint, acct_id bigint, at timestamptz not null, kind text, payload jsonb) partition by range (at);
create table ev_1 partition of ev for values from ('2024-01-01') to ('2025-01-01');
create table ev_2 partition of ev for values from ('2025-01-01') to ('2026-01-01');
insert into ev select g, g % 5000, timestamptz '2024-01-01' + g * interval '2 h', 'k' || g % 12, '{}'
  from generate_series(1, 8000) g;
create view live as select id, tenant, mail, made from acct where gone is null;
create index on acct (tenant); create index on ev (acct_id);
"""
IDIOMS = tuple(
    line.removesuffix(";")
    for line in (Path(__file__).parent / "data" / "idioms.sql").read_text("utf-8").splitlines()
    if not line.startswith("--")
)


@dataclass(frozen=True)
class Covered:
    """What became of the statements: how many there were, how many were planned, why the others were not, what was lost."""

    ran: int
    known: int
    planned: int
    left: dict[str, str]
    lost: tuple[str, ...]


async def measure(conninfo: str, *, own_major: bool = True) -> Covered:
    """Run the idioms on an empty database whose server has pg_stat_statements loaded, and forecast them from the view."""
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute(SCHEMA.encode())
        conn.execute("vacuum analyze")
        own = "(select oid from pg_database where datname = current_database())"
        conn.execute(f"select pg_stat_statements_reset(0, {own}, 0)".encode())
        for idiom in IDIOMS:
            conn.execute(idiom.encode())
        # before we connect ourselves: what our own session sends is no statement of the application
        rows = conn.execute(f"select queryid::text, query from pg_stat_statements where dbid = {own}".encode()).fetchall()
        theirs = {key for key, query in rows if "pg_stat_statements_reset" not in query}
    session = await connect(Target(name="idioms", environment="development", dsn=conninfo), Purpose.MONITOR, Settings())
    simulator = Simulator(own_major=own_major)
    try:
        known = await from_pg_stat_statements(session)
        statements = [Statement(s.key, s.sql, s.calls, s.total_ms) for s in known if s.key in theirs]
        forecast = await simulator.simulate(session, "create index on acct (made)", statements)
    finally:
        await simulator.close()
        await session.close()
    found = {q.queryid for q in forecast.queries} | {x.key for x in forecast.left_out if x.reason}
    return Covered(
        len(IDIOMS), len(statements), len(forecast.queries), {x.query: x.reason for x in forecast.left_out},
        tuple(s.sql for s in statements if s.key not in found),
    )  # fmt: skip


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bindir", type=Path, default=None)
    parser.add_argument("--embedded", action="store_true")
    args = parser.parse_args()
    settings = {"shared_preload_libraries": "pg_stat_statements", "autovacuum": "off"}
    async with await LocalCluster.start("idioms", bindir=args.bindir, settings=settings) as cluster:
        with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
            conn.execute("create database idioms")
        covered = await measure(cluster.conninfo("idioms"), own_major=not args.embedded)
    print(f"{covered.ran} idioms ran, {covered.known} normalised statements in pg_stat_statements: "
          f"{covered.planned} planned, {len(covered.left)} left out with a reason, {len(covered.lost)} lost")  # fmt: skip
    for query, reason in covered.left.items():
        print(f"  {query[:90]}: {reason}")
    return 1 if covered.lost else 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))

"""A database worth capturing, and what the tests ask of it: small, with hostile names, partitions, views, statistics of all
kinds that PostgreSQL 13 has as well."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import psycopg

SCHEMA = r'''
create schema "We""ird; schema";
create type "We""ird; schema".mood as enum ('sad', 'ok', 'happy');
create domain "We""ird; schema".percent as int check (value between 0 and 100);
create table "We""ird; schema"."Ta'ble %s {x}" (
  "Id ""1""" int primary key, gone int, "se;lect" text not null, state "We""ird; schema".mood,
  p "We""ird; schema".percent, tags text[], doc jsonb, at timestamptz, amount numeric(12,2), secret text,
  twice int generated always as (p * 2) stored, check (p >= 0));
insert into "We""ird; schema"."Ta'ble %s {x}" ("Id ""1""", "se;lect", state, p, tags, doc, at, amount, secret)
  select g, 'v' || g % 500,
         (array['sad', 'ok', 'happy'])[1 + (g % 100 > 0)::int + (g % 10 > 0)::int]::"We""ird; schema".mood,
         g % 101, array['t' || g % 50, 'u' || g % 7], jsonb_build_object('k', g % 1000),
         timestamptz '2024-03-01 12:00+00' - g * interval '1 min', g % 977,
         (array['CANARY-alice', 'CANARY-bob', 'CANARY-carol'])[1 + g % 3]
    from generate_series(1, 30000) g;
alter table "We""ird; schema"."Ta'ble %s {x}" drop column gone;
create index "odd; idx" on "We""ird; schema"."Ta'ble %s {x}" (lower("se;lect"));
create statistics "We""ird; schema".st (ndistinct, dependencies, mcv) on p, "se;lect"
  from "We""ird; schema"."Ta'ble %s {x}";
create view "We""ird; schema".happy as
  select "Id ""1""" as id, at from "We""ird; schema"."Ta'ble %s {x}" where state = 'happy';
create table part (id int not null, at date not null, v int) partition by range (at);
create table part_a partition of part for values from ('2024-01-01') to ('2024-07-01');
create table part_b partition of part for values from ('2024-07-01') to ('2025-01-01');
create index part_at on part (at);
insert into part select g, date '2024-01-01' + g % 366, g % 5000 from generate_series(1, 20000) g;
create table parent (id int primary key, code text); insert into parent select g, 'c' || g from generate_series(1, 3000) g;
create table child (id int primary key, parent_id int references parent, extra int, status text not null);
insert into child select g, 1 + g % 3000, g, case when g % 1000 = 0 then 'pending' else 'done' end
  from generate_series(1, 50000) g;
create index child_extra on child (extra);
create index child_pending on child (id) where status = 'pending';
'''
WEIRD = '"We""ird; schema"."Ta\'ble %s {x}"'
# (change, statement that it matters to)
FORECASTS = [
    (f'create index new_ix on {WEIRD} ("se;lect")', f"select * from {WEIRD} where \"se;lect\" = 'v7'"),
    (f"create index new_ix on {WEIRD} (at desc) include (p)", f"select at, p from {WEIRD} order by at desc limit 20"),
    (f"create index new_ix on {WEIRD} (p) where state = 'sad'", f"select * from {WEIRD} where state = 'sad' and p < 40"),
    (f"create index new_ix on {WEIRD} using hash (amount)", f"select * from {WEIRD} where amount = 99"),
    (f"create index new_ix on {WEIRD} (at)", 'select * from "We""ird; schema".happy where at > \'2024-02-29\''),
    (
        "create index new_ix on child (parent_id)",
        "select * from child join parent p on p.id = parent_id where code = 'c7'",
    ),
    ("create index new_ix on part (v)", "select * from part where v = 17"),
    ("drop index child_extra", "select * from child where extra = 4"),
    ("reindex index child_extra", "select * from child where extra = 4"),
]


def make(conninfo: str) -> None:
    """The schema with data and statistics, and a workload in pg_stat_statements."""
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("create extension if not exists pg_stat_statements")
        conn.execute(SCHEMA.encode())
        conn.execute("vacuum analyze")
        for _ in range(3):
            conn.execute("select * from child where parent_id = 4 /* user CANARY-mallory */")
            conn.execute("select count(*) from child where status = 'CANARY-constant'")
            conn.execute("update child set extra = extra + 1 where id = 5")


def plan(conn: psycopg.Connection[Any], query: str) -> dict[str, Any]:
    """The server's own plan."""
    row = conn.execute(b"explain (format json) " + query.encode()).fetchone()
    assert row is not None
    found: dict[str, Any] = row[0][0]["Plan"]
    return found


def lines(path: Path) -> list[dict[str, Any]]:
    """What is in the file of a bundle."""
    raw = path.read_bytes()
    text = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    return [json.loads(line) for line in text.splitlines()]


def write_lines(path: Path, content: list[dict[str, Any]]) -> Path:
    """A file of such lines, not compressed."""
    path.write_text("".join(json.dumps(line) + "\n" for line in content))
    return path

"""Judging migrations: every finding, its absence, and what the server itself refuses; and files that are no migrations."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from indexpilot_tui.check.context import Forecaster
from indexpilot_tui.check.migration.judge import judge
from indexpilot_tui.check.migration.script import Step, read_migration, steps_of
from indexpilot_tui.check.model import CheckReport, RuleResult, RuleStatus
from indexpilot_tui.check.run import ShadowForecaster
from indexpilot_tui.engine.postgres.session import Purpose, Session, connect
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.errors import UsageError
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.validated import validated
from tests.conftest import socket_target

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK, WARNING, CRITICAL, UNKNOWN = RuleStatus.OK, RuleStatus.WARNING, RuleStatus.CRITICAL, RuleStatus.UNKNOWN
SCHEMA = """
create schema other;
create table customer (id int primary key, mail text not null);
insert into customer select g, 'm' || g from generate_series(1, 5000) g;
create unique index customer_mail on customer (mail);
create table orders (id int primary key, customer_id int not null references customer, status text, at date not null,
  code text not null);
insert into orders select g, 1 + g % 5000, case when g % 100 = 0 then 'open' else 'done' end, date '2024-01-01' + g % 900,
  'c' || g from generate_series(1, 60000) g;
create index orders_customer on orders (customer_id);
create index orders_status on orders (status);
create index orders_at on orders (at, status);
create unique index orders_code on orders (code);
create table other.tiny (id int, note text);
insert into other.tiny values (1, 'x');
create table unread (id int primary key, v int); insert into unread select g, g from generate_series(1, 20000) g;
create index unread_v on unread (v);
create table part (id int not null, at date not null) partition by range (at);
create table part_a partition of part for values from ('2024-01-01') to ('2025-01-01');
"""
WORKLOAD = [
    Statement("1", "select * from orders where code = $1", 10.0),
    Statement("2", "select * from orders where customer_id = $1 and at > $2", 5.0),
    Statement("3", "select * from orders where status = $1 order by at limit 10", 5.0),
    Statement("4", "insert into orders values ($1, $2, $3, $4, $5) on conflict (code) do nothing", 1.0),
    Statement("5", "select count(*) from unread", 1.0),
]


@dataclass
class Place:
    session: Session
    forecaster: Forecaster
    owner: psycopg.Connection[Any]

    async def report(self, text: str, workload: list[Statement] | None = None) -> CheckReport:
        steps = list(steps_of(text))
        return await judge(self.session, steps, self.forecaster, "test", WORKLOAD if workload is None else workload)

    async def rule(self, name: str, text: str) -> RuleResult:
        return next(r for r in (await self.report(text)).rules if r.id == name)


@pytest.fixture(scope="module")
def database(cluster18: LocalCluster) -> Iterator[str]:
    name = f"migrations_{secrets.token_hex(4)}"
    with psycopg.connect(cluster18.conninfo(), autocommit=True) as conn:
        conn.execute(f"create database {name}".encode())
    with psycopg.connect(cluster18.conninfo(name), autocommit=True) as conn:
        conn.execute(SCHEMA.encode())
        conn.execute("vacuum analyze")
    yield name
    with psycopg.connect(cluster18.conninfo(), autocommit=True) as conn:
        conn.execute(f"drop database {name} with (force)".encode())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(cluster18: LocalCluster, database: str) -> AsyncIterator[Place]:
    # all cases together ask more than a console may in a minute, and would wait for the next one
    patient = validated(Settings, {"rate_limiter": {"query": {"max_requests": 100_000}}})
    session = await connect(socket_target(cluster18, database), Purpose.MONITOR, patient)
    forecaster = ShadowForecaster()
    with psycopg.connect(cluster18.conninfo(database), autocommit=True) as owner:
        yield Place(session, forecaster, owner)
    await forecaster.close()
    await session.close()


GOOD = """
-- an index that helps, and the one that it makes redundant
create index concurrently orders_customer_at on orders (customer_id, at);
drop index concurrently orders_customer;
set lock_timeout = '2s';
alter table orders add column note text;
create table fresh (id int primary key, customer_id int references customer);
create index on fresh (customer_id);
alter table fresh add unique (customer_id);
"""


async def test_a_good_migration_is_ok_and_says_what_it_gains(place: Place) -> None:
    report = await place.report(GOOD)
    assert report.exit_status == 0, [(r.id, r.summary) for r in report.rules if r.status is not OK]
    gain = next(r for r in report.rules if r.id == "migration_gain").evidence
    assert [(e["line"], e["status"]) for e in gain] == [(3, "ok")]
    assert gain[0]["cost_after"] < gain[0]["cost_before"]
    drops = next(r for r in report.rules if r.id == "migration_drops").evidence
    assert "orders_customer_at" in drops[0]["summary"]


# rule, its status, words of the summary, the statement; and the other statement of the rule that is fine
CASES = {
    "not concurrently": ("migration_locks", CRITICAL, "SHARE lock", "create index on orders (at)",
                         "create index concurrently on orders (at)"),
    "not concurrently, small": ("migration_locks", WARNING, "SHARE lock", "create index on other.tiny (id)",
                                "create index concurrently on other.tiny (id)"),
    "drop not concurrently": ("migration_locks", CRITICAL, "ACCESS EXCLUSIVE", "drop index unread_v",
                              "drop index concurrently unread_v"),
    "reindex": ("migration_locks", CRITICAL, "REINDEX", "reindex index orders_at", "reindex (concurrently) index orders_at"),
    "several at once": ("migration_locks", CRITICAL, "one index a statement",
                        "drop index concurrently unread_v, orders_at", "drop index concurrently unread_v"),
    "partitioned": ("migration_locks", CRITICAL, "0A000", "create index concurrently on part (id)",
                    "create index concurrently on part_a (id)"),
    "unique constraint": ("migration_locks", CRITICAL, "builds its index", "alter table orders add unique (code)",
                          "alter table orders add unique using index orders_code"),
    "foreign key": ("migration_locks", CRITICAL, "SHARE ROW EXCLUSIVE",
                    "alter table orders add foreign key (customer_id) references customer",
                    "alter table orders add foreign key (customer_id) references customer not valid"),
    "check": ("migration_locks", CRITICAL, "reads the whole table", "alter table orders add check (id > 0)",
              "alter table orders add check (id > 0) not valid"),
    "not null": ("migration_locks", CRITICAL, "SET NOT NULL", "alter table orders alter status set not null",
                 "alter table orders alter status drop not null"),
    "new type": ("migration_locks", CRITICAL, "new type", "alter table orders alter id type bigint",
                 "alter table orders alter id set statistics 500"),
    "default": ("migration_locks", CRITICAL, "default that calls", "alter table orders add r float default random()",
                "alter table orders add r timestamptz default now()"),
    "rewrite": ("migration_locks", CRITICAL, "VACUUM FULL", "vacuum full orders", "vacuum orders"),
    "drop table": ("migration_locks", CRITICAL, "goes, with its rows", "drop table unread", "drop table if exists nothing"),
    "in a transaction": ("migration_session", CRITICAL, "25001", "begin; create index concurrently on orders (at); commit",
                         "begin; commit; create index concurrently on orders (at)"),
    "timeout on a build": ("migration_session", WARNING, "INVALID index",
                           "set lock_timeout = '1s'; create index concurrently on orders (at)",
                           "set lock_timeout = 0; create index concurrently on orders (at)"),
    "no timeout on an alter": ("migration_session", WARNING, "without lock_timeout", "alter table orders add n int",
                               "set lock_timeout = '1s'; alter table orders add n int"),
    "local timeout": ("migration_session", WARNING, "without lock_timeout",
                      "begin; set local lock_timeout = '1s'; commit; alter table orders add n int",
                      "begin; set local lock_timeout = '1s'; alter table orders add n int; commit"),
    "taken": ("migration_names", CRITICAL, "42P07", "create index concurrently orders_at on orders (at)",
              "drop index concurrently orders_at; create index concurrently orders_at on orders (at)"),
    "if not exists": ("migration_names", WARNING, "IF NOT EXISTS",
                      "create index concurrently if not exists x on orders (at)",
                      "create index concurrently x on orders (at)"),
    "not there": ("migration_names", CRITICAL, "42704", "drop index concurrently nothing",
                  "create index concurrently x on orders (code, at); drop index concurrently x"),
    "no table": ("migration_names", CRITICAL, "no table nothing", "create index concurrently on nothing (at)",
                 "create table nothing (at int); create index on nothing (at)"),
    "other path": ("migration_names", CRITICAL, "no table orders",
                   "set search_path = other; create index concurrently on orders (at)",
                   "set search_path = other; create index concurrently on tiny (id)"),
    "covered": ("migration_redundant", WARNING, "public.orders_at answers", "create index concurrently on orders (at)",
                "create index concurrently on orders (status, at)"),
    "twice in the file": ("migration_redundant", WARNING, "earlier statement",
                          "create index concurrently on orders (code, at); create index concurrently on orders (code)",
                          "create index concurrently on orders (code, at); create index concurrently on orders (at, code)"),
    "no gain": ("migration_gain", WARNING, "no statement of the workload", "create index concurrently on unread (v, id)",
                "create index concurrently on orders (status, at)"),
    "duplicates": ("migration_unique", CRITICAL, "23505", "create unique index concurrently on orders (customer_id)",
                   "create unique index concurrently on orders (id)"),
    "arbiter": ("migration_drops", CRITICAL, "ON CONFLICT", "drop index concurrently orders_code",
                "drop index concurrently unread_v"),
    "slower": ("migration_drops", WARNING, "foreign key orders_customer_id_fkey", "drop index concurrently orders_customer",
               "create index concurrently x on orders (customer_id, at); drop index concurrently orders_customer"),
    "refused": ("migration_drops", CRITICAL, "refused", "drop index concurrently orders_pkey",
                "drop index concurrently unread_v"),
    "cascade": ("migration_drops", CRITICAL, "CASCADE", "drop index unread_v cascade", "drop index unread_v"),
    "column": ("migration_drops", WARNING, "orders_at", "alter table orders drop column at",
               "alter table customer drop column nothing"),
    "constraint": ("migration_drops", CRITICAL, "2BP01", "alter table customer drop constraint customer_pkey",
                   "alter table orders drop constraint orders_customer_id_fkey"),
    "key without index": ("migration_keys", WARNING, "no index leads with",
                          "alter table orders add foreign key (id, at) references customer (id, mail) not valid",
                          "create index concurrently on orders (at, id);"
                          "alter table orders add foreign key (id, at) references customer (id, mail) not valid"),
    "not parsed": ("migration_read", UNKNOWN, "parser", "alter tabel orders", "alter table orders add n int"),
    "opaque": ("migration_read", UNKNOWN, "DO block", "do $$ begin execute 'drop table orders'; end $$", "select 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_a_fault_is_found_and_its_absence_is_not(place: Place, name: str) -> None:
    rule, status, words, bad, fine = CASES[name]
    found = await place.rule(rule, bad)
    assert found.status is status, found
    assert words in " ".join(e["summary"] for e in found.evidence if e["status"] == status.value), found
    assert words not in (other := await place.rule(rule, fine)).summary, other


REFUSED = {
    "create index concurrently on part (id)": psycopg.errors.FeatureNotSupported,
    "drop index concurrently unread_v, orders_at": psycopg.errors.FeatureNotSupported,
    "create index orders_at on orders (at)": psycopg.errors.DuplicateTable,
    "drop index orders_pkey": psycopg.errors.DependentObjectsStillExist,
    "alter table customer drop constraint customer_pkey": psycopg.errors.DependentObjectsStillExist,
    "drop index nothing": psycopg.errors.UndefinedObject,
}


@pytest.mark.parametrize("statement", REFUSED)
async def test_what_is_said_to_be_refused_is_refused_by_the_server(place: Place, statement: str) -> None:
    assert (await place.report(statement)).exit_status == 2
    with pytest.raises(REFUSED[statement]):
        place.owner.execute(statement.encode())


async def test_the_way_round_a_partitioned_table_is_one_that_the_server_takes(place: Place) -> None:
    found = await place.rule("migration_locks", "create index on part (id)")
    assert "ATTACH PARTITION" in found.fix
    assert "CREATE INDEX CONCURRENTLY ON" not in found.fix


async def test_what_an_index_on_a_missing_table_gains_is_unknown(place: Place) -> None:
    assert (await place.rule("migration_gain", "create index concurrently on nothing (at)")).status is UNKNOWN


async def test_without_a_workload_the_gain_is_unknown(place: Place) -> None:
    steps = list(steps_of("create index concurrently on orders (status, at)"))
    report = await judge(place.session, steps, place.forecaster, "test")  # pg_stat_statements is not in this database
    rule = next(r for r in report.rules if r.id == "migration_gain")
    assert rule.status is UNKNOWN
    assert "pg_stat_statements" in rule.summary
    assert report.exit_status == 3


async def test_lines_and_states_of_a_file() -> None:
    text = (
        "-- one\n\\set ON_ERROR_STOP on\nset lock_timeout to '1s';\n\n/* two\n */ begin;\n  set local search_path = a, b;\n"
        "create index i on t ((a || ';'));\ncommit;\nreset lock_timeout;\nselect 1\n"
    )
    steps = list(steps_of(text))
    assert [(s.line, s.kind) for s in steps] == [
        (3, "variable_set_stmt"), (6, "transaction_stmt"), (7, "variable_set_stmt"), (8, "index_stmt"),
        (9, "transaction_stmt"), (10, "variable_set_stmt"), (11, "select_stmt"),
    ]  # fmt: skip
    inside: Step = steps[3]
    assert (inside.in_transaction, inside.lock_timeout, inside.path) == (True, True, ("a", "b"))
    assert (steps[6].in_transaction, steps[6].lock_timeout, steps[6].path) == (False, False, None)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read"), (b"", "no statement"), (b"-- nothing\n", "no statement"), (b"\xff\xfe", "UTF-8"),
     (b"select 1\x00", "NUL"), (b"select 'open", "told apart")],
)  # fmt: skip
async def test_a_file_that_is_no_migration(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "m.sql"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=words):
        read_migration(file)

"""Who is told which column statistics: login x table kind x enrolment, each cell on a real server of 15 and 18."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.journal.enrolment import enrol, enrolled, parse_pattern, withdraw
from indexpilot_tui.engine.postgres.session import Purpose, session
from indexpilot_tui.errors import PrivilegeError, RefusedError, ServerError, UsageError
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from tests.conftest import socket_target
from tests.engine.journal_room import Room

pytest_plugins = ["tests.engine.journal_fixtures"]

KINDS = """
create role r_owner nologin; create schema app authorization r_owner; grant usage on schema app to public;
create schema closed authorization r_owner; create schema "pg 1" authorization r_owner; grant usage on schema "pg 1" to public;
set role r_owner;
create table app.plain (id int, word text); create index on app.plain (upper(word));
create table app.parted (id int, word text) partition by range (id);
create table app.part partition of app.parted for values from (0) to (10000);
create table app.walled (id int, word text); alter table app.walled enable row level security;
create table app.forced (id int, word text); alter table app.forced enable row level security, force row level security;
create table app.above (id int, word text) partition by range (id);
create table app.below partition of app.above for values from (0) to (10000);
alter table app.above enable row level security;
create table app.heir_of (id int, word text); create table app.heir () inherits (app.heir_of);
alter table app.heir enable row level security;
create table closed.plain (id int, word text); create table "pg 1".plain (id int, word text);
create table app.ungranted (id int, word text); create table app.columns_only (id int, word text);
"""
FILLED = ("app.plain", "app.parted", "app.walled", "app.forced", "app.above", "app.heir", "closed.plain", '"pg 1".plain',
          "app.ungranted", "app.columns_only")  # fmt: skip
# kind -> its schema and name; whether a login with a privilege is told after `app.*`, and whether after its own name
TOLD = {
    "ordinary": ("app", "plain", True, True),
    "expression index": ("app", "plain_upper_idx", True, False),
    "partitioned": ("app", "parted", True, True),
    "partition": ("app", "part", True, True),
    "policies": ("app", "walled", False, True),
    "forced policies": ("app", "forced", False, True),
    "partitioned, policies": ("app", "above", False, True),
    "partition of one with policies": ("app", "below", False, True),
    "child with policies": ("app", "heir", False, True),
    "parent of one with policies": ("app", "heir_of", False, True),
    "some columns granted": ("app", "columns_only", True, True),
    "materialized view": ("app", "seen", False, False),
    "catalog": ("pg_catalog", "pg_class", False, False),
    "catalog of verifiers": ("pg_catalog", "pg_authid", False, False),
    "information schema": ("information_schema", "sql_features", False, False),
    "this schema": ("indexpilot", "transitions", False, False),
}
LOGINS = {  # login -> whether it has a privilege on what is granted
    "r_granted": True, "r_member": True, "r_reader": True, "r_bare": False, "r_outside": False,
}  # fmt: skip


@dataclass
class Place:
    room: Room
    opened: dict[str, psycopg.Connection[Any]] = field(default_factory=dict)

    def rows(self, login: str, schema: str, name: str) -> int | None:
        """How many rows the reader tells; None when it may not be called."""
        if login not in self.opened:
            self.opened[login] = psycopg.connect(self.room.cluster.conninfo(self.room.dbname, login), autocommit=True)
        asked = "select count(*) from indexpilot.column_statistics(%s, %s)"
        try:
            found = self.opened[login].execute(asked, ([schema], [name])).fetchone()
        except psycopg.errors.InsufficientPrivilege:
            return None
        assert found is not None
        return int(found[0])

    def enrolled(self, *patterns: tuple[str, str]) -> None:
        with self.room.admin() as conn:
            conn.execute("delete from indexpilot.statistics_tables")
            for schema, table in patterns:
                conn.execute(
                    "insert into indexpilot.statistics_tables values (%s, %s, default, default, default, 'test')",
                    (schema, table),
                )


@pytest.fixture
def place(room: Room) -> Iterator[Place]:
    with room.admin() as conn:
        conn.execute(KINDS.encode())
        conn.execute("reset role")
        for table in FILLED:
            conn.execute(f"insert into {table} select i, 'word ' || i % 7 from generate_series(1, 500) i".encode())
        conn.execute("create materialized view app.seen as select * from app.plain")
        conn.execute("alter materialized view app.seen owner to r_owner; analyze")
        for login in LOGINS:
            conn.execute(f"create role {login} login".encode())
        conn.execute("grant indexpilot_monitor to r_granted, r_member, r_reader, r_bare")
        conn.execute('grant references on all tables in schema app, closed, "pg 1" to r_granted')
        conn.execute(
            "revoke all on app.ungranted, app.columns_only from r_granted; grant select (id) on app.columns_only to r_granted"
        )
        conn.execute("grant pg_read_all_data to r_reader")
        option = " with inherit false, set true" if room.cluster.version >= 160000 else ""
        conn.execute(f"grant r_owner to r_member{option}".encode())
    made = Place(room)
    yield made
    for opened in made.opened.values():
        opened.close()
    with room.admin() as conn:
        conn.execute('drop schema app, closed, "pg 1" cascade')
        for login in LOGINS:
            conn.execute(f"drop owned by {login}; drop role {login}".encode())
        conn.execute("drop role r_owner")


async def test_each_login_is_told_of_each_kind_what_it_may_know(place: Place) -> None:
    cells: dict[tuple[Any, ...], tuple[object, object]] = {}
    for how in ("nothing", "app.*", "by name", "*.*"):
        for kind, (schema, name, by_pattern, by_name) in TOLD.items():
            patterns = {"nothing": [], "app.*": [("app", "*")], "by name": [(schema, name)], "*.*": [("*", "*")]}[how]
            place.enrolled(*patterns)
            for login, may in LOGINS.items():
                told = {"nothing": False, "app.*": by_pattern, "by name": by_name, "*.*": by_pattern}[how] and may
                found = place.rows(login, schema, name)
                wanted = None if login == "r_outside" else told
                cells[how, kind, login] = (wanted, found if found is None else found > 0)
    assert len(cells) >= 150
    wrong = {cell: pair for cell, pair in cells.items() if pair[0] != pair[1]}
    assert not wrong, wrong


async def test_a_table_without_a_right_and_a_schema_without_usage_stay_hidden(place: Place) -> None:
    place.enrolled(("*", "*"), ("app", "ungranted"), ("closed", "plain"), ("pg 1", "plain"))
    assert place.rows("r_granted", "app", "ungranted") == 0
    assert place.rows("r_granted", "closed", "plain") == 0  # a privilege on the table, and none on its schema
    assert place.rows("r_member", "closed", "plain")
    assert place.rows("r_granted", "pg 1", "plain")  # no schema of the system's, though its name begins alike
    with place.room.admin() as conn:
        conn.execute("create temp table t_temp as select 1 as id; analyze t_temp; grant all on t_temp to public")
        (schema,) = conn.execute("select nspname from pg_namespace where oid = pg_my_temp_schema()").fetchone() or ("",)
        assert place.rows("r_reader", str(schema), "t_temp") == 0


async def test_a_pattern_is_no_like_pattern(place: Place) -> None:
    place.enrolled(("a_p", "plain"), ("%", "%"), ("app", "p_ain"), ("app", "pl*n\\"))
    assert place.rows("r_reader", "app", "plain") == 0
    place.enrolled(("a*", "pl*n"))
    assert place.rows("r_reader", "app", "plain")


async def test_only_an_administrator_enrols_and_the_log_tells_it(place: Place) -> None:
    room = place.room
    for login in LOGINS:
        async with session(socket_target(room.cluster, room.dbname, login), Purpose.CONTROL, Settings()) as s:
            with pytest.raises(PrivilegeError):
                await enrol(s, "app.*")
            with pytest.raises(PrivilegeError):
                await withdraw(s, "app.*")
    async with session(socket_target(room.cluster, room.dbname), Purpose.CONTROL, Settings()) as s:
        await enrol(s, "app.*")
        await enrol(s, "app.*")
        await enrol(s, "app.walled")
        assert [(e.schema, e.table, e.by_name) for e in await enrolled(s)] == [("app", "*", False), ("app", "walled", True)]
        for never in ("pg_catalog.pg_authid", "information_schema.*", "indexpilot.changes", "pg_toast.*"):
            with pytest.raises((RefusedError, ServerError), match="nobody"):
                await enrol(s, never)
        await withdraw(s, "app.*")
        with pytest.raises(RefusedError):
            await withdraw(s, "app.*")
        rows = await s.rows("select action from indexpilot.mutation_log order by seq")
    assert [r["action"] for r in rows] == ["statistics.enrolled", "statistics.enrolled", "statistics.withdrawn"]
    for wrong in ("app", ".x", "app.", "a.b.c", ""):
        with pytest.raises(UsageError):
            parse_pattern(wrong)


async def test_an_installer_without_superuser_is_the_administrator(cluster18: LocalCluster) -> None:
    from indexpilot_tui.engine.journal.setup import setup_sql

    with psycopg.connect(cluster18.conninfo(), autocommit=True) as conn:
        conn.execute("create role r_installer login createrole")
        conn.execute("create database installed owner r_installer")
    try:
        with psycopg.connect(cluster18.conninfo("installed", "r_installer"), autocommit=True) as conn:
            with psycopg.connect(cluster18.conninfo(), autocommit=True) as root:
                for role in ("owner", "monitor", "operator", "approver", "statistics"):  # other tests may have made them
                    if not root.execute("select 1 from pg_roles where rolname = %s", (f"indexpilot_{role}",)).fetchone():
                        root.execute(f"create role indexpilot_{role} nologin".encode())
                    root.execute(f"grant indexpilot_{role} to r_installer with admin option".encode())
            conn.execute(setup_sql().encode())
            conn.execute("select indexpilot.enrol_statistics('app', '*')")
    finally:
        with psycopg.connect(cluster18.conninfo(), autocommit=True) as conn:
            conn.execute("drop database if exists installed with (force)")
            conn.execute("drop owned by r_installer cascade; drop role r_installer")


async def test_what_a_session_sets_or_makes_changes_nothing(place: Place) -> None:
    """Neither settings of the caller nor temporary objects of the names that the reader uses are looked at."""
    place.enrolled(("app", "part"))
    room = place.room
    with psycopg.connect(room.cluster.conninfo(room.dbname, "r_granted"), autocommit=True) as conn:
        conn.execute("create temp table statistics_tables as select '%' as schema_like, '%' as table_like, true as by_name;"
                     " create temp view pg_stats as select 1 as one; create temp view pg_class as select 1 as one;"
                     " set search_path = pg_temp, app")  # fmt: skip
        for setting in ("standard_conforming_strings = off", "row_security = off", "standard_conforming_strings = on"):
            conn.execute(f"set {setting}".encode())
            told = conn.execute(
                "select distinct relation from indexpilot.column_statistics('{app, pg_catalog, indexpilot}',"
                " '{part, plain, walled, ungranted, pg_class, pg_authid, transitions}')"
            ).fetchall()
            assert told == [("part",)], setting

"""Planning on a target runs code of others: it can neither write nor act as anybody else, and is not done as a login with
powers. On 15 and 18."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest

from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.postgres.planner import explain, planning_session, qualified
from indexpilot_tui.engine.postgres.session import Purpose, session
from indexpilot_tui.errors import PrivilegeError, ServerError
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from tests.faults.workshop import APPROVER, OPERATOR, OWNER, PLANNER, Workshop, make_workshop


@pytest.fixture(params=[15, 18])
def cluster(request: pytest.FixtureRequest) -> LocalCluster:
    found: LocalCluster = request.getfixturevalue(f"cluster{request.param}")
    return found


@pytest.fixture
async def workshop(cluster: LocalCluster) -> AsyncIterator[Workshop]:
    async with make_workshop(cluster) as made:
        yield made


MARK = """begin {deed}; raise notice 'the deed was done'; return 1;
exception when others then raise notice 'not done by %', current_user; return 1; end"""
DEEDS = {
    "write": "perform set_config('transaction_read_only', 'off', false); insert into app.marks values (1)",
    "number": "perform nextval('app.numbers')",
    "owner": f"execute 'set role {OWNER}'; insert into app.marks values (2)",
    "operator": f"execute 'set role {OPERATOR}'; insert into app.marks values (3)",
}


async def test_what_runs_while_planning_changes_nothing_and_is_nobody(workshop: Workshop) -> None:
    """The same code writes its mark when it runs in a session as others have them: the test can fail."""
    workshop.sql(
        f"set role {OWNER}; create table app.marks (n int); create sequence app.numbers; create table app.h (v int, w int);"
        f" grant usage on schema app to {PLANNER}, {OPERATOR}; grant all on all tables in schema app to {PLANNER}, {OPERATOR};"
        f" grant all on all sequences in schema app to {PLANNER}"
    )
    for name, deed in DEEDS.items():
        body = MARK.format(deed=deed)
        workshop.sql(
            f"set role {OWNER}; create function app.do_{name}() returns int language plpgsql as $${body}$$;"
            f" create function app.{name}(int) returns int language plpgsql immutable as"
            f" $$begin return app.do_{name}(); end$$"
        )
        heard: list[str] = []
        with psycopg.connect(workshop.cluster.conninfo(workshop.dbname), autocommit=True) as control:
            control.add_notice_handler(lambda d, heard=heard: heard.append(d.message_primary or ""))  # type: ignore[misc]
            control.execute(f"explain select * from app.h where v = app.{name}(1)".encode())
        assert heard[-1] == "the deed was done", (name, heard)
    before = workshop.sql("select (select count(*) from app.marks), last_value from app.numbers")
    for name in DEEDS:
        said: list[str] = []
        async with planning_session(workshop.target, workshop.settings) as planner:
            planner.conn.add_notice_handler(lambda d, said=said: said.append(d.message_primary or ""))  # type: ignore[misc]
            await explain(planner, f"select * from app.h where v = app.{name}(1)", generic=False)
        assert planner.closed, "it is never used again"
        assert said, f"{name}: it was not run at all, so this test shows nothing"
        assert set(said) == {f"not done by {PLANNER}"}, (name, said)
    assert workshop.sql("select (select count(*) from app.marks), last_value from app.numbers") == before


async def test_a_session_that_was_changed_by_the_way_gives_no_plan(workshop: Workshop) -> None:
    workshop.sql(
        f"set role {OWNER}; grant usage on schema app to {PLANNER}; grant select on app.t to {PLANNER};"
        " create function app.turn(int) returns int language plpgsql immutable as"
        " $$begin perform set_config('search_path', 'app', false); return $1; end$$"
    )
    with pytest.raises(ServerError, match="path"):
        async with planning_session(workshop.target, workshop.settings) as planner:
            await planner.rows("select app.turn(1)")
    with pytest.raises(ServerError, match="read_only"):
        async with planning_session(workshop.target, workshop.settings) as planner:
            await planner.rows("rollback; begin read write")
    with pytest.raises(ServerError, match="only a session made for planning"):
        async with session(workshop.target, Purpose.MONITOR, workshop.settings) as other:
            await explain(other, "select 1", generic=False)


async def test_only_a_login_that_may_do_nothing_else_plans(workshop: Workshop) -> None:
    """Login x what it has: 24 cells on each server."""
    dbname = workshop.dbname
    given = {
        "nothing": ("", ""), "monitor": ("grant pg_monitor to {r}", ""), "reads all": ("grant pg_read_all_data to {r}", ""),
        "looks": ("grant indexpilot_monitor to {r}", ""),
        "a group that reads": ("create role {r}_g; grant select on app.t to {r}_g; grant {r}_g to {r}", ""),
        "superuser": ("alter role {r} superuser", "is a superuser"), "createrole": ("alter role {r} createrole", "may make roles"),
        "createdb": ("alter role {r} createdb", "may make databases"),
        "replication": ("alter role {r} replication", "may replicate"),
        "bypassrls": ("alter role {r} bypassrls", "bypasses row-level security"),
        "in superuser": ("create role {r}_g superuser; grant {r}_g to {r}", "is a superuser"),
        "in bypassrls": ("create role {r}_g bypassrls; grant {r}_g to {r}", "bypasses"),
        "noinherit": ("create role {r}_g superuser; alter role {r} noinherit; grant {r}_g to {r}", "is a superuser"),
        "operator": ("grant indexpilot_operator to {r}", "belongs to the control schema"),
        "approver": ("grant indexpilot_approver to {r}", "belongs to the control schema"),
        "control owner": ("grant indexpilot_owner to {r}", "belongs to the control schema"),
        "statistics": ("grant indexpilot_statistics to {r}", "bypasses row-level security"),
        "signals": ("grant pg_signal_backend to {r}", "may do more than read"),
        "writes all": ("grant pg_write_all_data to {r}", "may do more than read"),
        "files": ("grant pg_read_server_files to {r}", "may do more than read"),
        "programs": ("grant pg_execute_server_program to {r}", "may do more than read"),
        "owns a table": ("create table public.{r} (); alter table public.{r} owner to {r}", "owns objects"),
        "owns a schema": ("create schema {r} authorization {r}", "owns objects"),
        "in an owner": (f"grant {OWNER} to {{r}}", "owns objects"),
    }  # fmt: skip
    seen: dict[str, str] = {}
    for number, (setup, _) in enumerate(given.values()):
        role = f"p_{dbname}_{number}"
        workshop.sql(f"create role {role} login")
        if setup:
            workshop.sql(setup.format(r=role))
        target = workshop.cluster.target(dbname, OPERATOR, planner=role)
        try:
            async with planning_session(target, Settings()) as planner:
                assert await planner.value("select session_user::text") == role
            seen[list(given)[number]] = ""
        except PrivilegeError as exc:
            seen[list(given)[number]] = exc.message

    assert {name for name, (_, why) in given.items() if bool(why) != bool(seen[name])} == set(), seen
    assert {name: seen[name] for name, (_, why) in given.items() if why not in seen[name]} == {}
    for login in (OPERATOR, APPROVER):
        with pytest.raises(PrivilegeError, match="nothing is planned on the target"):
            async with planning_session(workshop.cluster.target(dbname, login), Settings()):
                raise AssertionError("a login with powers was taken")


async def test_bare_names_mean_what_they_meant_with_pg_catalog_alone(workshop: Workshop) -> None:
    import postgast

    workshop.sql("create extension pg_trgm schema public")
    told = {
        "select * from t where v = 1": "app.t",
        "with x as (select * from t) select * from x join app.other o using (id)": "FROM x",
        "select * from t for update of t": "FOR UPDATE OF t",
        "select similarity(w, 'a'), lower(w) from t where w % 'x'": "public.similarity",
        "select count(*) from pg_class": "FROM pg_class",
    }
    async with planning_session(workshop.target, workshop.settings) as planner:
        for text, part in told.items():
            tree = await qualified(planner, parsing.parse(text), ["app", "public"])
            assert part in str(postgast.deparse(tree))
            assert "public.lower" not in str(postgast.deparse(tree))

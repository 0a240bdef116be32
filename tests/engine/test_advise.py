"""Advice against a live server: every index can be built, brings what was said, and nothing is left unexplained."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import pytest_asyncio

from indexpilot_tui.engine.postgres.session import Purpose, Session, connect
from indexpilot_tui.engine.whatif.advise import planners
from indexpilot_tui.engine.whatif.advise.advisor import Options, advise, read_case
from indexpilot_tui.engine.whatif.advise.candidate import Candidate
from indexpilot_tui.engine.whatif.advise.model import Advice
from indexpilot_tui.engine.whatif.advise.pool import Pool
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.shadow import ShadowServer
from indexpilot_tui.engine.whatif.sizing import apply
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from tests.bench.oltp import HERE, measure, show, statements
from tests.conftest import socket_target

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEMA = """
create table parent (id int primary key, note text); insert into parent select g, 'n' || g from generate_series(1, 20000) g;
create table child (id int primary key, parent_id int not null references parent on delete cascade, v int not null);
insert into child select g, 1 + g % 20000, g % 5000 from generate_series(1, 100000) g;
create index child_v on child (v);
create index child_v_twice on child (v);
create unique index child_v_id on child (v, id);
create table ticket (id int, state char(10) not null, kind char(8) not null, v int not null, note text not null);
insert into ticket select g, case when g / 1000 % 50 = 0 then 'OPEN' else 'SHUT' end, case g % 3 when 0 then 'BUG' else 'WISH' end,
    g % 1000, repeat('x', 40) from generate_series(1, 100000) g;
alter table ticket alter v set statistics 1000;
create function public.own(int) returns int language sql volatile as 'select $1';
"""


@pytest.fixture(scope="module")
def database(cluster18: LocalCluster) -> Iterator[str]:
    name = f"advise_{secrets.token_hex(4)}"
    with psycopg.connect(cluster18.conninfo(), autocommit=True) as conn:
        conn.execute(f"create database {name}".encode())
    with psycopg.connect(cluster18.conninfo(name), autocommit=True) as conn:
        conn.execute(SCHEMA.encode())
        conn.execute("vacuum analyze")
    yield name
    with psycopg.connect(cluster18.conninfo(), autocommit=True) as conn:
        conn.execute(f"drop database {name} with (force)".encode())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[ShadowServer]:
    made = ShadowServer()
    yield made
    await made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session(cluster18: LocalCluster, database: str) -> AsyncIterator[Session]:
    made = await connect(socket_target(cluster18, database), Purpose.MONITOR, Settings())
    yield made
    await made.close()


async def ask(server: ShadowServer, session: Session, *queries: str, calls: float = 100.0, **options: object) -> Advice:
    asked = [Statement(str(n), q, calls) for n, q in enumerate(queries, 1)]
    return await advise(server, await read_case(session, asked), Options(**options))  # type: ignore[arg-type]


async def test_the_cost_of_a_cascade_is_found_and_solved(server: ShadowServer, session: Session) -> None:
    advice = await ask(server, session, "delete from parent where id = $1")
    assert [i.ddl for i in advice.indexes] == ['CREATE INDEX CONCURRENTLY ON "public"."child" ("parent_id")']
    assert advice.queries[0].cost_before > 1000
    assert advice.queries[0].cost_after < 100


async def test_a_write_budget_holds_back_what_writers_would_pay_for(server: ShadowServer, session: Session) -> None:
    queries = ("select id from child where parent_id = $1", "insert into child values ($1, $2, $3)")
    free = await ask(server, session, *queries)
    assert len(free.indexes) == 1
    assert free.indexes[0].upkeep > 0
    assert not (await ask(server, session, *queries, write_budget_pct=0.0)).indexes


async def test_an_update_that_loses_hot_makes_an_index_not_worth_it(server: ShadowServer, session: Session) -> None:
    read, write = "select id from child where parent_id = $1", "update child set parent_id = $1 where id = $2"
    case = await read_case(session, [Statement("1", read, 1.0), Statement("2", write, 1_000_000.0)])
    assert not (await advise(server, case, Options())).indexes


async def test_a_partial_index_on_a_padded_value_that_every_arm_of_an_or_asks_for(
    server: ShadowServer, session: Session, cluster18: LocalCluster, database: str
) -> None:
    """And the server, when it has that index, uses it for the statement as it is written."""
    query = "select sum(v) from ticket where (state = 'OPEN' and v < 10) or (v > 990 and kind = 'BUG' and state = 'OPEN')"
    advice = await ask(server, session, query, budget_bytes=100 << 10)
    (index,) = advice.indexes
    assert "WHERE state = 'OPEN'" in index.ddl
    assert advice.queries[0].cost_after < advice.queries[0].cost_before / 10
    with psycopg.connect(cluster18.conninfo(database)) as conn:
        conn.execute(index.ddl.replace(" CONCURRENTLY", "").encode())
        row = conn.execute(b"explain (format json) " + query.encode()).fetchone()
        assert row is not None
        assert "ticket_" in str(row)
        # Equal while the server has not marked the pages all-visible; then it is an Index Only Scan of 10 pages, which we take for 9.
        assert row[0][0]["Plan"]["Total Cost"] == pytest.approx(advice.queries[0].cost_after, rel=0.1)
        conn.rollback()


async def test_budget_order_and_leave_one_out(server: ShadowServer, session: Session) -> None:
    queries = ("select id from child where parent_id = $1", "select id from parent where note = $1")
    both = await ask(server, session, *queries)
    assert len(both.indexes) == 2
    costs = [both.cost_before, *(i.cost_after_cumulative for i in both.indexes)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] == pytest.approx(both.cost_after)
    assert all(i.loss_without > 0 and i.gain_alone > 0 for i in both.indexes)
    smallest = min(i.size_bytes for i in both.indexes)
    one = await ask(server, session, *queries, budget_bytes=smallest)
    assert len(one.indexes) == 1
    assert one.size_bytes <= smallest
    assert "budget" in one.no_advice[0].reason


async def test_reasons(server: ShadowServer, session: Session) -> None:
    advice = await ask(
        server, session, "select * from child where id = $1", "select count(*) from child", "vacuum",
        "select 1 from nowhere", "select id from child where public.own(parent_id) = 4",
        "insert into child values (1, 1, 1)",
    )  # fmt: skip
    reasons = {n.queryid: n.reason for n in advice.no_advice} | {x.key: x.reason for x in advice.unexplained}
    assert not advice.indexes
    assert set(reasons) == {"1", "2", "3", "4", "5", "6"}
    assert "cheap" in reasons["1"]
    assert "no condition" in reasons["2"]
    assert "utility" in reasons["3"]
    assert "not on the target" in reasons["4"]
    assert "INSERT" in reasons["6"]


async def test_of_two_equal_indexes_one_goes_and_what_enforces_stays(server: ShadowServer, session: Session) -> None:
    advice = await ask(server, session, "select id from child where v = $1")
    dropped = {d.name for d in advice.drops}
    assert dropped
    assert dropped <= {"public.child_v", "public.child_v_twice"}
    assert all("redundant beside" in d.reason for d in advice.drops)


async def test_the_same_question_has_the_same_answer_and_leaves_no_candidate(server: ShadowServer, session: Session) -> None:
    queries = ("select id from child where parent_id = $1 order by v", "select max(v) from child where parent_id < $1")
    first, second = await ask(server, session, *queries), await ask(server, session, *queries)
    assert [i.ddl for i in first.indexes] == [i.ddl for i in second.indexes]
    assert first.explains == second.explains
    shadow = await server.database((await read_case(session, [Statement("1", queries[0], 1.0)])).snapshot)
    left = await shadow.rows("select relname::text from pg_class where relname like 'indexpilot%%'", ())
    assert not left


@pytest.mark.slow
def _told(advice: Advice) -> dict[str, object]:
    data = advice.to_json()
    for key in ("elapsed_ms", "read"):
        data.pop(key)
    return data


async def test_a_second_advice_asks_nothing_again_and_says_what_a_first_one_would(
    server: ShadowServer, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = (
        "select id from child where parent_id = $1", "select * from child where v = $1 and parent_id > $2",
        "select p.note from parent p join child c on c.parent_id = p.id where c.v = $1 order by c.id",
    )  # fmt: skip
    sent: list[str] = []
    really = planners.explain_text

    async def counted(*args: object, **kwargs: object) -> object:
        sent.append(str(args[1]))
        return await really(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(planners, "explain_text", counted)
    first = await ask(server, session, *queries, budget_bytes=3_000_000)
    asked = len(sent)
    assert asked > 10
    again = await ask(server, session, *queries, budget_bytes=3_000_000)
    assert len(sent) == asked
    assert _told(again) == _told(first)
    # another budget, after others were asked for and by a planner that has heard nothing yet: the same advice
    wider = await ask(server, session, *queries, budget_bytes=30_000_000)
    fresh = ShadowServer()
    try:
        assert _told(await ask(fresh, session, *queries, budget_bytes=30_000_000)) == _told(wider)
    finally:
        await fresh.close()


async def test_one_planner_answers_as_several_do(
    server: ShadowServer, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = ("select id from child where parent_id = $1", "select count(*) from child where v between $1 and $2")
    several = await ask(server, session, *queries)
    monkeypatch.setattr(planners, "MOST", 1)
    alone = ShadowServer()
    try:
        assert _told(await ask(alone, session, *queries)) == _told(several)
    finally:
        await alone.close()


async def test_oltp_every_statement_is_accounted_for_and_every_index_can_be_built(cluster18: LocalCluster) -> None:
    name = f"oltp_{secrets.token_hex(4)}"
    with psycopg.connect(cluster18.conninfo(), autocommit=True) as conn:
        conn.execute(f"create database {name}".encode())
    try:
        with psycopg.connect(cluster18.conninfo(name), autocommit=True) as conn:
            conn.execute((HERE / "oltp_schema.sql").read_bytes())
            conn.execute("vacuum (analyze)")
        found = await measure(cluster18.conninfo(name), statements(), 200)
        assert not found.invalid, show(found)
        assert not found.lost, show(found)
        assert len(found.solved) >= 38, show(found)
        assert found.advice.size_bytes <= 200 << 20
    finally:
        with psycopg.connect(cluster18.conninfo(), autocommit=True) as conn:
            conn.execute(f"drop database {name} with (force)".encode())


async def test_a_candidate_that_the_server_refuses_takes_no_other_with_it(server: ShadowServer, session: Session) -> None:
    case = await read_case(session, [Statement("1", "select id from child where v = $1", 1.0)])
    table = next(r.oid for r in case.snapshot.relations.values() if r.name == "child")
    shadow = await server.database(case.snapshot)
    good = [Candidate(table, "btree", (key,), ("",)) for key in ('"v"', '"parent_id"', '"id"')]
    bad = [
        Candidate(table, "btree", ('"gone"',), ("",)),
        Candidate(table, "gin", ('"v"',), ("",)),
        Candidate(table, "btree", ("(public.own(v))",), ("",)),
    ]
    async with shadow.lock:
        await apply(shadow, case.snapshot)
        pool = Pool(shadow, None)
        try:
            numbers = await pool.add([bad[0], good[0], bad[1], good[1], good[2], bad[2]])
        finally:
            await pool.close()
    assert [pool.entries[n].candidate for n in numbers] == good
    assert sorted(pool.refused) == sorted(bad)
    assert all(pool.refused.values())

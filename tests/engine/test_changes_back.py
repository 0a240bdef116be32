"""The way back before anybody goes it: what the plan says, and the rehearsal on the shadow that proves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from indexpilot_tui.engine.changes import planning, rehearsal
from indexpilot_tui.engine.changes.guide import way_back
from indexpilot_tui.engine.changes.rollback import plan_of_return, propose_rollback, restoring
from indexpilot_tui.engine.engine import Engine
from indexpilot_tui.engine.model.change import Change, State
from indexpilot_tui.engine.model.wayback import DIFFERS, HELD, NOT_REHEARSED, Rehearsal
from indexpilot_tui.engine.postgres.ddl import parse_index_statement
from indexpilot_tui.engine.whatif.shadow import ShadowServer
from indexpilot_tui.localpg import LocalCluster
from tests.faults.workshop import OWNER, Workshop, make_workshop

RICH = f"""set role {OWNER};
create index rich on app.t (lower(w) desc, v nulls first, id) include (w) with (fillfactor = 71);
comment on index app.rich is 'kept by ''hand'': äöü';
alter index app.rich alter column 1 set statistics 321; alter table app.t cluster on rich"""


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(params=[15, 18])
def cluster(request: pytest.FixtureRequest) -> LocalCluster:
    found: LocalCluster = request.getfixturevalue(f"cluster{request.param}")
    return found


@pytest.fixture
async def workshop(cluster: LocalCluster) -> AsyncIterator[Workshop]:
    async with make_workshop(cluster) as made:
        yield made


@pytest.fixture
async def shadow() -> AsyncIterator[ShadowServer]:
    server = ShadowServer()
    yield server
    await server.close()


async def proposed(workshop: Workshop, ddl: str) -> Change:
    return await workshop.journal.change(await workshop.approved(ddl))


@pytest.mark.parametrize(
    ("setup", "ddl"),
    [
        ("", "create index on app.t (v) where w <> ''"),
        ("create index spare on app.t (v desc nulls last) with (fillfactor = 70); comment on index app.spare is 'x'",
         "drop index app.spare"),
        ("create index ex on app.t (lower(w), v); alter index app.ex alter column 1 set statistics 99;"
         " alter table app.t cluster on ex", "drop index app.ex"),
        ("create index br on app.t using brin (id) with (pages_per_range = 7)", "drop index app.br"),
        ("create index hh on app.t using hash (v)", "drop index app.hh"),
        ("create index cc on app.t (w collate \"C\" text_pattern_ops)", "drop index app.cc"),
        ("create index rr on app.t (v)", "reindex index app.rr"),
    ],
)  # fmt: skip
async def test_a_rollback_is_rehearsed_before_the_change_is_carried_out(
    workshop: Workshop, shadow: ShadowServer, setup: str, ddl: str
) -> None:
    if setup:
        workshop.sql(f"set role {OWNER}; {setup}")
    change = await proposed(workshop, ddl)
    done = await rehearsal.rehearse(shadow, workshop.monitor, change)
    assert (done.result, done.differences) == (HELD, ()), done
    assert done.compared >= 1
    assert done.statements[0][0] == change.plan.ddl
    assert done.server_version // 10000 == workshop.monitor.facts.server_version // 10000


async def test_a_tablespace_comes_back_too(workshop: Workshop, shadow: ShadowServer) -> None:
    if not workshop.sql("select 1 from pg_tablespace where spcname = 'fast'"):
        workshop.sql("set allow_in_place_tablespaces = on")
        with workshop.admin() as conn:
            conn.execute("set allow_in_place_tablespaces = on")
            conn.execute("create tablespace fast location ''")
            conn.execute("grant create on tablespace fast to public")
    workshop.sql(f"set role {OWNER}; create index spare on app.t (v) tablespace fast")
    change = await proposed(workshop, "drop index app.spare")
    assert change.plan.saved["tablespace"] == "fast"
    done = await rehearsal.rehearse(shadow, workshop.monitor, change)
    assert done.result == HELD, done
    assert "TABLESPACE fast" in done.statements[1][0]


async def test_replica_identity_is_a_part_of_the_way_back(workshop: Workshop, shadow: ShadowServer) -> None:
    """A drop of one is refused; the mark is saved all the same, and restored where it was."""
    workshop.sql(f"set role {OWNER}; alter table app.t alter v set not null; create unique index ri on app.t (id, v)")
    statement = parse_index_statement("reindex index app.ri")
    workshop.sql("alter table app.t replica identity using index ri")
    plan = await planning.make_plan(workshop.monitor, statement)
    assert plan.saved["replica_identity"] is True
    change = replace(await proposed(workshop, "reindex index app.ri"), plan=plan)
    back = plan_of_return(replace(change, plan=replace(plan, kind="drop")), ("app", "t", OWNER))
    texts = [statement.as_string(None) for statement in restoring(back)]
    assert texts == ['alter table "app"."t" replica identity using index "ri"']
    assert (await rehearsal.rehearse(shadow, workshop.monitor, change)).result == HELD


async def test_what_would_be_lost_is_found_by_the_rehearsal(workshop: Workshop, shadow: ShadowServer) -> None:
    """A plan that does not know of the comment and the mark restores neither; the shadow says so before anything is dropped."""
    workshop.sql(RICH)
    change = await proposed(workshop, "drop index app.rich")
    whole = await rehearsal.rehearse(shadow, workshop.monitor, change)
    assert whole.result == HELD, whole
    poor = {
        **change.plan.saved,
        "definition": str(change.plan.saved["definition"]).replace("fillfactor='71'", "fillfactor='90'"),
    }
    change = replace(change, plan=replace(change.plan, saved=poor))
    done = await rehearsal.rehearse(shadow, workshop.monitor, change)
    assert done.result == DIFFERS
    assert any("definition was" in text for text in done.differences), done.differences


async def test_what_the_shadow_lacks_is_said_and_not_called_held(workshop: Workshop, shadow: ShadowServer) -> None:
    workshop.sql(
        "create operator class app.mine for type int4 using btree as operator 1 <, operator 2 <=, operator 3 =, operator 4 >=,"
        f" operator 5 >, function 1 btint4cmp(int4, int4); set role {OWNER}; create index fx on app.t (v app.mine)"
    )
    change = await proposed(workshop, "drop index app.fx")
    done = await rehearsal.rehearse(shadow, workshop.monitor, change)
    assert done.result == NOT_REHEARSED
    assert "app.mine" in done.why


async def test_a_partitioned_table_is_rehearsed_with_all_its_parts(workshop: Workshop, shadow: ShadowServer) -> None:
    workshop.sql(
        f"set role {OWNER}; create table app.p (id int, k int) partition by range (k);"
        "create table app.p1 partition of app.p for values from (0) to (10);"
        "create table app.p2 partition of app.p for values from (10) to (20)"
    )
    change = await proposed(workshop, "create index on app.p (id)")
    done = await rehearsal.rehearse(shadow, workshop.monitor, change)
    assert done.result == HELD, done
    assert [text.split()[0] for text, _ in done.statements] == ["CREATE", "CREATE", "CREATE", "ALTER", "ALTER", "DROP"]


async def test_the_plan_of_a_return_says_what_was_saved_and_what_is_asked(workshop: Workshop) -> None:
    workshop.sql(RICH)
    change = await proposed(workshop, "drop index app.rich")
    back = await way_back(workshop.monitor, workshop.journal, change)
    assert (back.kind, back.rehearsal) == ("create", None)
    assert "has to be carried out first" in back.why_not
    saved = dict(back.saved)
    assert saved["comment"] == "kept by 'hand': äöü"
    assert saved["statistics targets"] == "column 1: 321"
    assert saved["CLUSTER mark"] == "yes"
    assert "fillfactor=71" in saved["storage parameters"]
    assert len(back.statements) == 4
    assert back.statements[0].startswith("CREATE INDEX CONCURRENTLY rich ON app.t")
    assert any("ANALYZE" in step for step in back.steps)
    assert any("letter by letter" in proof for proof in back.proof)
    assert "covered by the approval of w_approver until" in back.covered


async def test_after_the_drop_the_plan_is_carried_out_and_every_property_proven(workshop: Workshop) -> None:
    workshop.sql(RICH)
    change_id = await workshop.approved("drop index app.rich")
    await workshop.spawn(change_id)
    change = await workshop.until(change_id, State.OBSERVING)
    back = await way_back(workshop.monitor, workshop.journal, change)
    assert back.why_not == ""
    child = await propose_rollback(workshop.monitor, workshop.journal, change, "it was needed")
    planned = (await workshop.journal.change(child)).plan
    assert planned.ddl == back.statements[0]
    assert (await way_back(workshop.monitor, workshop.journal, change)).proposed == child
    await workshop.spawn(child)
    done = await workshop.until(child, State.DONE)
    verified = next(e.detail for e in done.events if e.action == "verified")
    assert verified["lost"] == []
    assert "all that was saved is back" in done.outcome
    sent = [e.detail["ddl"] for e in done.events if e.action in ("ddl.intent", "restore.intent")]
    assert tuple(sent) == back.statements
    after = await workshop.journal.change(change_id)
    gone = await way_back(workshop.monitor, workshop.journal, after)
    assert "is rolled_back" in gone.why_not


async def test_the_plan_of_a_drop_says_what_it_frees(workshop: Workshop) -> None:
    change_id = await workshop.approved("create index on app.t (v)")
    await workshop.spawn(change_id)
    change = await workshop.until(change_id, State.OBSERVING)
    back = await way_back(workshop.monitor, workshop.journal, change)
    assert back.kind == "drop"
    assert back.statements == ("DROP INDEX CONCURRENTLY app.t_v_idx",)
    assert back.frees_bytes == workshop.sql("select pg_relation_size('app.t_v_idx'::regclass)")[0][0]
    assert any(str(change.index_oid) in text for text in back.proof)
    assert any("standby" in step for step in back.steps)


async def test_a_rebuild_has_no_way_back_and_says_so_with_its_evidence(workshop: Workshop) -> None:
    workshop.sql(f"set role {OWNER}; create index spare on app.t (v)")
    change_id = await workshop.approved("reindex index app.spare")
    await workshop.spawn(change_id)
    change = await workshop.until(change_id, State.OBSERVING)
    back = await way_back(workshop.monitor, workshop.journal, change)
    assert (back.kind, back.statements) == ("none", ())
    shown = dict(back.saved)
    assert "nothing was lost" in shown["nothing to go back to"]
    assert str(change.plan.index_oid) in shown["index OID"]
    assert str(change.index_oid) in shown["index OID"]
    assert "after" in shown["relfilenode"]


async def test_the_engine_adds_the_cost_and_records_the_rehearsal(workshop: Workshop) -> None:
    workshop.sql(f"set role {OWNER}; create index spare on app.t (w)")
    workshop.sql("grant usage on schema app to w_operator; grant select on app.t to w_operator")
    size = workshop.sql("select pg_relation_size('app.spare'::regclass)")[0][0]
    change_id = await workshop.approved("drop index app.spare")
    engine = await Engine.open(workshop.target, workshop.settings, operate=True)
    try:
        for _ in range(2):  # while it stands, and when it is gone
            back = await engine.way_back(change_id)
            assert back.cost is not None
            assert back.cost.basis == "the forecast's model"
            assert 0.8 < back.cost.size_bytes / size < 1.25, back.cost
            assert back.cost.seconds is not None
            assert 0 < back.cost.seconds[0] <= back.cost.seconds[1]
            assert back.cost.wal_bytes > 0
            if back.why_not:
                await engine.apply(change_id)
                await workshop.until(change_id, State.OBSERVING)
        done = await engine.rehearse(change_id)
        assert done.result == HELD
        assert done.by == "w_operator"
        back = await engine.way_back(change_id)
        assert back.rehearsal == done
        assert Rehearsal.from_json(done.to_json(), done.at, done.by) == done
    finally:
        await engine.close()
    events = [e.action for e in (await workshop.journal.change(change_id)).events]
    assert "rehearsed" in events

"""UNIQUE indexes: duplicates are counted before, those that come later leave nothing, and a leftover never stays for long."""

from __future__ import annotations

import asyncio
import time

import psycopg
import pytest

from indexpilot_tui.engine.changes import duplicates
from indexpilot_tui.engine.control import Control
from indexpilot_tui.engine.deeds import Deeds
from indexpilot_tui.engine.model.change import Plan, State
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.validated import plain, validated
from tests.faults.workshop import OWNER, Workshop, actions, check_intents, quick, story

OLD_SNAPSHOT = ("set transaction isolation level repeatable read", "select 1 from app.other")


def with_precheck(settings: Settings, **changed: object) -> Settings:
    return validated(Settings, plain(settings) | {
            "production_safeguards": plain(settings.production_safeguards) | {"unique_precheck": changed}
        })  # fmt: skip


async def counted(workshop: Workshop, plan: Plan) -> duplicates.Duplicates:
    """The executor's query, as the owner."""
    query = await duplicates.counting(workshop.monitor, plan)
    if isinstance(query, str):
        return duplicates.Duplicates(None, None, query)
    with psycopg.connect(workshop.cluster.conninfo(workshop.dbname), autocommit=True) as conn:
        conn.execute(f"set role {OWNER}".encode())
        row = conn.execute(query).fetchone()
    assert row is not None
    return duplicates.Duplicates(row[0], row[1])


@pytest.mark.parametrize(
    ("setup", "ddl", "found"),
    [
        ("", "create unique index on app.t (id) include (v)", (0, 0)),
        ("", "create unique index on app.t (v)", (1000, 20000)),
        ("", "create unique index on app.t (v) where id <= 1500", (500, 1000)),
        ("", "create unique index on app.t (v, id desc nulls first)", (0, 0)),
        ("", "create unique index on app.t (w text_pattern_ops)", (0, 0)),
        ("", "create unique index on app.t (lower(w), (v % 10)) where v < 10", (0, 0)),
        ("", "create unique index on app.t ((v % 10)) include (w)", (10, 20000)),
        ("update app.t set w = null where id < 100", "create unique index on app.t (w)", (0, 0)),
        ("update app.t set w = 'A' where id = 1; update app.t set w = 'a' where id = 2",
         "create unique index on app.t (lower(w))", (1, 2)),
    ],
)  # fmt: skip
async def test_they_are_counted_as_the_index_would_see_them(
    workshop: Workshop, setup: str, ddl: str, found: tuple[int, int]
) -> None:
    if setup:
        workshop.sql(setup)
    workshop.sql("grant usage on schema app to w_operator; grant select on app.t to w_operator")
    plan = await workshop.plan(ddl)
    seen = await counted(workshop, plan)
    assert (seen.groups, seen.rows) == found, seen
    plain = plan.ddl.replace(" CONCURRENTLY", "")  # the server itself agrees
    with psycopg.connect(workshop.cluster.conninfo(workshop.dbname), autocommit=True) as conn:
        conn.execute(f"set role {OWNER}".encode())
        if not found[0]:
            conn.execute(plain.encode())
            return
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute(plain.encode())


async def test_nulls_that_are_not_distinct_count_on_15_and_later(either: Workshop) -> None:
    either.sql(
        "update app.t set w = null where id < 3; grant usage on schema app to w_operator; grant select on app.t to w_operator"
    )
    plan = await either.plan("create unique index on app.t (w) nulls not distinct")
    seen = await counted(either, plan)
    assert (seen.groups, seen.rows) == (1, 2)


async def test_a_proposal_takes_the_chance_of_duplicates_from_statistics(workshop: Workshop) -> None:
    for ddl, why in (("create unique index on app.t (v)", "about 1000 values in 20000 rows: duplicates are likely"),
                     ("create unique index on app.t (w)", "about 20000 values in 20000 rows: hardly any"),
                     ("create unique index on app.t (v, w)", "the most distinct of its columns has about 20000"),
                     ("create unique index on app.t (lower(w))", "statistics do not tell of expressions")):  # fmt: skip
        workshop.sql("grant usage on schema app to w_operator; grant select on app.t to w_operator")
        seen = await duplicates.chance(workshop.monitor, await workshop.plan(ddl))
        assert seen.groups is None
        assert why in seen.why
    workshop.sql("revoke select on app.t from w_operator")
    seen = await duplicates.chance(workshop.monitor, await workshop.plan("create unique index on app.t (v)"))
    assert "no statistics of its columns are visible" in seen.why


async def test_a_function_that_no_index_may_use_is_not_called(workshop: Workshop) -> None:
    workshop.sql(
        f"set role {OWNER}; create function app.spy(int) returns int language plpgsql volatile as"
        " $$begin perform pg_notify('called', ''); return $1; end$$"
    )
    workshop.sql("grant usage on schema app to w_operator; grant select on app.t to w_operator")
    plan = await workshop.plan("create unique index on app.t (app.spy(id))")
    seen = await counted(workshop, plan)
    assert seen.groups is None
    assert "app.spy is not an IMMUTABLE function" in seen.why


async def test_a_proposal_over_duplicates_says_what_statistics_say_and_counts_nothing(workshop: Workshop) -> None:
    workshop.sql("grant usage on schema app to w_operator; grant select on app.t to w_operator")
    control = Control(workshop.target, workshop.settings, lambda _: None, None)
    await control.open()
    try:
        made = await Deeds(control).propose(workshop.monitor, "create unique index on app.t (v)", "one each")
    finally:
        await control.close()
    told = next(e.detail for e in made.events if e.action == "duplicates")
    assert told["groups"] is None
    assert "duplicates are likely; its executor counts after the approval" in told["why"]


@pytest.mark.family(13)
@pytest.mark.parametrize("policies", ["enable row level security", "enable row level security, force row level security"])
async def test_the_rows_behind_policies_are_not_counted(workshop: Workshop, policies: str) -> None:
    workshop.sql(f"set role {OWNER}; alter table app.t {policies}; create policy p on app.t using (id < 5)")
    change_id = await workshop.approved("create unique index on app.t (id, v)")
    await workshop.spawn(change_id)
    change = await workshop.until(change_id, State.FAILED)
    assert "has policies (row-level security), so its rows are not counted" in change.outcome
    assert "ddl.intent" not in actions(change)


@pytest.mark.family(13)
async def test_a_count_that_left_its_role_is_not_used(either: Workshop) -> None:
    """What the index calls may try what it likes: the transaction only reads, and a role that was left is seen."""
    either.sql(
        f"set role {OWNER}; create function app.turn(int) returns int language plpgsql immutable as"
        " $$begin perform pg_catalog.set_config('role', 'none', true); return $1; end$$"
    )
    change_id = await either.approved("create unique index on app.t (app.turn(id))")
    await either.spawn(change_id)
    change = await either.until(change_id, State.FAILED)
    assert "left its transaction or its role" in change.outcome
    assert "ddl.intent" not in actions(change)


@pytest.mark.family(13)
async def test_duplicates_end_the_change_before_anything_is_built(either: Workshop) -> None:
    change_id = await either.approved("create unique index on app.t (v)")
    await either.spawn(change_id)
    change = await either.until(change_id, State.FAILED)
    assert "20000 rows share 1000 values" in change.outcome
    assert "ddl.intent" not in actions(change)
    counted = next(e.detail for e in change.events if e.action == "duplicates")
    assert counted == {"groups": 1000, "rows": 20000, "why": ""}


@pytest.mark.family(13)
@pytest.mark.parametrize("required", [True, False])
async def test_a_count_that_takes_too_long_refuses_unless_the_policy_says_otherwise(
    workshop: Workshop, required: bool
) -> None:
    """One row's key takes longer to compute than the count may take, on any machine."""
    workshop.settings = with_precheck(workshop.settings, max_seconds=0.1, required=required)
    workshop.sql(
        f"set role {OWNER}; create function app.slow(int) returns int language plpgsql immutable as"
        " $$begin if $1 = 7 then perform pg_sleep(0.4); end if; return $1; end$$"
    )
    change_id = await workshop.approved("create unique index on app.t (app.slow(id), w)")
    await workshop.spawn(change_id)
    change = await workshop.until(change_id, State.FAILED if required else State.OBSERVING, seconds=60)
    counted = next(e.detail for e in change.events if e.action == "duplicates")
    assert counted["groups"] is None
    assert "longer than 0.1 s" in counted["why"]
    assert ("ddl.intent" in actions(change)) is not required


@pytest.mark.family(13)
async def test_duplicates_that_come_after_the_count_leave_nothing_behind(either: Workshop) -> None:
    either.sql("delete from app.t where id > 1000")
    change_id = await either.approved("create unique index on app.t (v)")
    writer = either.blocker("insert into app.t values (30000, 5, 'x')")  # not committed yet when they are counted
    await either.spawn(change_id)
    await either.until_event(change_id, "ddl.intent")
    writer.commit()
    change = await either.until(change_id, State.FAILED)
    assert "23505" in change.outcome
    assert "=(" not in change.outcome  # DETAIL holds row values
    assert either.invalid() == []
    assert "clean.intent" in actions(change)
    check_intents(change)


@pytest.mark.family(13)
async def test_after_a_cancel_late_in_the_build_writes_work_again_at_once(either: Workshop) -> None:
    """Row G2: the leftover of a UNIQUE build is ready and rejects rows after the cancel. Its removal has priority."""
    either.settings = quick()
    either.sql("delete from app.t where id > 1000")
    change_id = await either.approved("create unique index on app.t (v)")
    held = either.blocker(*OLD_SNAPSHOT)
    await either.spawn(change_id)
    for _ in range(200):
        if either.sql("select 1 from pg_stat_progress_create_index where phase = 'waiting for old snapshots'"):
            break
        await asyncio.sleep(0.05)
    with pytest.raises(psycopg.errors.UniqueViolation):
        either.sql("insert into app.t values (30000, 5, 'x')")
    start = time.monotonic()
    await either.journal.request_abort(change_id, "the shop cannot sell")
    await either.until_event(change_id, "leftover")
    now = await either.journal.change(change_id)
    assert "rejects duplicate rows" in now.outcome or now.ended
    while True:
        try:
            either.sql("insert into app.t values (30000, 5, 'x')")
            break
        except psycopg.errors.UniqueViolation:
            assert time.monotonic() - start < 60, story(await either.journal.change(change_id))
            await asyncio.sleep(0.1)
    print(
        f"PostgreSQL {either.monitor.facts.server_version}: writes work again {time.monotonic() - start:.1f} s after the abort"
    )
    held.close()
    await either.until(change_id, State.FAILED)
    assert either.invalid() == []

"""The keys, from the first screen to a change that is proven and taken back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from textual.widgets import Button, Input

from indexpilot_tui.engine.model.change import Change, Event, State
from indexpilot_tui.engine.model.verdict import Status
from indexpilot_tui.engine.model.wayback import WayBack
from indexpilot_tui.engine.observe.model import Group
from indexpilot_tui.errors import RefusedError
from indexpilot_tui.tui.panes.hotspots import HotspotsPane
from indexpilot_tui.tui.screens.steps.route import step_of
from indexpilot_tui.tui.widgets.entry import Entry
from indexpilot_tui.tui.widgets.table import KeyedTable
from tests.tui import sample
from tests.tui.frozen import NOW, facts
from tests.tui.stage import (
    NARROW,
    WIDE,
    press,
    settle,
    stage,
    tick,
    to_approval,
    to_build,
    to_running,
    to_verify,
    typed,
)

NAME = sample.NAME


@pytest.mark.parametrize("size", [WIDE, NARROW])
async def test_whole_way_and_back(size: tuple[int, int]) -> None:
    on = stage()
    async with on.app.run_test(size=size) as pilot:
        await to_approval(pilot)
        assert on.screen == "ApproveScreen"
        assert on.engine.calls[-1].endswith("because slow customer page")
        assert "second login" in on.text("#text")
        await typed(pilot, NAME)
        await press(pilot, "enter")
        assert on.screen == "BuildScreen"
        assert on.engine.calls[-1] == "approve 17"
        await typed(pilot, NAME)
        await press(pilot, "enter")
        assert on.engine.calls[-1] == "apply 17"
        await tick(on, pilot)
        assert "63 %" in on.text("#text")
        assert "scanning table" in on.text("#text")
        on.engine.built(17)
        await tick(on, pilot)
        assert on.screen == "VerifyScreen"
        assert "oid 24601" in on.text("#text")
        assert "improved" in on.text("#text")
        await press(pilot, "R")
        assert on.screen == "RollBackScreen"
        assert "DROP INDEX CONCURRENTLY" in on.text("#plan")
        assert "not rehearsed yet" in on.text("#plan")
        await press(pilot, "h")
        assert "held: on PostgreSQL 18" in on.text("#plan")
        await press(pilot, "enter", "y", "n", "enter")
        assert "rollback 17" not in on.engine.calls
        await typed(pilot, NAME)
        await press(pilot, "enter")
        assert on.engine.calls[-1] == "rollback 17"
        assert on.screen == "BuildScreen"
        assert "ROLL BACK" in on.text("#steps")
        on.engine.step(18, State.DONE, outcome="the index is gone")
        await tick(on, pilot)
        assert on.screen == "VerifyScreen"
        assert "not in the catalog any more" in on.text("#text")
        await press(pilot, "escape")
        assert on.screen == "Dashboard"


async def test_a_finding_is_walked_with_its_own_fix() -> None:
    on = stage()
    async with on.app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "2", "i")
        assert on.engine.calls == ["simulate DROP INDEX CONCURRENTLY public.orders_tmp_idx"]


async def test_no_single_key_changes_anything() -> None:
    """Every printable key, once, on every screen of the walk: only what was typed in full is carried out."""
    on = stage()
    deeds = ("approve", "apply", "rollback", "abort")
    async with on.app.run_test(size=WIDE) as pilot:
        await to_build(pilot)
        on.engine.calls.clear()
        for key in ("enter", "y", "k", "b", "n", "delete", "space"):
            await press(pilot, key)
        assert [c for c in on.engine.calls if c.startswith(deeds)] == []
        assert on.engine.store[17].state is State.APPROVED


async def test_the_dangerous_button_has_no_focus_and_stays_off_until_the_name_is_typed() -> None:
    on = stage()
    async with on.app.run_test(size=NARROW) as pilot:
        await to_build(pilot)
        button = on.app.screen.query_one(Button)
        assert isinstance(on.app.screen.focused, Input)
        assert button.disabled
        await typed(pilot, NAME[:-1])
        assert button.disabled
        await press(pilot, "enter")
        assert on.engine.store[17].state is State.APPROVED
        await typed(pilot, NAME[-1])
        assert not button.disabled
        for _ in range(6):
            await press(pilot, "tab")
            assert on.app.screen.focused is not button


async def test_a_waiting_gate_lets_one_propose_and_not_start() -> None:
    on = stage(gates_now=sample.closed_window(sample.gates()))
    async with on.app.run_test(size=WIDE) as pilot:
        await to_build(pilot)
        await typed(pilot, NAME)
        assert on.app.screen.query_one(Button).disabled
        assert "opens Sun 02:00" in on.text(".hint")
        await press(pilot, "enter")
        assert "apply 17" not in on.engine.calls
        assert "THROTTLE CLOSED" in on.text("#strip")


@pytest.mark.parametrize("status", [Status.BLOCK, Status.UNKNOWN])
async def test_a_gate_that_needs_somebody_stops_the_proposal(status: Status) -> None:
    gates = [replace(v, status=status, evidence="cannot tell") if v.guard == "tls" else v for v in sample.gates()]
    on = stage(gates_now=gates)
    async with on.app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "i", "n", "n")
        assert f"tls {status.value}: cannot tell" in on.message
        await press(pilot, "tab")
        await typed(pilot, "a good reason")
        await press(pilot, "enter")
        assert not [c for c in on.engine.calls if c.startswith("propose")]


async def test_read_only_greys_with_the_reason() -> None:
    on = stage(operate=False)
    async with on.app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert "READ-ONLY" in on.text("#strip")
        await press(pilot, "i", "n", "n")
        assert "--operate" in on.message
        await press(pilot, "question_mark")
        assert "--operate" in on.text("#text")


async def test_somebody_elses_approval_is_waited_for() -> None:
    on = stage(can_approve_alone=False)
    async with on.app.run_test(size=NARROW) as pilot:
        await to_approval(pilot)
        assert "indexpilot changes approve 17" in on.text("#text")
        assert not on.app.screen.query(Entry)
        await on.engine.approve(17)
        await tick(on, pilot)
        assert on.screen == "BuildScreen"


async def test_the_second_person_approves_with_their_own_login() -> None:
    on = stage(can_approve_alone=False, facts=facts("bob"))
    on.engine.store[17] = sample.change(17, sample.CANDIDATES[0], "slow", "alice")
    async with on.app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "c", "enter")
        assert on.screen == "ApproveScreen"
        await typed(pilot, NAME)
        await press(pilot, "enter")
        assert on.engine.calls[-1] == "approve 17"


async def test_a_second_enter_proposes_nothing_twice_while_the_first_is_under_way() -> None:
    on = stage()
    go = asyncio.Event()
    propose = on.engine.propose

    async def slow(ddl: str, reason: str) -> Change:
        await go.wait()
        return await propose(ddl, reason)

    on.engine.propose = slow  # type: ignore[method-assign]
    async with on.app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "i", "n", "n")
        await typed(pilot, "slow customer page")
        await pilot.press("enter")
        for _ in range(3):
            on.clock.push(10)
            on.app._tick()
            await pilot.pause()
            assert on.app.screen.query_one(Button).disabled
            assert "working" in on.text(".hint")
            await pilot.press("enter")
        go.set()
        await settle(pilot)
        assert on.screen == "ApproveScreen"
        assert len([c for c in on.engine.calls if c.startswith("propose")]) == 1


async def test_a_refused_proposal_may_be_sent_again() -> None:
    on = stage()

    async def refuse(ddl: str, reason: str) -> Change:
        raise RefusedError("another one is open")

    propose, on.engine.propose = on.engine.propose, refuse  # type: ignore[method-assign]
    async with on.app.run_test(size=WIDE) as pilot:
        await to_approval(pilot)
        assert "another one is open" in on.message
        on.engine.propose = propose  # type: ignore[method-assign]
        await press(pilot, "enter")
        assert on.screen == "ApproveScreen"


@pytest.mark.parametrize("refused", [True, False])
async def test_a_start_that_was_asked_for_is_not_asked_for_again_until_the_executor_has_spoken(refused: bool) -> None:
    on = stage()

    async def spawn(change_id: int) -> Change:  # as the engine does: the executor takes it up some seconds later
        on.engine.calls.append(f"apply {change_id}")
        return on.engine.store[change_id]

    on.engine.apply = spawn  # type: ignore[method-assign]
    async with on.app.run_test(size=WIDE) as pilot:
        await to_running(pilot)
        await press(pilot, "enter")
        await tick(on, pilot)
        assert on.engine.calls.count("apply 17") == 1
        assert "being started" in on.text(".hint")
        assert "its executor is being started" in on.text("#text")
        if refused:
            change = on.engine.store[17]
            row = Event(99, sample.NOW, "alice", "apply.refused", {"outcome": "the window has closed"})
            on.engine.store[17] = replace(change, events=(*change.events, row))
            await tick(on, pilot)
            assert "did not start: the window has closed" in on.message
        else:
            await tick(on, pilot, 61.0)
            assert "said nothing" in on.message
        await press(pilot, "enter")
        assert on.engine.calls.count("apply 17") == 2


async def test_the_fourth_step_is_named_after_the_deed() -> None:
    on = stage()
    async with on.app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert on.text("#hotspots")
        on.app.walk_ddl("DROP INDEX public.orders_old_idx", "unused orders_old_idx")
        await settle(pilot)
        assert "4 Drop" in on.text("#steps")


async def test_stop_needs_the_word() -> None:
    on = stage()
    async with on.app.run_test(size=NARROW) as pilot:
        await to_running(pilot)
        await press(pilot, "k")
        assert on.screen == "ConfirmScreen"
        await press(pilot, "enter")
        assert "abort 17" not in on.engine.calls
        await press(pilot, "s", "t", "o", "p")
        await press(pilot, "enter")
        assert "abort 17" in on.engine.calls
        assert on.screen == "BuildScreen"


async def test_leaving_leaves_the_build_running_and_the_list_takes_it_up() -> None:
    on = stage()
    async with on.app.run_test(size=WIDE) as pilot:
        await to_running(pilot)
        await press(pilot, "escape")
        assert on.screen == "Dashboard"
        assert "goes on by itself" in on.message
        assert "abort 17" not in on.engine.calls
        await press(pilot, "c", "enter")
        assert on.screen == "BuildScreen"


async def test_keep() -> None:
    on = stage()
    async with on.app.run_test(size=WIDE) as pilot:
        await to_verify(on)(pilot)
        await press(pilot, "K")
        assert on.engine.store[17].state is State.DONE
        await press(pilot, "K")
        assert "it stays already" in on.message


async def test_withdraw_asks_for_a_reason() -> None:
    on = stage()
    async with on.app.run_test(size=WIDE) as pilot:
        await to_approval(pilot)
        await press(pilot, "tab", "w")
        await typed(pilot, "wrong table")
        await press(pilot, "enter")
        assert on.engine.store[17].state is State.WITHDRAWN
        assert "wrong table" in on.text("#text")


async def test_an_edited_statement_must_be_forecast_before_the_review() -> None:
    on = stage()
    async with on.app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "i", "d", "end", "x", "escape", "n")
        assert "forecast the changed statement" in on.message
        await press(pilot, "d", "enter", "n")
        assert on.screen == "ReviewScreen"
        assert on.engine.calls[-1].endswith("(customer_id)x")


async def test_the_cursor_stays_on_its_statement_when_the_order_changes() -> None:
    on = stage()
    async with on.app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "j", "j")
        pane = on.app.screen.query_one(HotspotsPane)
        before = pane.selected
        await press(pilot, "greater_than_sign")
        assert pane.selected == before
        spots = on.engine.observation.hotspots
        gone = tuple(i for i in spots.items if i.queryid != before)
        on.engine.observation = replace(on.engine.observation, hotspots=replace(spots, items=gone))
        await tick(on, pilot)
        assert pane.selected is None
        await press(pilot, "i")
        assert on.screen == "Dashboard"
        assert "no statement under the cursor" in on.message


async def test_filter_and_pause() -> None:
    on = stage()
    async with on.app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "slash")
        await typed(pilot, "update")
        pane = on.app.screen.query_one(HotspotsPane)
        assert len(pane.rows) == 1
        await press(pilot, "enter", "escape")
        assert len(pane.rows) == 7
        await press(pilot, "space")
        on.engine.observation = replace(on.engine.observation, hotspots=replace(sample.hotspots(), items=()))
        await tick(on, pilot)
        assert len(pane.rows) == 7
        assert "PAUSED" in on.text("#strip")
        await press(pilot, "space")
        assert len(pane.rows) == 0


async def test_every_state_has_a_step() -> None:
    change = sample.change(1, sample.CANDIDATES[0], "r", "alice")
    for state in State:
        assert step_of(replace(change, state=state)).value[0] in "345"


async def test_a_way_back_that_stands_closed_says_why_and_stays_closed() -> None:
    on = stage()
    async with on.app.run_test(size=NARROW) as pilot:
        await to_verify(on)(pilot)
        whole = on.engine.way_back

        async def closed(change_id: int) -> WayBack:
            return replace(await whole(change_id), why_not="the index of change 17 is gone")

        on.engine.way_back = closed  # type: ignore[method-assign]
        await press(pilot, "R")
        assert "not now: the index of change 17 is gone" in on.text("#plan")
        await press(pilot, "n")
        assert "the index of change 17 is gone" in on.message
        await press(pilot, "escape")
        assert on.screen == "VerifyScreen"


async def test_a_rehearsal_that_does_not_hold_is_told_with_the_difference() -> None:
    on = stage()
    on.engine.rehearsal_holds = False
    async with on.app.run_test(size=WIDE) as pilot:
        await to_verify(on)(pilot)
        await press(pilot, "R", "h")
        assert "does not hold" in on.text("#plan")
        assert "comment was 'kept by hand' and is None" in on.text("#plan")


async def test_windows_groups_and_the_mark() -> None:
    on = stage()
    async with on.app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        pane = on.app.screen.query_one(HotspotsPane)

        def title() -> str:
            return str(pane.border_title)

        assert "rates of the last 2 s" in title()
        await press(pilot, "w", "w", "w")
        assert "last 60 min, 32m 00s of it watched" in title()
        await press(pilot, "w")
        assert "rates of the last 2 s" in title()  # no mark, nothing to go on to
        await press(pilot, "b", "enter")
        assert pane.view.group is Group.QUERY  # the statements of the table under the cursor
        assert pane.filter.text == r"\borders\b"
        await press(pilot, "escape", "b", "b", "b")
        assert on.engine.calls == ["databases"]
        assert "xacts/s" in "".join(text for text, _ in pane._header())
        await press(pilot, "i")
        assert "b goes back to queries" in on.message
        await press(pilot, "b", "m")
        await typed(pilot, "25:00")
        await press(pilot, "enter")
        assert "no time" in on.message
        await press(pilot, *["backspace"] * 5)
        await typed(pilot, "14:01")
        await press(pilot, "enter")
        assert on.engine.marked == NOW.replace(minute=1, second=0)
        await tick(on, pilot)
        assert "mark 14:01:00: 1 joined" in title()
        assert [row.key for row in pane.rows if row.mark[0] == "+"] == [4_000_000_000_000_000_003]
        await press(pilot, "w", "w", "w", "w")
        assert "since the mark" in title()
        await press(pilot, "m", "escape")
        assert on.app.screen.focused is pane


async def test_signals_are_told_with_their_limits_and_nothing_unknown_is_green() -> None:
    on = stage(environment="production")
    async with on.app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert "gauges" not in on.engine.calls
        await press(pilot, "s")
        assert on.screen == "SignalsScreen"
        table = on.app.screen.query_one("#signals", KeyedTable)
        tones = {row.key: row.cells["value"][1] for row in table.rows}
        assert (tones["active"], tones["connections"]) == ("ok", "ok")
        assert (tones["lag replica-b 10.0.4.22"], tones["slot old_cdc"], tones["disk"], tones["max_io_waits"]) == (
            "crit",
        ) * 4
        assert {tones[key] for key in ("lag report 10.0.9.3", "cpu", "backup", "block_read")} == {"warn"}
        assert tones["xacts"] == "plain"
        assert "sessions" not in on.text("#about")
        table.select("lag report 10.0.9.3")
        await settle(pilot)
        assert "GRANT pg_monitor TO alice" in on.text("#about")
        await press(pilot, "t")
        assert {row.cells["value"][1] for row in table.rows} == {"crit", "warn"}
        await press(pilot, "t")
        asked = on.engine.calls.count("gauges")
        await tick(on, pilot)
        assert on.engine.calls.count("gauges") == asked + 1
        on.engine.observation = replace(on.engine.observation, error="the server closed the connection")
        await tick(on, pilot)
        assert "STALE" in str(table.border_title)
        assert {row.cells["value"][1] for row in table.rows} == {"warn"}
        await press(pilot, "escape")
        assert on.screen == "Dashboard"
        calls = on.engine.calls.count("gauges")
        await tick(on, pilot)
        assert on.engine.calls.count("gauges") == calls  # nobody looks


async def test_signals_that_grow_old_on_a_screen_that_stands_still_are_unknown() -> None:
    on = stage()
    async with on.app.run_test(size=NARROW) as pilot:
        await settle(pilot)
        await press(pilot, "s")
        on.clock.push(30)
        on.app._tick()
        await settle(pilot)
        table = on.app.screen.query_one("#signals", KeyedTable)
        assert {row.cells["value"][1] for row in table.rows} == {"warn"}


async def test_what_extensions_tell_of_a_statement_and_which_are_missing() -> None:
    on = stage()
    async with on.app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await press(pilot, "enter")
        assert "CPU 596.2 ms/s user, 76.92 system" in on.text("#text")
        assert "waits of the last 5.2 s: IO:DataFileRead 85 %" in on.text("#text")
        await press(pilot, "escape", "down", "enter")
        assert "not told: pg_stat_kcache: pg_stat_kcache must be loaded via shared_preload_libraries" in on.text("#text")
        assert "CPU" not in on.text("#text").partition("kernel and waits")[2]
        await press(pilot, "escape", "a")
        assert "waits of the last 5.2 s" in on.text("#about")

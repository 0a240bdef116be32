"""Family 26: while a build waits for its table's lock the server has no row of progress for it. That is told as what it is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest

from indexpilot_tui.cli.change_output import change_lines
from indexpilot_tui.engine.model.change import Change
from indexpilot_tui.engine.model.narrative import TABLE_LOCK
from indexpilot_tui.tui.lines import text_of
from indexpilot_tui.tui.screens.steps.progress_text import progress_lines
from tests.faults.hooked import Hook
from tests.faults.scenes import CREATE, END, settings_with, until
from tests.faults.workshop import Workshop, actions, check_intents, story

HOLDS = "lock table app.t in share update exclusive mode"  # as a vacuum to prevent wraparound does: reads and writes go on


def console(change: Change) -> str:
    """What the build screen says above the log."""
    lines = [text_of(entry) for entry in progress_lines(change, None, change.state_since, 200)]
    return "\n".join(lines[: next(n for n, entry in enumerate(lines) if "log of this change" in entry)])


async def waiting(workshop: Workshop, folder: Path) -> tuple[int, psycopg.Connection[tuple[Any, ...]]]:
    """A build that waits for its lock, taken by somebody else after the gates were asked: (change, who holds it)."""
    change_id = await workshop.approved(CREATE)
    hook = Hook(send=True, flag=str(folder / "send"))
    await workshop.spawn(change_id, hook=hook)
    await until(lambda: hook.here, 15, "the executor before it sends")
    held = workshop.blocker(HOLDS)
    hook.release()
    for _ in range(100):
        change = await workshop.journal.change(change_id)
        if any(e.action == "phase" and e.detail["phase"] == TABLE_LOCK for e in change.events):
            break
        await asyncio.sleep(0.05)
    assert workshop.sql("select 1 from pg_stat_progress_create_index where datname = current_database()") == []
    assert change.events[-1].detail["phase"] == TABLE_LOCK, story(change)
    return change_id, held


@pytest.mark.family(26)
async def test_it_is_told_with_who_holds_the_lock(workshop: Workshop, tmp_path: Path) -> None:
    change_id, held = await waiting(workshop, tmp_path)
    change = await workshop.journal.change(change_id)
    for said in (console(change), change_lines(change)[-1]):
        assert f"{TABLE_LOCK}, held by pid {held.info.backend_pid}" in said
        assert HOLDS in said
        assert "%" not in said
    held.close()
    change = await workshop.until(change_id, *END)
    assert change.index_valid
    assert TABLE_LOCK not in console(change)
    check_intents(change)


@pytest.mark.family(26)
async def test_it_is_not_waited_for_without_end(workshop: Workshop, tmp_path: Path) -> None:
    """Whoever waits for such a lock stands in front of others: the build gives up, and there is nothing to clean."""
    settings_with(workshop, observer={"initial_lock_seconds": 1})
    change_id, held = await waiting(workshop, tmp_path)
    change = await workshop.until_event(change_id, "requeued")
    assert "clean.intent" not in actions(change), story(change)
    assert workshop.indexes() == ["other_pkey", "t_pkey"]
    stop = next(e.detail for e in change.events if e.action == "cancel.intent")
    assert (stop["guard"], stop["phase"]) == ("initial_lock", TABLE_LOCK)
    held.close()
    change = await workshop.until(change_id, *END, seconds=30)
    assert change.index_valid

"""The control session, or the executor's, is lost exactly while the gates are asked: that says nothing against the change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from indexpilot_tui.engine.changes import asking
from indexpilot_tui.engine.changes.drive import carry_out
from indexpilot_tui.engine.changes.job import Job
from indexpilot_tui.engine.model.change import Change, State
from indexpilot_tui.engine.safeguards.clearance import clear
from tests.faults.busy import TABLES
from tests.faults.scenes import CREATE
from tests.faults.test_partitioned import STATE, WHOLE
from tests.faults.workshop import Workshop, actions, check_intents, story

CONTROL = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'indexpilot-control'"
EXECUTOR = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name like 'ixp:%'"


def before_the_gates(monkeypatch: pytest.MonkeyPatch, nth: int, then: Callable[[], object], *, always: bool = False) -> None:
    """Do something when the gates are asked for the nth time after the claim (from 1), all their sessions being open."""
    asked = 0

    async def lost(context: Any, claim: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == nth or (always and asked > nth):
            then()
        return await clear(context, claim)

    monkeypatch.setattr(asking, "clear", lost)


async def carried_out(workshop: Workshop, change_id: int) -> Change:
    await carry_out(Job(target=workshop.target, settings=workshop.settings, change_id=change_id))
    return await workshop.journal.change(change_id)


# 1: after the claim; 2 and 3: the indexes of partitioned tables; 4 to 6: the builds; 7 to 10: joining them
@pytest.mark.family(8)
@pytest.mark.parametrize("nth", [1, 2, 5, 8])
async def test_control_lost_while_the_gates_are_asked(workshop: Workshop, monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
    workshop.sql(TABLES)
    change_id = await workshop.approved("create index on app.p (w)")
    before_the_gates(monkeypatch, nth, lambda: workshop.sql(CONTROL))
    change = await carried_out(workshop, change_id)
    assert change.state is State.DONE, story(change)
    assert workshop.sql(STATE) == WHOLE
    assert actions(change).count("gates.again") == 1
    assert actions(change).count("claimed") == 1
    check_intents(change)


@pytest.mark.family(8)
async def test_control_lost_while_the_gates_of_one_build_are_asked(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_id = await workshop.approved(CREATE)
    before_the_gates(monkeypatch, 1, lambda: workshop.sql(CONTROL))
    change = await carried_out(workshop, change_id)
    assert change.state is State.DONE, story(change)
    assert actions(change).count("gates.again") == 1


@pytest.mark.family(8)
@pytest.mark.parametrize("nth", [5, 8])
async def test_the_executor_lost_while_the_gates_are_asked(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """Its session is gone, and nothing was sent on it: the change is claimed again and goes on from there."""
    workshop.sql(TABLES)
    change_id = await workshop.approved("create index on app.p (w)")
    before_the_gates(monkeypatch, nth, lambda: workshop.sql(EXECUTOR))
    change = await carried_out(workshop, change_id)
    assert change.state is State.DONE, story(change)
    assert workshop.sql(STATE) == WHOLE
    assert actions(change).count("claimed") == 2
    check_intents(change)


@pytest.mark.family(8)
async def test_what_stays_unread_does_not_start(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked once more, not for ever: unknown is never green."""
    change_id = await workshop.approved(CREATE)
    before_the_gates(monkeypatch, 1, lambda: workshop.sql(CONTROL), always=True)
    change = await carried_out(workshop, change_id)
    assert change.state is State.FAILED, story(change)
    assert "unknown" in change.outcome
    assert "ddl.intent" not in actions(change)
    assert "t_v_idx" not in workshop.indexes()

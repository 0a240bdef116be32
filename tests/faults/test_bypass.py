"""An emergency bypass on a running build: it holds the window off while it lasts, and not a moment longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from indexpilot_tui.engine.model.change import State
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.validated import plain, validated
from tests.faults.workshop import Workshop, actions, check_intents, story

DDL = "create index on app.t (v)"


def shut(workshop: Workshop) -> None:
    """The window is closed all day long."""
    other = (datetime.now(UTC) + timedelta(days=3)).weekday()
    data: dict[str, Any] = plain(workshop.settings)
    data["production_safeguards"]["maintenance_window"] |= {"enabled": True, "days_of_week": [other]}
    workshop.settings = validated(Settings, data)


@pytest.mark.family(21)
async def test_its_end_comes_in_the_middle_of_a_build(workshop: Workshop) -> None:
    shut(workshop)
    change_id = await workshop.approved(DDL)
    writer = workshop.blocker("update app.t set v = 0 where id = 1")
    await workshop.journal.bypass_on(["window"], "incident", 8.0)
    await workshop.spawn(change_id)
    change = await workshop.until_event(change_id, "phase")
    assert "cancel.intent" not in actions(change), story(change)
    await workshop.until_event(change_id, "cancel.sent")  # the writer is still there: nobody but the clock ended it
    writer.rollback()
    change = await workshop.until(change_id, State.FAILED)
    intent = next(e for e in change.events if e.action == "cancel.intent")
    used = next(e for e in change.events if e.action == "bypass.used")
    assert intent.detail["guard"] == "window_end", story(change)
    assert intent.at >= datetime.fromisoformat(used.detail["bypasses"][0]["until"])
    assert workshop.invalid() == []
    check_intents(change)


@pytest.mark.family(21)
async def test_it_is_switched_off_in_the_middle_of_a_build(workshop: Workshop) -> None:
    shut(workshop)
    change_id = await workshop.approved(DDL)
    writer = workshop.blocker("update app.t set v = 0 where id = 1")
    await workshop.journal.bypass_on(["window"], "incident", 600)
    await workshop.spawn(change_id)
    await workshop.until_event(change_id, "phase")
    await workshop.approver.bypass_off("not now")
    await workshop.until_event(change_id, "cancel.sent")
    writer.rollback()
    change = await workshop.until(change_id, State.FAILED)
    assert next(e for e in change.events if e.action == "cancel.intent").detail["guard"] == "window_end", story(change)
    assert workshop.invalid() == []


@pytest.mark.parametrize("scope", [["load", "rate"], ["window"]])
@pytest.mark.family(21)
async def test_only_its_own_scope(workshop: Workshop, scope: list[str]) -> None:
    shut(workshop)
    change_id = await workshop.approved(DDL)
    await workshop.journal.bypass_on(scope, "incident", 600)
    await workshop.spawn(change_id)
    if "window" in scope:
        change = await workshop.until(change_id, State.OBSERVING, State.DONE)
        assert change.index_valid is True
    else:
        change = await workshop.until_event(change_id, "apply.refused")
        assert "maintenance_window" in str(change.events[-1].detail["outcome"])
        assert workshop.indexes() == ["other_pkey", "t_pkey"]

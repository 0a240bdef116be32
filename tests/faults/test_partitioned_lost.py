"""A change on a partitioned table whose executor dies when a step is done and its OID is in nobody's book: found by its name."""

from __future__ import annotations

import pytest

from indexpilot_tui.engine.changes.reconcile import reconcile
from indexpilot_tui.engine.model.change import State
from tests.faults.busy import TABLES
from tests.faults.hooked import Hook
from tests.faults.scenes import ended
from tests.faults.test_partitioned import STATE, WHOLE, until_gone
from tests.faults.workshop import Workshop, check_intents, story


@pytest.mark.family(5)
@pytest.mark.parametrize("step", [1, 2, 3], ids=["the whole", "a branch", "a partition"])
@pytest.mark.parametrize("then", ["goes on", "is stopped"])
async def test_a_step_that_was_done_and_not_written_down(either: Workshop, step: int, then: str) -> None:
    either.sql(TABLES)
    change_id = await either.approved("create index on app.p (w)")
    pid = await either.spawn(change_id, hook=Hook(do="kill", at="part.outcome", when="before", nth=step))
    await ended(pid, 30)
    await until_gone(either)
    if then == "is stopped":
        await either.journal.request_abort(change_id, "wrong night")
    await reconcile(either.target, either.settings, either.journal, detach=False)
    change = await either.journal.change(change_id)
    if then == "goes on":
        assert change.state is State.DONE, story(change)
        assert either.sql(STATE) == WHOLE
        assert change.index_oid == either.sql("select 'app.p_w_idx'::regclass::oid::int8")[0][0]
    else:
        assert change.state is State.FAILED, story(change)
        assert either.sql(STATE) == []
    check_intents(change)

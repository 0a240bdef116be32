"""The whole way of a change on a real server: created, dropped, taken back, judged."""

from __future__ import annotations

import asyncio

from indexpilot_tui.engine.changes.model import State
from indexpilot_tui.engine.changes.rollback import propose_rollback
from tests.faults.workshop import Workshop, actions, check_intents, story


async def test_create_is_built_verified_and_observed(workshop: Workshop) -> None:
    change_id = await workshop.approved("create index on app.t (v)")
    for _ in range(20):
        workshop.sql("select count(*) from app.t where v = 5")
    await workshop.spawn(change_id)
    change = await workshop.until(change_id, State.OBSERVING)
    assert workshop.indexes() == ["other_pkey", "t_pkey", "t_v_idx"]
    for _ in range(20):
        workshop.sql("select count(*) from app.t where v = 5")
    change = await workshop.until(change_id, State.DONE)
    assert change.index_valid
    assert change.index_oid == workshop.sql("select 'app.t_v_idx'::regclass::oid::int8")[0][0]
    assert change.verification is not None
    assert change.verification.verdict == "improved", change.verification
    check_intents(change)
    order = [
        a for a in actions(change) if a in ("claimed", "backend", "ddl.intent", "ddl.outcome", "verify.intent", "verified")
    ]
    assert order == ["claimed", "backend", "ddl.intent", "ddl.outcome", "verify.intent", "verified"], story(change)
    assert workshop.sql("select count(*) from pg_locks where locktype = 'advisory'") == [(0,)]

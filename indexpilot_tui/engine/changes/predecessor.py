"""An earlier executor of the same change that was stopped or hangs, with the table's lock in its hands.

The epoch has fenced it: whatever it sends when it wakes up is refused. But its session on the target lives as long as its
process, and with it the lock, so that its successor could neither clean up nor finish.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from indexpilot_tui.engine.changes.catalog import question
from indexpilot_tui.engine.changes.hold import Hold
from indexpilot_tui.engine.postgres.session import Session

WAIT_S = 5.0  # for the end of its backend; a statement of its own that can be undone is rolled back first


async def end_predecessors(session: Session, hold: Hold, lock: tuple[int, int]) -> bool:
    """End the sessions of earlier epochs of this change that hold the lock. True when there were any, and they are gone.

    Known by the lock that they hold, the login that is ours, and the change and epoch in their name; nobody else's session
    is touched. Raises ServerError, ConnectError.
    """
    found = await _predecessors(session, hold, lock)
    for row in found:
        who = {"pid": row["pid"], "backend_start": row["backend_start"], "state": row["state"]}
        await hold.protective("terminate.intent", {"why": "its executor was taken over and does not let go", **who})
        sent = await session.value(
            question("terminate", session), {"pid": row["pid"], "backend_start": row["backend_start"]}
        )
        await hold.note("terminate.sent", {"pid": row["pid"], "sent": sent})
    end = time.monotonic() + WAIT_S
    while found and time.monotonic() < end:
        if not await _predecessors(session, hold, lock):
            return True
        await asyncio.sleep(0.1)
    return False


async def _predecessors(session: Session, hold: Hold, lock: tuple[int, int]) -> list[dict[str, Any]]:
    params = {"lock_class": lock[0], "key": lock[1], "change_id": hold.change_id, "epoch": hold.epoch}
    return await session.rows(question("predecessors", session), params)

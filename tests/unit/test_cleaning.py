"""How a leftover is removed: again and again, never one that is not ours; no server is needed for that."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.changes import cleaning
from indexpilot_tui.engine.changes.rebuild import Rebuilt
from indexpilot_tui.engine.changes.watch import Ended
from indexpilot_tui.engine.changes.work import Why
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.clearance import Clearance
from indexpilot_tui.errors import ConnectError, ServerError
from tests.unit.bench_of_changes import REBUILD, index, work
from tests.unit.desk import FACTS, change
from tests.unit.test_door import door


@pytest.fixture
def broom(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the catalog says of the leftover, one look after the other, and what each try to drop it answers."""
    said = SimpleNamespace(found=[(None, "")], tries=[""], clock=0.0, slept=[], server="", ended=[], takes=60.0)

    async def leftover(*_: Any) -> Any:
        return said.found.pop(0) if len(said.found) > 1 else said.found[0]

    async def drop(*_: Any) -> str:
        said.clock += said.takes
        return said.tries.pop(0) if len(said.tries) > 1 else said.tries[0]

    async def sleep(seconds: float) -> None:
        said.slept.append(seconds)
        said.clock += seconds

    async def eye(*_: Any) -> Any:
        return SimpleNamespace(facts=FACTS)

    def ending(name: str) -> Any:
        async def end(work: Any, *rest: Any) -> None:
            said.ended.append(name)

        return end

    monkeypatch.setattr(cleaning, "leftover_of", leftover)
    monkeypatch.setattr(cleaning, "drop_once", drop)
    monkeypatch.setattr(cleaning, "fresh_eye", eye)
    monkeypatch.setattr(cleaning, "other_server", lambda *_: said.server)
    for name in ("needs_operator", "back_or_failed", "decide_rebuild"):
        monkeypatch.setattr(cleaning, name, ending(name))
    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: said.clock)
    return said


LEFT = (index(valid=False), "")


async def test_a_leftover_is_dropped_until_the_catalog_says_that_it_is_gone(broom: SimpleNamespace) -> None:
    broom.found, broom.tries = [LEFT, LEFT, LEFT, (None, "")], ["busy", "busy", ""]
    made = work(why=Why("x"), index_oid=7)
    await cleaning.clean(made)
    assert (broom.slept, broom.ended, made.hold.last["tries"]) == ([0.2, 1.0, 0], ["back_or_failed"], 3)
    assert made.hold.indexes == [(None, None)]
    broom.found, broom.ended = [(None, "")], []
    made = work(change(State.CLEANING, plan=REBUILD))
    await cleaning.clean(made)
    assert (broom.ended, made.hold.actions, made.hold.indexes) == (["decide_rebuild"], ["cleaned"], [])


async def test_a_leftover_that_rejects_rows_is_not_left_alone_for_long(broom: SimpleNamespace) -> None:
    for unique, ready, slept in ((True, True, 1.0), (True, False, 2.0), (False, True, 2.0)):
        left = (index(valid=False, unique=unique, ready=ready), "")
        broom.found, broom.tries, broom.slept, broom.clock = [left] * 3 + [(None, "")], ["busy"], [], 0.0
        await cleaning.clean(work())
        assert broom.slept[2] == slept


async def test_what_is_not_ours_or_valid_is_not_dropped(broom: SimpleNamespace) -> None:
    broom.found = [(index(valid=False), "another table")]
    await cleaning.clean(work())
    broom.found, broom.server = [LEFT], "another cluster"
    await cleaning.clean(work())
    assert (broom.ended, broom.clock) == (["needs_operator"] * 2, 0.0)
    broom.found, broom.server = [(index(), "")], ""
    made = work()
    await cleaning.clean(made)
    assert (made.hold.state, broom.clock) == (State.VERIFYING, 0.0)


async def test_after_a_quarter_of_an_hour_a_person_is_asked(broom: SimpleNamespace) -> None:
    broom.found, broom.tries, broom.takes = [LEFT], [""], 0.5
    await cleaning.clean(work())
    assert (broom.clock, broom.ended) == (900.5, ["needs_operator"])  # at 900 s it is tried once more


@pytest.mark.parametrize(
    ("facts", "wrong", "why"),
    [(index(valid=False), "", ""), (None, "", "it changed in between"), (index(), "", "it changed in between"),
     (index(valid=False), "not ours", "not ours")],
)  # fmt: skip
async def test_it_is_looked_at_again_before_it_is_dropped(
    monkeypatch: pytest.MonkeyPatch, facts: Any, wrong: str, why: str
) -> None:
    async def leftover(*_: Any) -> Any:
        return facts, wrong

    monkeypatch.setattr(cleaning, "leftover_of", leftover)
    assert await cleaning._still_ours(work(), None) == (facts, why)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, ""), ({"opened": None}, "another session holds the lock for changes of this table"), ({"found": (None, "")}, ""),
        ({"found": (index(), "not ours")}, "not ours"), ({"leave": [Verdict("g", Status.BLOCK, "", "", "", "no TLS")]}, "no TLS"),
        ({"ended": Ended(True, psycopg.errors.LockNotAvailable("busy"), None, ())}, "busy"),
        ({"ended": Ended(False, None, None, ())}, "no answer"), ({"opened": ConnectError("away")}, "away"),
        ({"opened": ServerError("refused")}, "refused"),
        ({"ended": Ended(True, None, SimpleNamespace(sentence="gave way"), ())}, "gave way"),
    ],
)  # fmt: skip
async def test_one_try_to_drop_it(monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], why: str) -> None:
    seen = {
        "opened": door(row=(7,)),
        "found": LEFT,
        "leave": object.__new__(Clearance),
        "ended": Ended(True, None, None, ()),
    }
    seen |= changed
    started: list[Any] = []

    async def opening(*_: Any) -> Any:
        if isinstance(seen["opened"], BaseException):
            raise seen["opened"]
        return seen["opened"]

    async def find(*_: Any) -> Any:
        return seen["found"]

    async def clear(*_: Any) -> Any:
        return seen["leave"]

    async def watched(*_: Any) -> Any:
        return seen["ended"]

    async def context(self: Any, **_: Any) -> Any:
        return SimpleNamespace(session=None)

    async def nothing(seconds: float) -> None:
        return None

    async def start(self: Any, clearance: Any, facts: Any, *, made_by_us: bool) -> None:
        started.append(facts)

    monkeypatch.setattr(cleaning.Door, "open", opening)
    monkeypatch.setattr(cleaning.Door, "start_cleaning", start)
    monkeypatch.setattr(cleaning, "clear_own", clear)
    monkeypatch.setattr(cleaning, "watch", watched)
    monkeypatch.setattr(cleaning.Work, "gate_context", context)
    monkeypatch.setattr(asyncio, "sleep", nothing)
    made = work()
    assert await cleaning.drop_once(made, find) == why
    assert bool(started) is ("opened" not in changed and "found" not in changed and "leave" not in changed)
    if started:
        assert made.hold.actions == ["clean.outcome"]
        assert "part" not in made.hold.last
        await cleaning.drop_once(made, find, position=2)
        assert (made.hold.last["part"], len(started)) == (2, 2)
        made.door.session.closed = True
        seen["opened"] = None
        assert "holds the lock" in await cleaning.drop_once(made, find)
    assert Rebuilt(True, None, None, "").replaced

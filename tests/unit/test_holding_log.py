"""A change's log and lease: rows in order whatever fails meanwhile, and a lease that is renewed three times in its length."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from indexpilot_tui.engine.changes import hold
from indexpilot_tui.engine.changes.backlog import Row
from indexpilot_tui.engine.changes.hold import Hold
from indexpilot_tui.engine.journal.journal import JournalRefusedError, StaleEpochError
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.errors import ConnectError, ServerError
from tests.unit.test_holding import failure


class Journal:
    """Takes rows, or fails with what it was given, one error a call."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.rows = list(errors), list[Any]()
        self.session = SimpleNamespace(closed=False)
        self.ended = False

    def _fails(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    async def append(self, change_id: int, epoch: int, action: str, detail: Any) -> None:
        self._fails()
        self.rows.append((action, detail))

    async def set_index(self, change_id: int, epoch: int, oid: int, valid: bool) -> None:
        self.rows.append(("index", oid, valid))

    async def set_part(self, change_id: int, epoch: int, position: int, state: str, oid: int | None) -> None:
        self.rows.append(("part", position, state, oid))

    async def advance(self, change_id: int, epoch: int, here: Any, to: Any, action: str, detail: Any) -> None:
        self._fails()
        self.rows.append((action, to))

    async def close(self) -> None:
        self.ended = True


class Held(Hold):
    """With a local copy in memory."""

    def __init__(self, journal: Any, *, lease_s: float = 12.0) -> None:
        self.booked: list[str] = []
        self.reopened = 0

        async def reopen() -> Any:
            self.reopened += 1
            journal.session.closed = False
            return journal

        self.jotted: list[Any] = []

        def jot(action: str, detail: Any) -> None:
            self.booked.append(action)
            self.jotted.append(detail)

        book: Any = SimpleNamespace(write=lambda action, *_: self.booked.append(action), jot=jot)
        super().__init__(journal, reopen, book, change_id=1, lease_s=lease_s)
        self.epoch, self.state = 3, State.RUNNING

    async def drained(self) -> None:
        async with asyncio.timeout(2):
            while self._backlog.rows:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)


async def test_a_lost_session_is_opened_again_and_a_good_one_is_not() -> None:
    journal = Journal()
    held = Held(journal)
    assert await held.journal() is journal
    assert held.reopened == 0
    journal.session.closed = True
    await held.journal()
    assert held.reopened == 1


async def test_a_row_that_is_waited_for_is_tried_twice() -> None:
    once, twice = Journal(ConnectError("x")), Journal(ConnectError("x"), ConnectError("y"))
    await Held(once).append("a", {})
    assert once.rows == [("a", {})]
    with pytest.raises(ConnectError, match="y"):
        await Held(twice).append("a", {})
    fenced = Held(Journal(StaleEpochError("no")))
    with pytest.raises(StaleEpochError):
        await fenced.append("a", {})
    assert fenced.fenced


async def test_rows_that_nothing_waits_for_follow_in_order() -> None:
    journal = Journal()
    held = Held(journal)
    held.later("a", {})
    pump = held._pump
    held.later_index(7, False)
    held.later_part(2, 8)
    assert held._pump is pump  # one writer
    await held.drained()
    assert journal.rows == [("a", {}), ("index", 7, False), ("part", 2, "begun", 8)]
    assert held.booked == ["a", "index.oid", "part.oid"]
    held.later("b", {})
    await held.drained()
    assert held._pump is not pump  # the first had ended
    assert journal.rows[-1] == ("b", {})
    await held.append("c", {})
    assert [r[0] for r in journal.rows][-2:] == ["b", "c"]


async def test_what_waits_is_written_before_what_is_waited_for() -> None:
    journal = Journal()
    held = Held(journal)
    held.later("first", {})
    await held.append("second", {})
    assert [action for action, _ in journal.rows] == ["first", "second"]


async def test_each_copy_has_a_note_once_and_a_move_with_it() -> None:
    journal = Journal()
    held = Held(journal)
    await held.note("a", {})
    await held.protective("cancel.intent", {}, State.CANCELLING)
    assert journal.rows == [("a", {}), ("cancel.intent", State.CANCELLING)]
    assert (held.booked, held.state) == (["a", "cancel.intent"], State.CANCELLING)
    late = Journal(JournalRefusedError("too late", code="state"))
    held = Held(late)
    await held.protective("cancel.intent", {}, State.CANCELLING)
    assert late.rows == [("cancel.intent", {"not_moved": late.rows[0][1]["not_moved"]})]


async def test_a_row_that_the_journal_never_takes_holds_up_no_other() -> None:
    journal = Journal(failure("23505"))
    held = Held(journal)
    held.later("bad", {"why": "the window ended"})
    held.later("good", {})
    await held.drained()
    assert [action for action, _ in journal.rows] == ["good"]
    assert held.booked == ["bad", "good", "bad.unlogged"]
    # the row's own reason, and beside it why the journal did not take it
    assert held.jotted == [{"why": "the window ended", "not_logged": str(failure("23505"))}]


async def test_a_journal_that_is_away_gets_its_rows_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "ABORT_POLL_S", 0.01)
    journal = Journal(failure("55P03"), ConnectError("x"))
    held = Held(journal)
    held.later("a", {})
    held.later("b", {})
    await held.drained()
    assert [action for action, _ in journal.rows] == ["a", "b"]
    assert journal.rows[0][1]["late"]
    assert journal.rows[1][1] == {}
    assert held.booked == ["a", "b"]


async def test_who_is_fenced_keeps_what_is_left_in_the_local_copy() -> None:
    held = Held(Journal(StaleEpochError("no")))
    row = Row("a", {})
    held._put(row)
    await held.drained()
    assert (held.fenced, row.done.is_set(), held.booked) == (True, True, ["a", "a.unlogged"])
    for say in (held.note, held.protective):
        with pytest.raises(StaleEpochError):
            await say("b", {})


async def test_the_log_holds_up_a_cancel_for_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def soon(self: Hold, row: Row, seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(Hold, "_soon", soon)
    held = Held(Journal())
    await held.protective("a", {})
    await held.note("b", {})
    assert waited == [1.0, 3.0]
    monkeypatch.undo()
    stuck = Held(Journal())
    async with stuck._line:  # somebody writes, and does not end
        await stuck._soon(Row("a", {}, booked=True), 0.01)
    await stuck.drained()


async def test_at_the_end_what_was_not_written_stays_in_the_local_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "NOTE_S", 0.01)
    journal = Journal()
    held = Held(journal)
    async with held._line:
        held.later("a", {})
        await held.close()
    assert (held.booked, journal.ended) == (["a.unlogged"], True)
    quiet = Journal()
    await Held(quiet).close()
    assert quiet.ended


class Leased(Journal):
    """Renews so many times, at the times that it notes."""

    def __init__(self, clock: list[float], renewals: int, *, aborts: dict[int, str] | None = None, **_: Any) -> None:
        super().__init__()
        self.clock, self.renewals, self.at, self.aborts, self.polls = clock, renewals, list[float](), aborts or {}, 0

    async def renew(self, change_id: int, epoch: int, lease_s: float) -> bool:
        self._fails()
        self.at.append(self.clock[0])
        return len(self.at) < self.renewals

    async def abort_requested(self, change_id: int) -> str | None:
        self.polls += 1
        return self.aborts.get(self.polls)

    async def bypass(self) -> Any:
        return "bypass"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    pause = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds:
            now.append(seconds)
            now[0] += seconds
        await pause(0)

    monkeypatch.setattr(hold.asyncio, "sleep", sleep)
    monkeypatch.setattr(hold.time, "monotonic", lambda: now[0])
    return now


async def test_a_lease_is_renewed_three_times_in_its_length(clock: list[float]) -> None:
    journal = Leased(clock, 3, aborts={2: "bob"})
    held = Held(journal)
    held.start_beat()
    beat = held._beat
    held.start_beat()
    assert held._beat is beat
    assert beat is not None
    await asyncio.wait_for(beat, 1000)
    assert journal.at == [100.0, 104.0, 108.0]
    assert set(clock[1:]) == {1.0}  # whether somebody wants us to stop is asked once a second
    assert (held.fenced, held.abort, held.failures, held._bypass) == (True, "bob", 0, "bypass")
    await held.stop_beat()
    assert held._beat is None
    await held.stop_beat()


@pytest.mark.parametrize(
    ("lease_s", "sleeps"),
    [(12.0, [3.0, 1.0]), (3.6, [3.6 / 3 - 1, 0.6]), (3.0, [0.5]), (2.4, [0.4])],
)
async def test_a_renewal_that_fails_is_counted_and_tried_again(
    clock: list[float], lease_s: float, sleeps: list[float]
) -> None:
    journal = Leased(clock, 1)
    journal.errors = [ServerError("away")]
    held = Held(journal, lease_s=lease_s)
    held.start_beat()
    assert held._beat is not None
    await held._beat
    assert clock[1:] == pytest.approx(sleeps)
    assert held.failures == 1
    again = Leased(clock, 2)
    again.errors = [ServerError("away"), ServerError("away")]
    held = Held(again)
    held.start_beat()
    assert held._beat is not None
    await held._beat
    assert held.failures == 0  # one that worked counts anew

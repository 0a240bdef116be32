"""Who carries a change on: moves that are made once, rows that wait, leases, and predecessors that are gone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.changes import backlog, hold, reconcile, takeover
from indexpilot_tui.engine.changes.backlog import Backlog, Row, transient
from indexpilot_tui.engine.changes.hold import Hold
from indexpilot_tui.engine.journal.journal import Part, StaleEpochError
from indexpilot_tui.engine.model.change import Event, State, Step
from indexpilot_tui.errors import ConnectError, RefusedError, ServerError
from indexpilot_tui.settings.model import Settings
from tests.unit.bench_of_changes import Noted, work
from tests.unit.desk import FACTS, NOW, PLAN, change


@pytest.mark.parametrize(
    ("scope", "left", "lifted"), [("load", 1, True), ("load", 0, False), ("load", -1, False), ("window", 1, False)]
)
async def test_a_bypass_holds_until_its_end_for_a_build_that_runs(scope: str, left: float, lifted: bool) -> None:
    held = Hold(None, None, None, change_id=1, lease_s=5)  # type: ignore[arg-type]
    assert not held.lifts("load", NOW)
    held._bypass = SimpleNamespace(scope=frozenset({scope}), until=NOW + timedelta(seconds=left))  # type: ignore[assignment]
    assert held.lifts("load", NOW) is lifted


def failure(sqlstate: str | None, of: type[Exception] = ServerError) -> Any:
    error = of("m")
    if sqlstate is not None:
        error.__cause__ = psycopg.errors.lookup(sqlstate)("m")
    return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (failure("55P03"), True), (failure("23505"), False), (failure("08006"), True), (failure(None), True),
        (failure("23505", ConnectError), True), (failure(None, RefusedError), False), (failure("57014", RefusedError), True),
    ],
)  # fmt: skip
def test_what_the_journal_takes_at_another_time(error: Any, passes: bool) -> None:
    assert transient(error) is passes


def test_a_row_that_waited_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row("a", {"x": 1}, since=100.0)
    for now, late in ((101.0, False), (101.1, True)):
        monkeypatch.setattr(backlog.time, "monotonic", lambda now=now: now)
        assert ("late" in row.told()) is late
    row.failed = True
    monkeypatch.setattr(backlog.time, "monotonic", lambda: 100.0)
    assert row.told()["late"]


class Journal(Noted):
    """Answers of a journal, for moves."""

    def __init__(self, run: Any = None, refuse: int = 0, lost: int = 0) -> None:
        super().__init__()
        self.session = SimpleNamespace(closed=False)
        self._run, self.refuse, self.lost, self.moves = run, refuse, lost, list[Any]()

    async def run(self, change_id: int) -> Any:
        return self._run

    async def advance(self, change_id: int, epoch: int, here: Any, to: Any, action: str, detail: Any) -> None:  # type: ignore[override]
        self.moves.append((here, to))
        if self.lost:
            self.lost -= 1
            raise ConnectError("lost")
        if self.refuse:
            self.refuse -= 1
            raise StaleEpochError("no")

    async def append(self, change_id: int, epoch: int, action: str, detail: Any) -> None:
        self.moves.append(action)


def holding(journal: Journal, state: State = State.RUNNING) -> Hold:
    async def reopen() -> Any:
        return journal

    made = Hold(journal, reopen, SimpleNamespace(write=lambda *_: None), change_id=1, lease_s=5)  # type: ignore[arg-type]
    made.state, made.epoch = state, 3
    return made


@pytest.mark.parametrize(
    ("run", "moves", "state", "fenced"),
    [
        ((3, State.VERIFYING), 1, State.VERIFYING, False),  # it was our own move, whose answer was lost
        ((3, State.CANCELLING), 2, State.VERIFYING, False),  # a move of ours before: the rest follows
        ((4, State.CANCELLING), 1, State.RUNNING, True),  # somebody else holds it
        ((3, State.RUNNING), 1, State.RUNNING, True),
        ((3, State.FAILED), 1, State.RUNNING, True),
    ],
)
async def test_a_move_is_made_once_or_we_are_fenced(run: Any, moves: int, state: State, fenced: bool) -> None:
    journal = Journal(SimpleNamespace(epoch=run[0], state=run[1]), refuse=1)
    made = holding(journal)
    if fenced:
        with pytest.raises(StaleEpochError):
            await made.advance(State.VERIFYING, "a", {})
    else:
        await made.advance(State.VERIFYING, "a", {})
    assert (len(journal.moves), made.state, made.fenced) == (moves, state, fenced)


async def test_a_move_that_is_refused_again_and_again_is_somebody_elses() -> None:
    journal = Journal(SimpleNamespace(epoch=3, state=State.CANCELLING), refuse=9)
    made = holding(journal)
    with pytest.raises(StaleEpochError):
        await made.advance(State.VERIFYING, "a", {})
    assert made.fenced
    again = holding(Journal(), State.VERIFYING)
    await again.advance(State.VERIFYING, "told", {})
    assert again._journal.moves == ["told"]  # type: ignore[attr-defined]


async def test_a_connection_that_dies_is_tried_thrice_for_a_move() -> None:
    for lost, moved in ((2, True), (3, False)):
        made = holding(Journal(lost=lost))
        if moved:
            await made.advance(State.VERIFYING, "a", {})
        else:
            with pytest.raises(ConnectError):
                await made.advance(State.VERIFYING, "a", {})
        assert (made.state is State.VERIFYING) is moved


async def test_a_server_that_is_away_is_waited_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    async def sleep(seconds: float) -> None:
        clock[0] += 1

    async def away(self: Hold) -> Any:
        raise ConnectError("away")

    monkeypatch.setattr(hold.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(hold.asyncio, "sleep", sleep)
    monkeypatch.setattr(Hold, "journal", away)
    with pytest.raises(ConnectError):
        await holding(Journal()).patient_journal()
    assert clock == [121.0]  # at 120 s it is asked once more


async def test_only_an_intent_needs_its_local_copy() -> None:
    made = holding(Journal())

    def full(*_: Any) -> None:
        raise ServerError("disk full")

    made.book.write = full  # type: ignore[method-assign]
    with pytest.raises(ServerError):
        made._copied("ddl.intent", {})
    assert made._copied("ddl.outcome", {}) == {"local_copy": "missing: disk full"}


def event(seq: int, action: str, **detail: Any) -> Event:
    return Event(seq, NOW, "a", action, detail)


def test_what_the_last_attempt_did() -> None:
    of = change(events=(event(1, "claimed"), event(2, "ddl.intent"), event(3, "claimed"), event(4, "x")))
    assert [e.seq for e in takeover.since_claim(of)] == [3, 4]
    assert [e.seq for e in takeover.since_claim(replace(of, events=of.events[1:2]))] == [2]


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ((), "its executor was lost"),
        ((event(1, "cancel.intent", why="gave way"), event(2, "x")), "gave way"),
        ((event(1, "cancel.intent"),), "its executor was lost"),
        ((event(1, "ddl.outcome", why="told"),), "told"),
        ((event(1, "ddl.outcome", ok=False, sqlstate="1", message="m"),), "the server answered 1: m"),
        ((event(1, "ddl.outcome", ok=True),), "its executor was lost"),
        ((event(1, "cancel.intent", why="first"), event(2, "ddl.outcome", why="second")), "second"),
        ((event(1, "x", why="other"), event(2, "x", ok=False)), "its executor was lost"),
    ],
)
def test_why_a_predecessor_ended(events: tuple[Event, ...], why: str) -> None:
    assert takeover._reason(list(events)) == why


class Taking(Journal):
    """A journal whose lease ends after so many tries."""

    def __init__(self, of: Any, run: Any, tries: int = 0, parts: Any = None) -> None:
        super().__init__(run)
        self.of, self.tries, self.lease_s, self.told_parts, self.beats = of, tries, 5.0, parts or {}, 0

    async def takeover(self, change_id: int, lease_s: float) -> int | None:
        self.tries -= 1
        return 9 if self.tries < 0 else None

    async def change(self, change_id: int) -> Any:
        return self.of

    async def parts(self, change_id: int) -> Any:
        return self.told_parts

    def start_beat(self) -> None:
        self.beats += 1

    async def advance(self, to: State, action: str, detail: Any) -> None:  # type: ignore[override]
        self.moves.append((to, action))


def running(state: State = State.RUNNING, **changed: Any) -> Any:
    values = {"state": state, "attempts": 2, "timeline": 1, "backend_pid": 5, "backend_start": NOW, "lease_ended": True,
              "decision": None}  # fmt: skip
    return SimpleNamespace(**(values | changed))


async def taken(
    monkeypatch: pytest.MonkeyPatch, run: Any, events: tuple[Event, ...] = (), **changed: Any
) -> tuple[bool, Any]:
    clock = [0.0]

    async def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(takeover.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(takeover.asyncio, "sleep", sleep)
    of = change(run.state, events=events, plan=changed.pop("plan", PLAN), outcome="as decided")
    made = work(of)
    made.hold = Taking(of, run, **changed)
    return await takeover.take_over(made, run), made


@pytest.mark.parametrize(("tries", "ours"), [(0, True), (7, True), (8, True), (9, False)])
async def test_a_lease_is_waited_out_and_two_seconds_more(monkeypatch: pytest.MonkeyPatch, tries: int, ours: bool) -> None:
    assert (await taken(monkeypatch, running(), tries=tries))[0] is ours


async def test_what_is_learned_of_a_predecessor(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = event(2, "ddl.intent", before={"oid": 7})
    _, made = await taken(monkeypatch, running(), (event(1, "claimed"), sent, event(3, "copy", oid=8)))
    assert (made.began, made.foreign, made.before, made.copy_oid, made.give_up) == (True, False, {"oid": 7}, 8, False)
    assert (made.backend.pid, made.resumed, made.attempts, made.hold.epoch, made.hold.beats) == (5, True, 2, 9, 1)
    assert made.hold.moves == [(State.UNKNOWN, "lost")]
    _, made = await taken(monkeypatch, running(State.CLEANING), (event(1, "ddl.outcome", sqlstate="42P07"),))
    assert (made.began, made.foreign, made.hold.moves) == (False, True, [])
    assert (await taken(monkeypatch, running(State.STARTING)))[1].hold.moves == [(State.UNKNOWN, "lost")]
    _, made = await taken(monkeypatch, running(), (event(1, "x", sqlstate="42P07"), event(2, "ddl.outcome", sqlstate="1")))
    assert not made.foreign
    for missing in ({"backend_pid": None}, {"backend_start": None}):
        assert (await taken(monkeypatch, running(**missing)))[1].backend is None
    for told, gives_up in ((event(1, "give_up"), True), (event(1, "resolved", to="cleaning"), True),
                           (event(1, "resolved", to="queued"), False), (event(1, "x", to="cleaning"), False)):  # fmt: skip
        assert (await taken(monkeypatch, running(), (told,)))[1].give_up is gives_up
    steps = replace(PLAN, steps=(Step("leaf", "x", "s", "t", 1, "i"),))
    parts = {0: Part("done", 1), 1: Part("begun", None), 2: Part("begun", None)}
    assert (await taken(monkeypatch, running(), plan=steps, parts=parts))[1].part == 2
    assert (await taken(monkeypatch, running(), plan=steps, parts={0: Part("done", 1)}))[1].part is None
    assert (await taken(monkeypatch, running(), parts=parts))[1].part is None


@pytest.mark.parametrize(("ended", "decision"), [(True, None), (True, "finish"), (False, None)])
async def test_what_waits_in_the_queue(monkeypatch: pytest.MonkeyPatch, ended: bool, decision: str | None) -> None:
    ours, made = await taken(monkeypatch, running(State.QUEUED, lease_ended=ended, decision=decision), tries=99)
    assert ours is ended
    assert (made.requeued, made.hold.beats) == (ended, int(ended))
    if ended:
        assert made.why.retry
        assert (made.why.sentence == "as decided") is (decision is not None)


@pytest.mark.parametrize(
    ("state", "ended", "detach", "spawned", "told"),
    [
        (State.RUNNING, True, True, 1, 1), (State.RUNNING, False, True, 1, 0), (State.QUEUED, True, True, 1, 1),
        (State.QUEUED, False, True, 0, 0), (State.QUEUED, False, False, 0, 0), (State.RUNNING, True, False, 0, 1),
    ],
)  # fmt: skip
async def test_orphans_are_seen_to_their_end(
    monkeypatch: pytest.MonkeyPatch, state: State, ended: bool, detach: bool, spawned: int, told: int
) -> None:
    began: list[int] = []

    async def spawn(target: Any, settings: Any, change_id: int, *, resume: bool) -> int:
        assert resume
        began.append(change_id)
        return 77

    class Eye:
        async def __aenter__(self) -> Any:
            return SimpleNamespace(facts=FACTS)

        async def __aexit__(self, *_: Any) -> None: ...

    monkeypatch.setattr(reconcile, "spawn", spawn)
    monkeypatch.setattr(reconcile, "session", lambda *_: Eye())
    ours = change(state)
    others = [change(state, id=n, plan=replace(PLAN, **of)) for n, of in enumerate(
        ({"system_identifier": "8"}, {"database": "other"}), 2)]  # fmt: skip
    many = [ours, *others]

    async def changes(limit: int, states: Any) -> Any:
        return many[:limit]

    async def run(change_id: int) -> Any:
        return SimpleNamespace(lease_ended=ended)

    journal: Any = SimpleNamespace(changes=changes, run=run)
    ends = [replace(ours, epoch=2), ours]  # taken over and ended; then one whose executor lives

    async def carry_out(job: Any) -> None:
        assert (job.change_id, job.resume) == (1, True)

    async def now(change_id: int) -> Any:
        return ends.pop(0)

    journal.change = now
    monkeypatch.setattr("indexpilot_tui.engine.changes.drive.carry_out", carry_out)
    monkeypatch.setattr(reconcile, "Job", SimpleNamespace)
    lines = await reconcile.reconcile(None, Settings(), journal, detach=detach)  # type: ignore[arg-type]
    assert (began, len(lines)) == ([1] * spawned, told)
    if not detach and state is State.RUNNING:
        assert await reconcile.reconcile(None, Settings(), journal, detach=False) == []  # type: ignore[arg-type]
    many.clear()
    monkeypatch.setattr(reconcile, "session", lambda *_: pytest.fail("nobody asks the target for nothing"))
    assert await reconcile.reconcile(None, Settings(), journal) == []  # type: ignore[arg-type]


def test_rows_keep_their_order() -> None:
    line = Backlog()
    first, second = Row("a", {}), Row("b", {})
    line.add(first)
    line.add(second)
    line.first_is_done()
    assert (first.done.is_set(), second.done.is_set(), [r.action for r in line.rows]) == (True, False, ["b"])

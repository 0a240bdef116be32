"""What the observer reads of a build, and what the slower guard asks for; no server is needed for that."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from indexpilot_tui.engine.changes import guard, pressure
from indexpilot_tui.engine.changes.guard import PHASE_BEFORE_BUILD, Holder, Judge, Reading, Rules
from indexpilot_tui.engine.changes.pressure import Pressure
from indexpilot_tui.engine.model.narrative import TABLE_LOCK
from indexpilot_tui.engine.observe.source import Source
from indexpilot_tui.engine.safeguards.table_writes import Counts, Facts, Statements
from indexpilot_tui.settings.model import Observer
from tests.unit.bench_of_changes import BACKEND, work
from tests.unit.desk import NOW, STANDBY, Desk, context, followers, signals, waits

ROOM = "indexpilot_tui.engine.changes"
ROW: dict[str, Any] = {
    "now": NOW, "pid": 55, "state": "active", "wait_event_type": None, "wait_event": None, "phase": None, "index_oid": None,
    "current_locker_pid": None, "lockers_done": None, "lockers_total": None, "blocks_done": None, "blocks_total": None,
}  # fmt: skip
WAITER = {
    "pid": 7,
    "mode": "ShareLock",
    "waited_s": 1.5,
    "application_name": None,
    "query": None,
    "behind": True,
    "snapshot": False,
}
HOLDER = {"pid": 8, "age_s": 2.0, "application_name": None, "state": None, "query": None}


async def reading(waiters: Any = (), holders: Any = (), **changed: Any) -> tuple[Reading, list[str]]:
    desk: Any = Desk({"guard": ROW | changed, "waiters": waiters, "holders": holders}, package=ROOM)
    found = await guard.look(desk, BACKEND)
    return found, [name for name, _ in desk.asked]


async def test_a_look_at_a_build() -> None:
    found, asked = await reading()
    assert asked == ["guard", "waiters"]  # who does not wait is held by nobody
    assert (found.gone, found.idle, found.waits_for, found.phase) == (False, False, "", "")
    assert (found.index_oid, found.locker, found.lockers, found.blocks) == (None, None, (0, 0), (0, 0))
    found, asked = await reading(
        wait_event_type="Lock", wait_event="relation", phase="building index", index_oid=9, current_locker_pid=8,
        lockers_done=1, lockers_total=2, blocks_done=3, blocks_total=4, state="idle",
    )  # fmt: skip
    assert asked == ["guard", "waiters", "holders"]
    assert (found.idle, found.waits_for, found.phase, found.index_oid, found.locker) == (
        True,
        "relation",
        "building index",
        9,
        8,
    )
    assert (found.lockers, found.blocks) == ((1, 2), (3, 4))
    found, asked = await reading(wait_event_type="IO", wait_event="DataFileRead")
    assert (asked, found.waits_for) == (["guard", "waiters"], "")
    found, asked = await reading(pid=None, wait_event_type="Lock", wait_event=None)
    assert (asked, found.gone, found.waits_for) == (["guard"], True, "")
    with pytest.raises(ValueError, match="no row"):
        await guard.look(Desk({"guard": None}, package=ROOM), BACKEND)  # type: ignore[arg-type]


async def test_who_waits_and_who_holds() -> None:
    waiters = [WAITER, WAITER | {"application_name": "psql", "query": "alter table t"}]
    holders = [HOLDER, HOLDER | {"application_name": "app", "state": "idle", "query": "begin"}]
    found, _ = await reading(waiters, holders, wait_event_type="Lock", wait_event="virtualxid")
    assert [w.who.strip() for w in found.waiters] == ["", "psql alter table t"]
    assert [h.who for h in found.holders] == ["hidden", "app idle begin"]


def test_holders_in_words() -> None:
    assert Holder(8, 2.4, "app").words == "pid 8, its transaction 2 s old: app"
    assert "of unknown age" in Holder(8, None, "app").words
    assert Holder(0, None, "").words.startswith("a prepared transaction")


QUIET = Reading(
    now=NOW, gone=False, idle=False, waits_for="", phase="building index", index_oid=None, locker=4, lockers=(0, 0),
    blocks=(0, 0), waiters=(),
)  # fmt: skip


def test_the_phase_in_words() -> None:
    assert QUIET.progress["phase"] == "building index"
    assert replace(QUIET, phase="").progress["phase"] == "at work"
    assert replace(QUIET, phase="", waits_for="relation").progress["phase"] == TABLE_LOCK


@pytest.mark.parametrize(
    ("phase", "waits_for", "stopped"),
    [("", "relation", True), (" ", "relation", True), ("initializing", "relation", True), ("building index", "relation", False),
     ("initializing", "virtualxid", False), ("", "", False)],
)  # fmt: skip
def test_the_first_lock_is_waited_for_so_long(phase: str, waits_for: str, stopped: bool) -> None:
    judge = Judge(Observer(initial_lock_seconds=5), Rules("create", None))
    seen = replace(QUIET, phase=phase, waits_for=waits_for)
    assert judge.judge(seen, 100.0) is None
    assert judge.judge(seen, 105.0) is None
    assert (judge.judge(seen, 105.1) is not None) is stopped


def test_writers_before_the_build_are_waited_for_so_long() -> None:
    judge = Judge(Observer(waiting_phase_seconds=300), Rules("create", None))
    seen = replace(QUIET, phase=PHASE_BEFORE_BUILD)
    assert judge.judge(seen, 0.0) is None
    assert judge.judge(seen, 300.0) is None
    stop = judge.judge(seen, 300.1)
    assert stop is not None
    assert "(pid 4)" in stop.sentence
    named = judge.judge(replace(seen, holders=(Holder(8, 2.0, "app"),)), 301.0)
    assert named is not None
    assert "(pid 8, its" in named.sentence


class Asked(Pressure):
    """On a session that the test made."""

    async def _eye(self) -> Any:
        return self._session


def pressing(desk: Any = None, *, seen: Any = None, cores: int | None = None, known: Any = None, **guards: Any) -> Any:
    made = work(guards=guards)
    made.target = context(target_of={"cores": cores}).target
    one: Any = Asked(made, BACKEND)
    one._session = desk or Desk({})

    async def read(session: Any) -> Any:
        return seen or signals()

    one._signals = SimpleNamespace(asker=SimpleNamespace(forget=lambda: None), read=read)
    one._known = known or (Facts(1, (1,), frozenset()), Statements(Source("", 0, "no extension")))
    return one


async def test_each_guard_of_a_running_build_is_asked() -> None:
    assert await pressing()._signs() == []
    hot = signals(waits=waits("IO", 99))
    assert [s.guard for s in await pressing(seen=hot)._signs()] == ["critical_load"]
    late = signals(replication=followers(replace(STANDBY, replay_bytes=1.0, replay_s=999.0)))
    assert [s.guard for s in await pressing(seen=late)._signs()] == ["replica_lag"]
    assert await pressing(seen=late, replicas={"enabled": False})._signs() == []
    unread, none = signals(replication=followers(unread=("no right",))), signals()
    none.replication = None
    for blind in (unread, none):
        with pytest.raises(ValueError, match="could not be read"):
            await pressing(seen=blind)._signs()
        assert await pressing(seen=blind, replicas={"enabled": False})._signs() == []


@pytest.mark.parametrize(
    ("on_cpu", "cores", "enabled", "signs"), [(9, 10, None, 0), (10, 10, None, 1), (10, None, None, 0), (10, 10, False, 0)]
)
async def test_the_cpu_of_others(on_cpu: int, cores: int | None, enabled: bool | None, signs: int) -> None:
    desk: Any = Desk({"others_on_cpu": {"on_cpu": on_cpu}}, package=ROOM)
    one = pressing(desk, cores=cores, cpu_throttle={"enabled": enabled})
    assert len(await one._cpu(desk)) == signs
    if signs:
        assert desk.asked == [("others_on_cpu", {"pid": 55})]


async def test_cpu_that_cannot_be_read_is_not_idle() -> None:
    blind: Any = Desk({"others_on_cpu": None}, package=ROOM)
    with pytest.raises(ValueError, match="who is on CPU"):
        await pressing(blind, cores=10)._cpu(blind)
    metric = pressing(cores=10, cpu_throttle={"metric": "m"})

    async def number(*_: Any) -> float:
        return 96.0

    metric.work.memory._metrics = SimpleNamespace(number=number)
    assert [s.guard for s in await metric._cpu(Desk({}))] == ["cpu"]


async def test_writers_are_compared_from_the_second_look_on(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = [Counts({(1,): (n, 500.0 * n)}, 0, 0, frozenset({1})) for n in (0, 10)]

    async def counts(*_: Any) -> Counts:
        return counted.pop(0)

    monkeypatch.setattr(pressure, "counts_of", counts)
    known = (Facts(1, (1,), frozenset()), Statements(Source("public", 170000)))
    one = pressing(known=known)
    assert await one._writes(Desk({}), None) == []
    assert [s.guard for s in await one._writes(Desk({}), None)] == ["writes"]
    assert await pressing(known=known, write_performance={"enabled": False})._writes(Desk({}), None) == []
    assert await pressing()._writes(Desk({}), None) == []  # nobody sees the statements
    asked: list[str] = []

    async def facts(*_: Any) -> Any:
        asked.append("facts")
        return known[0]

    async def statements(*_: Any) -> Any:
        return known[1]

    monkeypatch.setattr(pressure, "facts_of", facts)
    monkeypatch.setattr(pressure, "statements_of", statements)
    counted += [Counts({}, 0, 0, frozenset())] * 2
    fresh = pressing()
    fresh._known = None
    await fresh._writes(Desk({}), None)
    await fresh._writes(Desk({}), None)
    assert asked == ["facts"]  # texts are read once a build


@pytest.mark.parametrize(("interval", "slept"), [(5.0, 0.5), (0.2, 0.2)])
async def test_an_idle_guard_looks_soon_whether_work_has_begun(
    monkeypatch: pytest.MonkeyPatch, interval: float, slept: float
) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        raise EOFError

    monkeypatch.setattr(pressure.asyncio, "sleep", sleep)
    with pytest.raises(EOFError):
        await pressing(critical_load={"interval_seconds": interval})._run()
    assert waited == [slept]


async def test_a_session_of_its_own_that_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Desk] = []

    async def connect(*_: Any, **__: Any) -> Desk:
        opened.append(Desk({}))
        return opened[-1]

    monkeypatch.setattr(pressure, "connect", connect)
    one: Any = Pressure(work(), BACKEND)
    assert await one._eye() is await one._eye() is opened[0]
    opened[0].closed = True
    assert await one._eye() is opened[1]
    await one.close()  # it was never started
    assert opened[1].closed


async def test_why_a_look_failed() -> None:
    for error, words in ((TimeoutError(), "no answer within 4 s"), (ValueError("null"), "null")):
        one = pressing()

        async def signs(self: Any = None, error: Exception = error) -> Any:
            raise error

        made: Any = SimpleNamespace(_signs=signs)
        (sign,) = await Pressure._look(made)
        assert sign.sentence.endswith(f"could not be read: {words}")
        assert one.phase == ""

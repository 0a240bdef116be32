"""Gates on what the server does now, each at the edge of its comparison; no server is needed for that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from indexpilot_tui.engine.metrics.answer import MetricError
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards import (
    backup,
    blockers,
    cpu,
    leftovers,
    load,
    memory,
    replicas,
    same_table_ddl,
)
from indexpilot_tui.engine.safeguards import signals as signals_of
from indexpilot_tui.engine.safeguards.context import flag, number
from indexpilot_tui.engine.safeguards.replicas import Readers, judge_readers
from indexpilot_tui.errors import ServerError
from tests.unit.desk import (
    ARCHIVER,
    FACTS,
    NOW,
    PLAN,
    SLOT,
    STANDBY,
    Desk,
    context,
    followers,
    only,
    seen,
    signals,
    status,
    waits,
)

LIMITS = {
    "max_active_backends": 10, "max_oldest_xact_seconds": 60, "max_lock_waiters": 2, "max_lwlock_waits": 3, "max_io_waits": 4,
    "max_transactions_per_second": 500, "max_wal_mb_per_second": 10, "max_requested_checkpoints": 1,
}  # fmt: skip


def rates(name: str) -> Callable[[float], dict[str, Any]]:
    return lambda value: {"rates": {name: value}}


@pytest.mark.parametrize(
    ("guard", "made", "limit"),
    [
        ("active_backends", lambda v: {"active_backends": v}, 10),
        ("oldest_transaction", lambda v: {"oldest_xact_s": v, "oldest_xact_pid": 7}, 60),
        ("lock_waiters", lambda v: {"lock_waiters": v}, 2),
        ("lwlock_waits", lambda v: {"waits": waits("LWLock", v)}, 3),
        ("io_waits", lambda v: {"waits": waits("IO", v)}, 4),
        ("transactions", rates("xacts"), 500),
        ("wal", rates("wal_bytes"), 10_000_000),
        ("checkpoints", rates("checkpoints_requested"), 1),
    ],
)
async def test_each_figure_at_its_limit(guard: str, made: Callable[[float], dict[str, Any]], limit: int) -> None:
    ctx = context(guards={"throttle": LIMITS})
    quiet = signals()
    for value, refused in ((limit, False), (limit + 1, True)):
        there = signals(**made(value))
        rate = there.rates != quiet.rates  # of a level the higher of two readings counts, a rate is between the two
        for first, second in [(quiet, there)] if rate else [(quiet, there), (there, quiet)]:
            found = await load.GATE.read(seen(ctx, second, first))
            held = {v.guard: v.status for v in found if not v.allows}
            assert held == ({f"load.{guard}": Status.WAIT} if refused else {})
            assert len(found) == 8
            oldest = next(v for v in found if v.guard == "load.oldest_transaction")
            assert ("pid 7" in oldest.evidence) is (second.pulse.oldest_xact_pid == 7)


async def test_what_has_no_limit_is_not_judged_and_what_was_not_read_does_not_pass() -> None:
    none = dict.fromkeys(LIMITS) | {"max_active_backends": 10, "max_oldest_xact_seconds": 60, "max_lock_waiters": 2}
    ctx = context(guards={"throttle": none})
    unread = signals(rates={"xacts": None, "wal_bytes": None, "checkpoints_requested": None}, waits=None)
    found = await load.GATE.read(seen(ctx, unread))
    assert [v.guard for v in found] == ["load.active_backends", "load.oldest_transaction", "load.lock_waiters"]
    found = await load.GATE.read(seen(context(guards={"throttle": LIMITS}), unread))
    unknown = {v.guard for v in found if v.status is Status.UNKNOWN}
    assert unknown == {"load.transactions", "load.wal", "load.checkpoints"}
    off = await only(load.GATE, context(guards={"throttle": {"enabled": False}}))
    assert off.evidence.startswith("switched off")


@pytest.mark.parametrize(
    "changed", [{"hidden": 1}, {"active_backends": None}, {"oldest_xact_s": None}, {"lock_waiters": None}]
)
async def test_what_is_hidden_is_not_calm(changed: dict[str, Any]) -> None:
    for two in ((signals(**changed), signals()), (signals(), signals(**changed))):
        with pytest.raises(ValueError, match=r"hidden|no value"):
            await load.GATE.read(seen(context(), two[0], two[1]))


def held(until: datetime | None, was: Status = Status.WAIT) -> Verdict:
    return Verdict("load", was, "", "", "", "", None, until)


def test_a_refusal_cools_down_for_as_long_as_it_says() -> None:
    later = NOW + timedelta(seconds=30)
    good, bad = Verdict("load", Status.PASS, "", "", "", "quiet"), Verdict("load", Status.WAIT, "", "", "", "busy")
    assert load.cooled([bad], [], NOW, 30)[0].retry_at == later
    (cooling,) = load.cooled([good], [held(later)], NOW, 30)
    assert (cooling.status, cooling.retry_at, cooling.evidence) == (Status.WAIT, later, "cools down: quiet")
    assert load.cooled([good], [held(later)], later - timedelta(milliseconds=1), 30)[0].status is Status.WAIT
    for passed in (
        held(later, Status.PASS),
        held(later, Status.BLOCK),
        held(None),
        held(NOW),
        replace(held(later), guard="x"),
    ):
        assert load.cooled([good], [passed], NOW, 30) == [good]
    unknown = replace(good, status=Status.UNKNOWN)
    assert load.cooled([unknown], [held(later)], NOW, 30) == [unknown]  # not known is worse than hot


@pytest.mark.parametrize(("on_cpu", "expected"), [(8, Status.PASS), (9, Status.WAIT)])  # 80 and 90 per cent of ten cores
async def test_sessions_on_cpu_against_the_cores(on_cpu: int, expected: Status) -> None:
    ctx = context(target_of={"cores": 10})
    v = await only(cpu.GATE, seen(ctx, signals(on_cpu=on_cpu)))
    assert (v.status, v.measured) == (expected, f"{10 * on_cpu} %")
    assert v.retry_at == (None if expected is Status.PASS else NOW + timedelta(seconds=30))


def test_the_cpu_at_its_limit() -> None:
    assert cpu.judge(0, 80, "x").allows
    assert cpu.judge(80, 80, "x").allows
    assert cpu.judge(80.1, 80, "x").status is Status.WAIT
    with pytest.raises(ValueError, match="cannot be"):
        cpu.judge(-0.1, 80, "x")


async def test_without_cores_and_metric_production_is_refused() -> None:
    for enabled, environment, expected in (
        (None, "production", Status.UNKNOWN), (None, "staging", Status.PASS), (True, "staging", Status.UNKNOWN),
        (False, "production", Status.PASS),
    ):  # fmt: skip
        ctx = context(guards={"cpu_throttle": {"enabled": enabled}}, target_of={"environment": environment})
        assert await status(cpu.GATE, ctx) is expected
    ctx = context(guards={"cpu_throttle": {"metric": "nobody"}}, target_of={"cores": 10},
                  settings_of={"metrics": {"nobody": {"command": ["false"]}}})  # fmt: skip
    with pytest.raises(MetricError):  # a metric that fails is not replaced by the cores
        await only(cpu.GATE, ctx)


async def test_one_reading_is_enough_where_nobody_judges_load() -> None:
    def two(enabled: bool, cores: int | None) -> bool:
        return signals_of.two_needed(context(guards={"throttle": {"enabled": enabled}}, target_of={"cores": cores}))

    assert [two(True, None), two(False, 4), two(False, None), two(True, 4)] == [True, True, False, True]


@pytest.mark.parametrize("needed", [True, False])
async def test_two_readings_are_taken_where_they_are_judged(monkeypatch: pytest.MonkeyPatch, needed: bool) -> None:
    looks = 0

    async def look(ctx: Any) -> int:
        nonlocal looks
        looks += 1
        return looks

    monkeypatch.setattr(signals_of, "look", look)
    ctx = context(guards={"throttle": {"enabled": needed, "sample_seconds": 0.1}})
    await signals_of.prime(ctx)
    assert looks == int(needed)
    assert await signals_of.newest(ctx) == await signals_of.newest(ctx) == looks == 1 + needed


async def test_what_was_not_read_of_replication_is_not_none() -> None:
    for found in (None, followers(unread=("no right",))):
        taken = signals()
        taken.replication = found
        with pytest.raises(ValueError, match=r"no right|was not read"):
            await signals_of.replication(seen(context(), taken))
    with pytest.raises(ValueError, match="no value for it"):
        signals_of.known(None, "it")
    assert signals_of.known(0, "it") == 0


def behind(seconds: float, **changed: Any) -> Any:
    return replace(STANDBY, **({"replay_bytes": 1.0, "replay_s": seconds, "reply_s": 0.0} | changed))


def test_how_far_a_standby_is_behind() -> None:
    assert replicas.lag_of(behind(5.0)) == 5.0
    assert replicas.lag_of(behind(5.0, replay_bytes=0.0)) == 0.0  # nothing is left to replay
    assert replicas.lag_of(behind(5.0, replay_bytes=-1.0)) == 0.0
    assert replicas.lag_of(behind(5.0, reply_s=9.0)) == 9.0  # it stopped to answer
    assert replicas.lag_of(behind(None)) == 0.0  # type: ignore[arg-type]
    receiver = behind(0.0, replay_bytes=None, flush_bytes=1.0, flush_s=7.0)  # pg_receivewal replays nothing
    assert replicas.lag_of(receiver) == 7.0
    assert replicas.lag_of(behind(7.0, flush_bytes=1.0, flush_s=1.0)) == 7.0
    assert replicas.lag_of(behind(3.0, replay_bytes=None, flush_bytes=None, flush_s=4.0)) == 4.0  # how much is not told
    for hidden in (behind(0.0, visible=False), behind(0.0, reply_s=None)):
        with pytest.raises(ValueError, match=r"hidden|not known yet"):
            replicas.lag_of(hidden)


SYNC = {"synchronous": {"names": ""}}


async def ask_replicas(found: Any, **changed: Any) -> list[Verdict]:
    return await replicas.GATE.read(seen(context({"synchronous": {"names": changed.pop("names", "")}}, **changed),
                                         signals(replication=found)))  # fmt: skip


async def test_lag_at_its_limit() -> None:
    for seconds, expected in ((30.0, Status.PASS), (30.1, Status.WAIT)):
        (v,) = await ask_replicas(followers(STANDBY, behind(seconds)))
        assert (v.guard, v.status) == ("replicas.lag", expected)
    backing = behind(99.0, state="backup")
    (v,) = await ask_replicas(followers(backing))
    assert (v.guard, v.evidence) == ("replicas", "no standby is connected")
    (v,) = await ask_replicas(followers(backing, behind(1.0)))
    assert "of 1 connected" in v.evidence
    (v,) = await ask_replicas(followers(behind(99.0)), guards={"replicas": {"enabled": False}})
    assert v.evidence.startswith("switched off")


@pytest.mark.parametrize("row", [None, {"names": None}])
async def test_standbys_that_a_commit_waits_for_must_be_told(row: dict[str, Any] | None) -> None:
    with pytest.raises(ValueError, match="does not tell"):
        await replicas.GATE.read(seen(context({"synchronous": row}), signals()))


def slot(kept: float | None, **changed: Any) -> Any:
    return replace(SLOT, **({"retained_bytes": kept, "active": False} | changed))


@pytest.mark.parametrize(
    ("slots", "expected", "measured"),
    [
        ((slot(100e6),), Status.PASS, "100 MB"),
        ((slot(100e6 + 1),), Status.BLOCK, "100 MB"),
        ((slot(900e6, active=True),), Status.PASS, "0.0 kB"),  # it is read
        ((slot(50e6), slot(20e6), slot(None)), Status.PASS, "50 MB"),
        ((slot(200e6), slot(300e6)), Status.BLOCK, "300 MB"),
        ((slot(0.0, wal_status="lost"),), Status.BLOCK, "0.0 kB"),
        ((slot(5e6, wal_status="unreserved", active=True),), Status.BLOCK, "5.0 MB"),
        ((slot(None, wal_status="lost"),), Status.BLOCK, "0.0 kB"),
    ],
)
async def test_slots_that_keep_wal(slots: tuple[Any, ...], expected: Status, measured: str) -> None:
    (v,) = await ask_replicas(followers(slots=slots), guards={"replicas": {"max_retained_wal_mb": 100}})
    assert (v.guard, v.status, v.measured) == ("replicas.slots", expected, measured)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [("", 0), (" ", 0), ("a", 1), ("*", 1), ("2 (a, b, c)", 2), ("FIRST 3 (a, b, c)", 3), ("any 2(a,b)", 2), ("2", 1)],
)
def test_how_many_a_commit_waits_for(names: str, wanted: int) -> None:
    assert replicas.needed(names) == wanted


@pytest.mark.parametrize(
    ("names", "standbys", "allowed"),
    [
        ("", (), True),
        ("one", (replace(STANDBY, sync_state="sync"),), True),
        ("one", (replace(STANDBY, sync_state="quorum"),), True),
        ("one", (STANDBY,), False),  # async
        ("one", (replace(STANDBY, sync_state="sync", state="catchup"),), False),
        ("2 (a, b)", (replace(STANDBY, sync_state="sync"),), False),
        ("2 (a, b)", (replace(STANDBY, sync_state="sync"), replace(STANDBY, sync_state="quorum")), True),
        ("one", (), False),
    ],
)
async def test_synchronous_standbys(names: str, standbys: tuple[Any, ...], allowed: bool) -> None:
    found = {v.guard: v for v in await ask_replicas(followers(*standbys), names=names)}
    v = found.pop("replicas.synchronous", None)
    assert (v is None) is (names == "")
    if v is not None:
        assert v.status is (Status.PASS if allowed else Status.BLOCK)
        assert ("commits hang" in v.evidence) is not allowed


DROP = replace(PLAN, kind="drop", index_oid=9)


async def test_a_drop_asks_for_readers_on_standbys_and_a_build_does_not() -> None:
    found = {v.guard for v in await ask_replicas(followers(STANDBY), plan=DROP)}
    assert found == {"replicas.lag", "replicas.sessions"}
    assert {v.guard for v in await ask_replicas(followers(STANDBY))} == {"replicas.lag"}
    assert {v.guard for v in await ask_replicas(followers(STANDBY), plan=None)} == {"replicas.lag"}
    (v,) = await ask_replicas(followers(), plan=DROP)  # nobody follows, nobody reads
    assert v.guard == "replicas"


@pytest.mark.parametrize(
    ("looks", "connected", "unknown"),
    [
        ([Readers("a")], 1, []),
        ([Readers("a")], 2, ["1 more that are connected"]),
        ([Readers("a", unseen="no")], 1, ["1 more that are connected"]),
        ([], 2, ["one", "one"]),
        ([Readers("a"), Readers("b")], 1, []),
        ([Readers("a")], 0, []),
    ],
)
async def test_standbys_that_nobody_looks_into_are_told(
    monkeypatch: pytest.MonkeyPatch, looks: list[Readers], connected: int, unknown: list[str]
) -> None:
    answers, told = list(looks), []

    async def readers(ctx: Any, name: str) -> Readers:
        return answers.pop(0)

    def judged(looks: list[Readers], others: list[str], most: float) -> Verdict:
        told.append((looks, others, most))
        return Verdict("x", Status.PASS, "", "", "", "")

    monkeypatch.setattr(replicas, "_readers", readers)
    monkeypatch.setattr(replicas, "judge_readers", judged)
    ctx = context(plan=DROP, guards={"blockers": {"max_writer_age_seconds": 9}})
    ctx = replace(ctx, target=replace(ctx.target, standbys=tuple(r.standby for r in looks)))
    assert len(await replicas._sessions(ctx, followers(*[STANDBY] * connected))) == 1
    assert told == [(looks, unknown, 9)]


@pytest.mark.parametrize(
    ("changed", "unseen"),
    [({}, ""), ({"system_identifier": "8"}, "no standby of this server"), ({"in_recovery": False}, "no standby of this server"),
     ({"database": "other"}, "opened on database other")],
)  # fmt: skip
async def test_only_a_standby_of_this_server_is_looked_into(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], unseen: str
) -> None:
    rows: list[dict[str, Any]] = []
    there = Desk({"lock_holders": rows}, replace(FACTS, **({"in_recovery": True, "server_pid": 55} | changed)))

    async def connected(*_: Any) -> Desk:
        there.closed = False
        return there

    monkeypatch.setattr(replicas, "connect", connected)
    ctx = context(plan=DROP, settings_of={"targets": {"a": {"dsn": "host=a"}}})
    found = await replicas._readers(ctx, "a")
    assert unseen in found.unseen
    assert there.closed
    if unseen:
        return
    assert found == Readers("a")
    assert there.asked[0][1] == {"own": [55], "table_oid": PLAN.table_oid, "any_lock": True}
    rows += [old(1.0, "pid 1"), old(9.0, "pid 2")]
    assert await replicas._readers(ctx, "a") == Readers("a", 2, 9.0, "pid 2")


async def test_a_standby_that_does_not_answer_or_hides_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context(plan=DROP, settings_of={"targets": {"a": {"dsn": "host=a"}}})
    for error, unseen, age in ((TimeoutError(), "no answer", 0.0), (ServerError("refused"), "refused", 0.0),
                               (ValueError("the age is hidden"), "", float("inf"))):  # fmt: skip

        async def connected(*_: Any, error: Exception = error) -> Desk:
            raise error

        monkeypatch.setattr(replicas, "connect", connected)
        found = await replicas._readers(ctx, "a")
        assert found.unseen.startswith(unseen)
        assert found.age_s == age


def test_readers_at_the_limit() -> None:
    at, past = Readers("a", 1, 30.0, "pid 5"), Readers("b", 2, 30.1, "pid 6")
    v = judge_readers([at], [], 30)
    assert (v.status, v.measured, "NOT looked" in v.evidence) == (Status.PASS, "1 sessions", False)
    v = judge_readers([at, past], [], 30)
    assert (v.status, v.evidence.startswith("pid 6 uses the table on b")) == (Status.WAIT, True)
    assert judge_readers([past, at], [], 30).evidence.startswith("pid 6")
    blind = Readers("c", unseen="no answer")
    v = judge_readers([at, blind], [], 30)
    assert (v.measured, "NOT looked into: c (no answer)" in v.evidence) == ("1 sessions", True)
    assert judge_readers([blind], [], 30).measured == "not measured"
    assert judge_readers([], ["x"], 30).measured == "not measured"
    assert judge_readers([], [], 30).measured == "0 sessions"
    assert judge_readers([at], ["x"], 30).measured == "not measured"  # as many unknown as looked into


SEES = {"sees_everybody": {"sees": True}}
NOBODY: dict[str, Any] = SEES | {"snapshots": [], "lock_holders": [], "prepared": []}


def old(age: float | None, who: str = "pid 5") -> dict[str, Any]:
    return {"age_s": age, "who": who}


@pytest.mark.parametrize(
    ("question", "expected"), [("snapshots", Status.WAIT), ("lock_holders", Status.WAIT), ("prepared", Status.BLOCK)]
)
async def test_old_transactions_at_their_limit(question: str, expected: Status) -> None:
    guards = {"blockers": {"max_snapshot_age_seconds": 30, "max_writer_age_seconds": 30}}
    for age, want in ((30.0, Status.PASS), (30.001, expected)):
        found = await blockers.GATE.read(context(NOBODY | {question: [old(1.0), old(age, "pid 6")]}, guards=guards))
        by = {v.guard: v for v in found}
        assert {v.status for g, v in by.items() if g != f"blockers.{question}"} == {Status.PASS}
        v = by[f"blockers.{question}"]
        assert v.status is want
        assert ("pid 6" in v.evidence) is (want is not Status.PASS)
        assert ("2 at work" in v.evidence) is (want is Status.PASS)


@pytest.mark.parametrize(
    ("kind", "guards", "any_lock", "uses"),
    [
        ("create", ["snapshots", "lock_holders", "prepared"], False, "wrote to the table"),
        ("drop", ["lock_holders", "prepared"], True, "uses the table"),
        ("reindex", ["snapshots", "lock_holders", "prepared"], True, "uses the table"),
        ("", ["snapshots", "prepared"], None, ""),
    ],
)
async def test_what_each_kind_of_change_waits_for(kind: str, guards: list[str], any_lock: bool | None, uses: str) -> None:
    plan = replace(PLAN, kind=kind) if kind else None
    ctx = context(NOBODY | {"lock_holders": [old(99.0)]}, plan=plan)
    found = await blockers.GATE.read(ctx)
    assert [v.guard for v in found] == [f"blockers.{g}" for g in guards]
    asked = dict(ctx.session.asked)  # type: ignore[attr-defined]
    if any_lock is not None:
        assert asked["lock_holders"]["any_lock"] is any_lock
        assert any(uses in v.evidence for v in found)
    if "snapshots" in asked:
        assert asked["snapshots"] == {"own": [100]}
    assert asked["prepared"] is None


async def test_hidden_sessions_are_not_absent() -> None:
    for gate in (blockers.GATE, same_table_ddl.GATE, leftovers.GATE):
        with pytest.raises(ValueError, match="hidden from alice"):
            await gate.read(context({"sees_everybody": {"sees": False}}))


async def test_an_age_that_comes_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def at_once(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", at_once)
    new = old(None, "pid 9")
    readings = [[new], [new], [new], [new], [new | {"age_s": 0.1}]]
    ctx = context(NOBODY | {"snapshots": lambda _: readings.pop(0)})
    assert await blockers.settled(ctx, "snapshots", {}) == [old(0.1, "pid 9")]
    readings = [[new]] * 6
    with pytest.raises(ValueError, match="is hidden"):
        await blockers.settled(ctx, "snapshots", {})
    assert len(readings) == 1  # asked five times
    assert all(0 < seconds < 0.1 for seconds in slept)  # a gate has six seconds for everything
    readings = [[old(None, "pid 1")], [old(None, "pid 2"), old(3.0, "pid 3")]]  # another one: it had just begun
    assert await blockers.settled(ctx, "snapshots", {}) == [old(0.0, "pid 2"), old(3.0, "pid 3")]


async def test_who_changes_the_table() -> None:
    row = {"pid": 5, "mode": "ShareLock", "granted": True, "query": "create index"}
    for answers, measured, verb in (([], "none", ""), ([row, row], "2 other", "holds"),
                                    ([row | {"granted": False}], "1 other", "waits for")):  # fmt: skip
        v = await only(same_table_ddl.GATE, context(SEES | {"table_ddl": answers}))
        assert (v.allows, v.measured) == (not answers, measured)
        assert verb in v.evidence
    with pytest.raises(ValueError, match="is hidden"):
        await only(same_table_ddl.GATE, context(SEES | {"table_ddl": [row | {"query": None}]}))


@pytest.mark.parametrize(
    ("unique", "ready", "rejects"), [(True, True, True), (True, False, False), (False, True, False), (False, False, False)]
)
async def test_a_leftover_that_rejects_rows_says_so(unique: bool, ready: bool, rejects: bool) -> None:
    row = {"name": "app.x", "indisunique": unique, "indisready": ready}
    ctx = context(SEES | {"leftovers": [row]}, plan=DROP)
    v = await only(leftovers.GATE, ctx)
    assert (v.status, "rejects rows" in v.evidence) == (Status.BLOCK, rejects)
    assert dict(ctx.session.asked)["leftovers"]["own_oid"] == 9  # type: ignore[attr-defined]
    ctx = context(SEES | {"leftovers": []})
    assert (await only(leftovers.GATE, ctx)).allows
    assert dict(ctx.session.asked)["leftovers"]["own_oid"] == 0  # type: ignore[attr-defined]


def test_what_was_not_measured_is_no_zero() -> None:
    assert number({"a": 0}, "a") == 0.0
    assert flag({"a": False}, "a") is False
    for row in (None, {}, {"a": None}):
        for take in (number, flag):
            with pytest.raises(ValueError, match="no value for a"):
                take(row, "a")
    with pytest.raises(ValueError, match="no value for a"):
        flag({"a": 1}, "a")


async def archived(ago: float | None, **changed: Any) -> Verdict:
    last = None if ago is None else NOW - timedelta(seconds=ago)
    archiver = replace(ARCHIVER, last_archived=last, **changed)
    taken = seen(context(guards={"backup": {"enabled": True}}), signals(replication=followers(archiver=archiver)))
    return await only(backup.GATE, taken)


async def test_the_archiver_at_its_limit() -> None:
    assert (await archived(3600)).allows
    v = await archived(3601)
    assert (v.status, "archive_timeout" in v.evidence) == (Status.WAIT, True)
    assert (await archived(-5)).measured == "0.0 s old"  # archived after our look at the clock
    assert (await archived(None)).measured == "none"
    assert (await archived(1, failing=True, failed_count=2)).measured == "failing"
    assert (await archived(1, enabled=False)).measured == "no archiver"


def test_a_backup_by_its_metric() -> None:
    assert backup.judge(0, 10, "backup", "x").setting.endswith("max_backup_age_seconds")
    assert backup.judge(10, 10, "backup", "x").allows
    v = backup.judge(10.1, 10, "backup", "x")
    assert (v.status, v.evidence) == (Status.WAIT, "the newest backup is too old: x")
    assert "archived WAL" in backup.judge(0, 10, "archive", "x").evidence
    with pytest.raises(ValueError, match="negative"):
        backup.judge(-0.1, 10, "backup", "x")


@pytest.mark.parametrize(
    ("enabled", "environment", "expected"),
    [
        (None, "development", "not asked for"), (None, "demo", "not asked for"), (None, "production", "newest archived"),
        (None, "staging", "newest archived"), (True, "development", "newest archived"), (False, "production", "switched off"),
    ],
)  # fmt: skip
async def test_whose_backup_is_asked_for(enabled: bool | None, environment: str, expected: str) -> None:
    ctx = context(guards={"backup": {"enabled": enabled}}, target_of={"environment": environment})
    assert (await only(backup.GATE, seen(ctx, signals()))).evidence.startswith(expected)
    failing = {"metrics": {"nobody": {"command": ["false"]}}}
    ctx = context(guards={"backup": {"enabled": enabled, "metric": "nobody"}}, target_of={"environment": environment},
                  settings_of=failing)  # fmt: skip
    if enabled is not False:
        with pytest.raises(MetricError):  # a metric alone counts, and is not replaced by the archiver
            await only(backup.GATE, seen(ctx, signals()))


async def test_what_is_remembered_and_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, reads, slept = [1000.0], [0], []

    async def read() -> int:
        reads[0] += 1
        return reads[0]

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(asyncio, "sleep", sleep)
    held = memory.Memory()
    assert held.held("a") is None
    assert [await held.kept("a", 60, read), await held.kept("a", 60, read)] == [1, 1]
    clock[0] += 60
    assert held.held("a") == (60.0, 1)
    assert await held.kept("a", 60, read) == 1
    clock[0] += 0.5
    assert await held.kept("a", 60, read) == 2
    assert [await held.once("b", NOW, read), await held.once("b", NOW, read)] == [3, 3]
    assert await held.once("b", NOW + timedelta(microseconds=1), read) == 4
    await held.first("c", read)  # 5
    clock[0] += 60
    await held.first("c", read)  # still fresh
    assert reads == [5]
    clock[0] += 0.5
    await held.first("c", read)
    assert reads == [6]
    two = await held.two("c", 1.0, read)  # 6 and 7, a second apart
    assert (two.first, two.second, two.seconds, slept) == (6, 7, 1.0, [1.0])
    clock[0] += 5
    two = await held.two("c", 1.0, read)
    assert (two.first, two.second, two.seconds, slept) == (7, 8, 5.0, [1.0, 0.0])


def test_the_reader_of_metrics_is_kept() -> None:
    ctx = context()
    assert ctx.memory.metrics(ctx.settings, ctx.target) is ctx.memory.metrics(ctx.settings, ctx.target)
    assert FACTS.direct

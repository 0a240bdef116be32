"""Gates on room and on what an index costs those who write, each at the edge of its comparison; no server is needed."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from indexpilot_tui.engine.metrics.answer import MetricError
from indexpilot_tui.engine.model.estimate import BuildEstimate
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.observe.source import Source
from indexpilot_tui.engine.safeguards import disk, hot_columns, storage_budget, table_writes, write_performance
from indexpilot_tui.engine.safeguards.demanded import megabytes, not_configured
from indexpilot_tui.engine.safeguards.disk import Space
from indexpilot_tui.engine.safeguards.hot_columns import Written, written
from indexpilot_tui.engine.safeguards.memory import Memory, Two
from indexpilot_tui.engine.safeguards.table_writes import (
    Counts,
    Facts,
    Statements,
    Writes,
    between,
    counts_of,
    facts_of,
    statements_of,
)
from indexpilot_tui.settings.safeguards import WritePerformance
from indexpilot_tui.settings.validated import plain
from tests.unit.desk import (
    ARCHIVER,
    FACTS,
    NOW,
    PLAN,
    SLOT,
    Desk,
    context,
    followers,
    only,
    seen,
    signals,
    status,
)

MB = 1e6
DROP = replace(PLAN, kind="drop", index_oid=9)


def build(index: float = 10 * MB, temp: float = 5 * MB, wal: float = 5 * MB, where: str = "") -> Any:
    async def ask() -> BuildEstimate:
        return BuildEstimate(int(index), int(temp), int(wal), 60.0, where, "a test")

    return ask


async def room(free: float, total: float = 1000, *, replication: Any = None, **changed: Any) -> list[Verdict]:
    """MB free on a volume of so many."""
    ctx = context({"disk": {"used_bytes": (total - free) * MB}}, target_of={"disk_capacity_mb": total},
                  **({"estimate": build()} | changed))  # fmt: skip
    return await disk.GATE.read(seen(ctx, signals(replication=replication)))


async def test_what_is_needed_and_a_tenth_must_be_free() -> None:
    """1.3 times 20 MB, and 100 MB of a thousand."""
    for free, expected in ((126.0, Status.PASS), (125.9, Status.BLOCK)):
        (v,) = await room(free)
        assert v.status is expected
        assert ("make room" in v.evidence) is (expected is Status.BLOCK)
    for free, expected in ((100.0, Status.PASS), (99.9, Status.BLOCK)):
        (v,) = await room(free, plan=None)
        assert v.status is expected
        assert "needed" not in v.evidence
    assert (await room(0.0, plan=DROP))[0].allows
    assert (await room(0.0, guards={"disk": {"enabled": False}}))[0].allows


@pytest.mark.parametrize(
    ("archiver", "slots", "doubled"),
    [
        (ARCHIVER, (), False),
        (replace(ARCHIVER, failing=True), (), True),
        (replace(ARCHIVER, failing=True, enabled=False), (), False),
        (ARCHIVER, (replace(SLOT, active=False),), True),
        (ARCHIVER, (SLOT,), False),
        (ARCHIVER, (replace(SLOT, active=False, retained_bytes=None),), False),
    ],
)
async def test_wal_that_is_kept_counts_twice(archiver: Any, slots: Any, doubled: bool) -> None:
    found = followers(slots=slots, archiver=archiver)
    assert (await room(126.0, replication=found))[0].allows is not doubled
    assert (await room(132.5, replication=found))[0].allows


async def test_another_tablespace_is_another_volume() -> None:
    for where in ("", "pg_default"):
        assert [v.guard for v in await room(500, estimate=build(where=where))] == ["disk"]
    (v,) = await room(500, estimate=build(where="fast"))
    assert (v.guard, v.status) == ("disk.tablespace", Status.UNKNOWN)
    printed = {"m": {"command": ["printf", "%s", '{"free_bytes": 113e6, "total_bytes": 1e9}']}}
    both = await room(500, estimate=build(where="fast"), settings_of={"metrics": printed},
                      guards={"disk": {"tablespace_metrics": {"fast": "m"}}})  # fmt: skip
    assert [(v.guard, v.status) for v in both] == [("disk", Status.PASS), ("disk.tablespace", Status.PASS)]
    wide = await room(500, estimate=build(11 * MB, where="fast"), settings_of={"metrics": printed},
                      guards={"disk": {"tablespace_metrics": {"fast": "m"}}})  # fmt: skip
    assert [v.status for v in wide] == [Status.PASS, Status.BLOCK]


async def test_a_plain_number_needs_the_capacity_beside_it() -> None:
    number = {"m": {"command": ["printf", "500e6"]}}
    for capacity, known in ((1000, True), (None, False)):
        ctx = context(target_of={"disk_capacity_mb": capacity}, settings_of={"metrics": number}, estimate=build(),
                      guards={"disk": {"metric": "m"}})  # fmt: skip
        if known:
            assert (await only(disk.GATE, seen(ctx, signals()))).measured == "500 MB free"
        else:
            with pytest.raises(MetricError, match="no total_bytes"):
                await only(disk.GATE, ctx)
    nothing = context(target_of={"environment": "production"})
    assert await status(disk.GATE, nothing) is Status.UNKNOWN


def test_a_volume_at_its_limits() -> None:
    space = Space(50.0, 1000.0, "s")
    assert disk.judge(space, 0.0, 5, "").allows
    assert disk.judge(Space(49.9, 1000.0, "s"), 0.0, 5, "").status is Status.BLOCK
    assert "more than there is" in disk.judge(space, 50.0, 0, "").evidence
    assert disk.judge(space, 49.9, 0, "").allows
    assert "more than there is" not in disk.judge(Space(0.0, 1000.0, "s"), 0.0, 5, "").evidence
    assert disk.judge(Space(0.0, 1000.0, "s"), 0.0, 5, "").evidence.startswith("0.0 % of")
    assert disk.judge(Space(0.0, 1000.0, "s"), 0.0, 0, "").allows
    assert disk.judge(Space(0.5, 1000.0, "s"), 0.5, 0, "").status is Status.BLOCK
    assert disk.judge(space, 0.5, 0, "x").evidence == "0.0 kB needed x"
    assert disk.judge(space, 0.0, 0, "x").evidence == "of 1.0 kB"
    assert disk.judge(Space(40.0, 1000.0, "s"), 0.5, 5, "x").evidence.startswith("after 0.0 kB x, ")


def test_figures_that_cannot_be() -> None:
    assert disk.checked(10, 10, "s") == Space(10, 10, "s")
    assert disk.checked(-1, 10, "s").free == 0
    assert disk.checked(0.5, 0.5, "s").total == 0.5
    for free, total in ((11, 10), (0, 0), (-5, -1)):
        with pytest.raises(ValueError, match="cannot be"):
            disk.checked(free, total, "s")


@pytest.mark.parametrize(
    ("size", "text"),
    [(9_999_999, "10.0 MB"), (10_000_000, "10 MB"), (-10_000_000, "-10 MB"), (99_999, "100.0 kB"), (100_000, "0.1 MB")],
)
def test_bytes_in_words(size: float, text: str) -> None:
    assert megabytes(size) == text


@pytest.mark.parametrize(
    ("enabled", "environment", "expected"),
    [
        (None, "production", Status.UNKNOWN), (None, "staging", Status.PASS), (True, "staging", Status.UNKNOWN),
        (True, "production", Status.UNKNOWN), (False, "production", Status.PASS),
    ],
)  # fmt: skip
def test_production_demands_what_is_not_configured(enabled: bool | None, environment: str, expected: Status) -> None:
    ctx = context(target_of={"environment": environment})
    assert not_configured(ctx, "g", "s", enabled, "do it")[0].status is expected


async def budget(total: float | None, table: float | None, **changed: Any) -> dict[str, Verdict]:
    limits = {"max_storage_total_mb": total, "max_storage_per_table_mb": table} | changed.pop("policy", {})
    answers = {"storage": {"total_bytes": 90 * MB, "table_bytes": 20 * MB}}
    ctx = context(answers, guards={"storage_budget": limits}, **({"estimate": build()} | changed))
    found = {v.guard.partition(".")[2]: v for v in await storage_budget.GATE.read(ctx)}
    if "storage" in dict(ctx.session.asked):  # type: ignore[attr-defined]
        oid = PLAN.table_oid if ctx.plan is not None else 0
        assert dict(ctx.session.asked)["storage"] == {"table_oid": oid}  # type: ignore[attr-defined]
    return found


async def test_budgets_at_their_limit() -> None:
    """All take 90 MB, the table 20, and the new one 10."""
    assert {k: v.allows for k, v in (await budget(100, 30)).items()} == {"total": True, "per_table": True}
    found = await budget(99.9, 29.9)
    assert {k: v.status for k, v in found.items()} == {"total": Status.BLOCK, "per_table": Status.BLOCK}
    assert "all indexes of the database" in found["total"].evidence
    assert found["total"].setting.endswith("total_mb")
    assert "the table's indexes" in found["per_table"].evidence
    assert found["per_table"].setting.endswith("per_table_mb")
    assert {k: v.allows for k, v in (await budget(None, 30)).items()} == {"per_table": True}
    assert (await budget(None, None))[""].evidence == "no budget is set"
    assert (await budget(1, 1, policy={"enabled": False}))[""].evidence.startswith("switched off")
    assert {k: v.allows for k, v in (await budget(50, 10, plan=DROP)).items()} == {"total": True, "per_table": True}
    whole = await budget(89.9, 1, plan=None)  # without a plan there is no table
    assert {k: v.status for k, v in whole.items()} == {"total": Status.BLOCK}
    assert "with this one" not in whole["total"].evidence
    assert (await budget(None, 1, plan=None))[""].evidence == "no budget is set"


def test_a_budget_warns_from_its_threshold_on() -> None:
    for after, warned in ((79.9, False), (80.0, True)):
        v = storage_budget.judge("total", after, 0.0, 100.0, 80.0)
        assert (v.allows, "% of the budget" in v.evidence) == (True, warned)


POLICY = WritePerformance(max_indexes_per_table=3, warn_indexes_per_table=2, write_overhead_threshold=0.25,
                          max_write_latency_ms=10)  # fmt: skip


def test_indexes_and_latency_at_their_limits() -> None:
    assert [write_performance.judge_count(n, POLICY).allows for n in (1, 3, 4)] == [True, True, False]
    assert ["many" in write_performance.judge_count(n, POLICY).evidence for n in (1, 2)] == [False, True]
    none = statements()
    assert write_performance.judge_hot(0.25, 0.9, none, POLICY).allows
    assert write_performance.judge_hot(0.26, 0.9, none, POLICY).status is Status.BLOCK
    for mean, expected in ((10.0, Status.PASS), (10.1, Status.WAIT), (None, Status.PASS)):
        v = write_performance.judge_latency(Writes(5, mean, None), 1, POLICY)
        assert (v.status, "no write" in v.evidence) == (expected, mean is None)
    unread = statements(Written(5, None), Written(5, frozenset("a")), Written(5, None))
    assert "2 statements could not be read" in write_performance.judge_hot(0.1, 0.9, unread, POLICY).evidence
    assert "could not be read" not in write_performance.judge_hot(0.1, 0.9, none, POLICY).evidence


def statements(*found: Written, unavailable: str = "") -> Statements:
    return Statements(Source("public", 170000, unavailable), tuple(range(len(found))), found)


UPDATES = statements(Written(80, frozenset({"name"})), Written(20, frozenset({"customer_id"})))


def _counts(times: dict[tuple[int, ...], tuple[float, float]], updated: float, hot_updated: float) -> Counts:
    return Counts(times, updated, hot_updated, frozenset((1, 2, 3)))


def counted(calls: float, ms: float, updated: float, hot_updated: float) -> Counts:
    """Of a table that one statement writes."""
    return _counts({(1,): (calls, ms)}, updated, hot_updated)


QUIET = counted(0, 0, 0, 0)


async def writing(
    monkeypatch: pytest.MonkeyPatch, *, first: Counts = QUIET, second: Counts = QUIET, known: Statements = UPDATES,
    indexes: int = 2, columns: str = "", answers: dict[str, Any] | None = None, **changed: Any,
) -> tuple[dict[str, Verdict], Any]:  # fmt: skip
    """The gate, with two readings of the table's counters."""
    ctx = context({"sees_everybody": {"sees": True}} | (answers or {}), guards={"write_performance": plain(POLICY)},
                  **changed)  # fmt: skip
    ctx = seen(ctx, signals(rates={"xacts": 7.0}))
    ctx.memory._moments["written"] = (NOW, Facts(indexes, (1,), frozenset(columns.split())))
    ctx.memory._kept[f"statements {PLAN.table_oid}"] = (time.monotonic(), known)
    ctx.memory._readings[f"writes {PLAN.table_oid}"] = (time.monotonic() - 2, first)

    async def counts(*_: Any) -> Counts:
        return second

    monkeypatch.setattr(write_performance, "counts_of", counts)
    found = {v.guard.partition(".")[2]: v for v in await write_performance.GATE.read(ctx)}
    return found, ctx.memory.before


async def test_what_a_new_index_would_cost_its_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    lively = counted(100, 500, 100, 90)
    found, before = await writing(monkeypatch, second=lively)
    assert {k: v.allows for k, v in found.items()} == {"indexes": True, "hot": True, "latency": True}
    assert found["hot"].measured == "20 %"
    assert (before.writes.mean_ms, before.writes.hot, before.xacts) == (5.0, 0.9, 7.0)
    found, _ = await writing(monkeypatch, second=lively, indexes=3)
    assert found["indexes"].status is Status.BLOCK
    found, _ = await writing(monkeypatch, first=counted(90, 0, 0, 0), second=lively)
    assert found["latency"].status is Status.WAIT
    more = statements(Written(70, frozenset({"name"})), Written(30, frozenset({"customer_id"})))
    found, _ = await writing(monkeypatch, second=lively, known=more)
    assert (found["hot"].status, found["hot"].measured) == (Status.BLOCK, "30 %")
    found, _ = await writing(monkeypatch, second=counted(100, 500, 100, 10), known=more)
    assert found["hot"].measured == "10 %"  # no more can be lost than there is
    found, _ = await writing(monkeypatch, second=counted(1, 5, 1, 1), known=more)
    assert found["hot"].measured == "30 %"  # one update is one
    for none in (counted(9, 9, 0, 0), counted(9, 9, 100, 0)):
        found, _ = await writing(monkeypatch, second=none, known=more)
        assert found["hot"].evidence == "no update of the table is HOT"
    found, _ = await writing(monkeypatch, second=lively, known=more, columns="customer_id")
    assert found["hot"].measured == "0 %"  # an index looks at it already
    few = statements(Written(19, frozenset({"customer_id"})))
    found, _ = await writing(monkeypatch, second=lively, known=few)
    assert "not known" in found["hot"].evidence


ONE, TWO, NONE = _counts({(1,): (9, 9)}, 9, 9), _counts({(1,): (9, 9), (2,): (1, 1)}, 9, 9), _counts({}, 9, 9)


@pytest.mark.parametrize(
    ("readings", "sample", "waits", "known"),
    [
        ([ONE, ONE], 3, [3.0], True),
        ([TWO, ONE, ONE], 3, [3.0, 1.0], True),  # the one that was left is a beginning, too
        ([TWO, ONE, ONE], 0.2, [0.2, 0.2], True),
        ([TWO, ONE, NONE], 1, [1.0, 1.0], False),
    ],
)
async def test_a_time_of_which_nothing_is_known_is_followed_by_one_more(
    monkeypatch: pytest.MonkeyPatch, readings: list[Counts], sample: float, waits: list[float], known: bool
) -> None:
    guards = {"write_performance": plain(POLICY), "throttle": {"sample_seconds": sample}}
    ctx = seen(context({"sees_everybody": {"sees": True}}, guards=guards), signals())
    ctx.memory._moments["written"] = (NOW, Facts(2, (1,), frozenset()))
    ctx.memory._kept[f"statements {PLAN.table_oid}"] = (time.monotonic(), UPDATES)
    waited: list[float] = []

    async def two(self: Memory, key: str, seconds: float, read: Any) -> Two[Counts]:
        waited.append(seconds)
        return Two(readings[len(waited) - 1], readings[len(waited)], seconds)

    monkeypatch.setattr(Memory, "two", two)
    if known:
        found = {v.guard.partition(".")[2]: v for v in await write_performance.GATE.read(ctx)}
        assert found["latency"].evidence == f"no write of the table ended within {waits[-1]:.0f} s"
    else:
        with pytest.raises(ValueError, match="forgotten 1 statements"):
            await write_performance.GATE.read(ctx)
    assert waited == waits


@pytest.mark.parametrize(("method", "version", "free"), [("brin", 160000, True), ("brin", 159999, False),
                                                         ("btree", 160000, False)])  # fmt: skip
async def test_brin_keeps_no_update_from_being_hot_from_16_on(
    monkeypatch: pytest.MonkeyPatch, method: str, version: int, free: bool
) -> None:
    found, _ = await writing(monkeypatch, second=counted(100, 500, 100, 90), plan=replace(PLAN, method=method),
                             facts=replace(FACTS, server_version=version))  # fmt: skip
    assert (found["hot"].measured == "0 %") is free


async def test_whose_writes_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = await writing(monkeypatch, known=statements(unavailable="no extension"))
    assert list(found) == ["indexes", "writes"]
    production = {"environment": "production"}
    found, _ = await writing(monkeypatch, known=statements(unavailable="no extension"), target_of=production)
    assert found["writes"].status is Status.UNKNOWN
    for kind in ("drop", "reindex"):
        assert (await only(write_performance.GATE, context(plan=replace(PLAN, kind=kind)))).allows
    off = context(guards={"write_performance": {"enabled": False}})
    assert (await only(write_performance.GATE, off)).evidence.startswith("switched off")
    with pytest.raises(ValueError, match="hidden"):
        await writing(monkeypatch, answers={"sees_everybody": {"sees": False}})
    _, before = await writing(monkeypatch, second=counted(1, 1, 1, 1), target_of={"cores": None})
    assert before.xacts == 7.0


@pytest.mark.parametrize(
    ("plan", "enabled", "primed"),
    [(PLAN, True, True), (PLAN, False, False), (None, True, False), (DROP, True, False)],
)
async def test_a_first_reading_is_taken_of_what_is_judged(
    monkeypatch: pytest.MonkeyPatch, plan: Any, enabled: bool, primed: bool
) -> None:
    taken: list[str] = []

    async def first(self: Memory, key: str, read: Any) -> None:
        taken.append(key)

    monkeypatch.setattr(Memory, "first", first)
    await write_performance.prime(context(plan=plan, guards={"write_performance": {"enabled": enabled}}))
    assert taken == ([f"writes {PLAN.table_oid}"] if primed else [])


def test_counters_between_two_moments() -> None:
    assert between(counted(1, 10, 2, 1), counted(3, 14, 6, 2)) == Writes(2, 2.0, 0.25)
    same = counted(3, 14, 6, 2)
    assert between(same, same) == Writes(0, None, None)
    for back in (counted(3, 14, 7, 2), counted(3, 14, 6, 3)):
        with pytest.raises(ValueError, match="were reset"):
            between(back, same)


def test_a_statement_that_was_forgotten_takes_none_of_the_others_with_it() -> None:
    before = _counts({(1,): (5, 50.0), (2,): (100, 900.0)}, 0, 0)
    assert between(before, _counts({(2,): (110, 1000.0)}, 0, 0)) == Writes(10, 10.0, None)
    # it came again: all that it shows is since then, whether calls went back, or only their time, or
    # as many took another time
    assert between(before, _counts({(1,): (2, 6.0), (2,): (100, 900.0)}, 0, 0)) == Writes(2, 3.0, None)
    assert between(before, _counts({(1,): (6, 6.0), (2,): (100, 900.0)}, 0, 0)) == Writes(6, 1.0, None)
    assert between(before, _counts({(1,): (5, 55.0), (2,): (100, 900.0)}, 0, 0)) == Writes(5, 11.0, None)
    assert between(before, _counts({(1,): (5, 50.0), (2,): (100, 900.0), (3,): (4, 8.0)}, 0, 0)) == Writes(4, 2.0, None)


def test_where_the_forgotten_are_all_there_is_nothing_is_known() -> None:
    before = _counts({(1,): (5, 50.0), (2,): (100, 900.0), (3,): (1, 1.0)}, 0, 0)
    for after in ({}, {(2,): (100, 900.0)}):
        with pytest.raises(ValueError, match=rf"forgotten {3 - len(after)} statements .*pg_stat_statements.max"):
            between(before, _counts(after, 0, 0))


def test_a_reset_is_not_taken_for_the_one_quick_write_after_it() -> None:
    before = _counts({(1,): (5, 50.0), (2,): (100, 900.0)}, 0, 0)
    for after in ({(3,): (1, 0.1)}, {(1,): (1, 0.1), (3,): (7, 7.0)}, {(1,): (1, 0.1), (2,): (3, 9.0)}):
        with pytest.raises(ValueError, match="forgotten 2 statements"):
            between(before, _counts(after, 0, 0))


def test_the_entries_of_several_users_are_no_sum() -> None:
    """The small one of a user is forgotten: what another did in that time is not hidden behind a lifetime of quick calls."""
    before = _counts({(1, 10, 0): (1e6, 1e5), (1, 11, 0): (10, 1.0)}, 0, 0)
    assert between(before, _counts({(1, 10, 0): (1e6 + 5, 1e5 + 2500)}, 0, 0)) == Writes(5, 500.0, None)


def test_only_what_was_asked_for_both_times_is_compared() -> None:
    """A statement that comes onto the list brings a lifetime along, and one that leaves it was not forgotten."""
    one = Counts({(1,): (5, 50.0), (2,): (7, 7.0)}, 0, 0, frozenset((1, 2)))
    two = Counts({(1,): (6, 550.0), (3,): (1e5, 1e4)}, 0, 0, frozenset((1, 3)))
    assert between(one, two) == Writes(1, 500.0, None)


def test_other_statements_than_a_moment_ago_tell_nothing_of_the_time_between() -> None:
    """The table's first write brings the list along: that none was compared is not that none was slow."""
    nobody, one = Counts({}, 0, 0, frozenset()), Counts({(1,): (1, 500.0)}, 0, 0, frozenset({1}))
    for before, after in ((nobody, one), (one, nobody)):
        with pytest.raises(ValueError, match="others than a moment ago"):
            between(before, after)
    assert between(nobody, nobody) == Writes(0, None, None)


async def test_what_the_server_does_not_tell_of_a_table() -> None:
    for ask, text in ((facts_of, "which indexes"), (statements_of, "where pg_stat_statements is")):
        with pytest.raises(ValueError, match=text):
            await ask(Desk({"other": None}), PLAN)  # type: ignore[arg-type]
    row = {"indexes": 2, "oids": [1, 2], "columns": ["a"]}
    assert await facts_of(Desk({"other": row}), PLAN) == Facts(2, (1, 2), frozenset("a"))  # type: ignore[arg-type]


async def test_statements_that_write_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = {"extension_version": "1.11", "extension_schema": "public", "extension_visible": True, "role_name": "alice"}
    texts = [{"queryid": 1, "calls": 5, "query": "update orders set a = 1"}, {"queryid": 2, "calls": 9, "query": "select 1"}]
    answers = iter((probe, texts))
    found = await statements_of(Desk({"other": lambda _: next(answers)}), PLAN)  # type: ignore[arg-type]
    assert (found.queryids, found.found) == ((1,), (Written(5, frozenset("a")),))
    answers = iter((probe | {"extension_version": None}, texts))
    assert "not in this database" in (await statements_of(Desk({"other": lambda _: next(answers)}), PLAN)).unavailable  # type: ignore[arg-type]

    async def tables(session: Any, oids: Any) -> dict[int, Any]:
        return {oid: SimpleNamespace(updated=10, hot_updated=4) for oid in oids}

    monkeypatch.setattr(table_writes, "read_tables", tables)
    facts = Facts(1, (7, 8), frozenset())
    desk: Any = Desk({"other": [{"queryid": 1, "userid": 10, "toplevel": True, "calls": 5, "total_ms": 50.0}]})
    assert await counts_of(desk, facts, found) == Counts({(1, 10, 1): (5, 50.0)}, 20, 8, frozenset({1}))
    assert desk.asked == [("other", {"queryids": [1]})]
    nobody: Any = Desk({})
    assert await counts_of(nobody, facts, statements()) == Counts({}, 20, 8, frozenset())
    assert nobody.asked == []


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("update orders set a = 1", "a"), ("update public.orders set a = 1", "a"), ("update other.orders set a = 1", None),
        ("update others set a = 1", None), ("delete from orders", ""), ("select * from orders", None),
        ("insert into orders values (1)", ""), ("insert into orders values (1) on conflict (a) do update set b = 2", "b"),
        ("merge into orders o using x on o.id = x.id when matched then update set c = 1 when not matched then do nothing", "c"),
        ("merge into orders o using x on o.id = x.id when not matched then insert (d) values (1)", ""),
    ],
)  # fmt: skip
def test_which_columns_a_statement_updates(text: str, columns: str | None) -> None:
    found = written(text, 5, "public", "orders")
    assert found == (None if columns is None else Written(5, frozenset(columns)))
    if found is not None:
        assert found.updates is bool(columns)


def test_how_many_updates_stop_being_hot() -> None:
    def some(*of: tuple[float, str | None]) -> list[Written]:
        return [Written(calls, None if names is None else frozenset(names)) for calls, names in of]

    none = frozenset[str]()
    assert hot_columns.lost_share(some((20, "a")), none, frozenset("a")) == 1.0
    assert hot_columns.lost_share(some((19, "a")), none, frozenset("a")) is None
    assert hot_columns.lost_share(some((10, "a"), (10, "b")), none, frozenset("a")) == 0.5
    assert hot_columns.lost_share(some((10, "ab"), (10, "b")), frozenset("b"), frozenset("a")) == 0.0
    assert hot_columns.lost_share(some((10, None), (10, "b")), frozenset("b"), frozenset("a")) == 0.5
    assert hot_columns.lost_share(some((10, "a"), (10, "b"), (99, "")), none, frozenset("a")) == 0.5
    assert hot_columns.lost_share(some((20, "b")), none, frozenset("a")) == 0.0
    assert hot_columns.indexed_columns("create index on t (a, lower(b)) include (c) where d > 1") == frozenset("abcd")
    assert hot_columns.indexed_columns("create index on t (a)") == frozenset("a")

"""Lines, figures, plots, filters, plans and the feed, without a screen."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from indexpilot_tui.engine.model.change import Change, Event, State, Step
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.gates import GATES
from indexpilot_tui.errors import ServerError
from indexpilot_tui.settings.model import Target
from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.feed import UNREAD, Feed, Snapshot
from indexpilot_tui.tui.gates import closed_first, guard_label
from indexpilot_tui.tui.lines import Segment, changed_cells, fit, line, pad, text_of, width_of, wrap
from indexpilot_tui.tui.panes.matching import Filter
from indexpilot_tui.tui.panes.throttle import GATE_COLUMNS, gate_row
from indexpilot_tui.tui.plandiff import plan_lines
from indexpilot_tui.tui.screens.sent import cost_lines
from indexpilot_tui.tui.screens.steps.progress_text import progress_lines
from indexpilot_tui.tui.statement import in_one_line
from indexpilot_tui.tui.widgets.plot import draw, finite
from indexpilot_tui.tui.widgets.strip import StripState, strip_lines
from tests.tui import sample
from tests.tui.frozen import FrozenClock, FrozenEngine


@given(st.text(max_size=300), st.integers(10, 90))
@example("0000000㐀㐀00000㐀", 10)
def test_wrap_fits_and_loses_no_word(text: str, width: int) -> None:
    folded = wrap(text, width)
    assert all(width_of(entry) <= width for entry in folded)


@given(st.text(max_size=60), st.integers(1, 40), st.sampled_from(["left", "right"]))
def test_pad_is_exact(text: str, width: int, align: str) -> None:
    assert cell_len(pad(text, width, align)) == width  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["ö " * 50_000, "ö" + "x" * 99_999, "㐀" * 100_000, "x" * 100_000])
def test_wrap_of_a_huge_text_is_quick(text: str) -> None:
    began = time.process_time()
    folded = wrap(text, 80)
    assert time.process_time() - began < 2  # measured 0.2 s; a quadratic fold takes minutes
    assert sum(len(text_of(entry).replace(" ", "")) for entry in folded) == len(text.replace(" ", ""))


def test_wrap_keeps_every_word_of_a_statement() -> None:
    text = "select o.id, c.name from orders o join customers c on c.id = o.customer_id where o.status = $1"
    folded = wrap(text, 30)
    assert " ".join(text_of(entry).strip() for entry in folded) == text


def test_fit_gives_way_by_rank() -> None:
    segments = [
        Segment((line("environment"),), 0),
        Segment((line("a long reason"), line("short"), line()), 1),
        Segment((line("decoration"), line()), 5),
    ]
    assert text_of(fit(segments, 80)) == "environment │ a long reason │ decoration"
    assert text_of(fit(segments, 30)) == "environment │ a long reason"
    assert text_of(fit(segments, 20)) == "environment │ short"
    assert text_of(fit(segments, 12)) == "environment"


def test_only_the_cells_that_differ() -> None:
    clock = [line(("PROD", "badge"), f" 14:03:{n} ", ("UTC", "dim")) for n in (21, 22, 30)]
    assert changed_cells(clock[0], clock[0]) == (17, 18)
    assert changed_cells(clock[0], clock[1]) == (12, 14)
    assert changed_cells(clock[1], clock[2]) == (11, 14)
    assert changed_cells(line("a ", ("b", "ok")), line("a ", ("b", "crit"))) == (2, 3)
    assert changed_cells(line("short"), line("shorter")) == (5, None)
    assert changed_cells(line("größe"), line("größen")) == (0, None)


@given(st.lists(st.tuples(st.text(max_size=4), st.sampled_from(["ok", "dim"])), max_size=4),
       st.lists(st.tuples(st.text(max_size=4), st.sampled_from(["ok", "dim"])), max_size=4))  # fmt: skip
def test_outside_of_them_nothing_differs(before: list[tuple[str, str]], after: list[tuple[str, str]]) -> None:
    def cells(value: list[tuple[str, str]]) -> list[tuple[str, str, int]]:
        return [(c, tone, i) for text, tone in value for c in text for i in range(cell_len(c))]

    start, end = changed_cells(tuple(before), tuple(after))
    old, new = cells(before), cells(after)
    assert old[:start] == new[:start]
    if end is not None:
        assert old[end:] == new[end:]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 kB"), (21_400_000, "20.4 MB"), (5 * 1024**4, "5.0 TB")],
)
def test_size(value: float | None, text: str) -> None:
    assert fmt.size(value) == text


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [(100, 17, "−83 %"), (100, 101.2, "+1.2 %"), (100, 100, "±0 %"), (0, 5, "new"), (0, 0, "±0 %")],
)
def test_change(before: float, after: float, text: str) -> None:
    assert fmt.change_pct(before, after) == text


@given(st.lists(st.one_of(st.none(), st.floats()), max_size=40))
def test_nothing_but_finite_numbers_reaches_the_plot(values: list[float | None]) -> None:
    points = finite(values)
    assert all(math.isfinite(p) for p in points)
    assert len(points) in (0, len(values))


@pytest.mark.parametrize(
    "values", [[math.nan, 1.0, math.inf, -math.inf, None, 1e308], [3.0], [2.0, 2.0, 2.0], [float("nan")], []]
)
def test_plot_survives(values: list[float | None]) -> None:
    rows = draw(values, 60, 10)
    assert bool(rows) is bool(finite(values))
    assert all(cell_len(row) <= 60 for row in rows)


def test_sparkline_with_holes() -> None:
    assert fmt.sparkline([0.0, math.nan, 1.0], 5) == "  ▁ █"
    assert fmt.sparkline([], 3) == "   "


def test_filter() -> None:
    assert Filter("ORDERS").accepts("select * from orders")
    assert not Filter("!orders").accepts("select * from orders")
    broken = Filter("(")
    assert "not a regular expression" in broken.fault
    assert broken.accepts("count(*)")


def test_plan_diff_shows_what_goes_and_what_comes() -> None:
    forecast = sample.forecast(sample.CANDIDATES[0]).queries[0]
    rows = [text_of(entry) for entry in plan_lines(forecast.plan_before, forecast.plan_after, 100)]
    assert [r.strip()[0] for r in rows if "Seq Scan" in r] == ["−"]
    assert [r.strip()[0] for r in rows if f"using {sample.NAME}" in r] == ["+"]
    assert any("Limit" in r and "18,212 → 402.7" in r for r in rows)
    assert all(cell_len(r) <= 100 for r in rows)


async def test_a_lost_server_keeps_the_last_data_with_its_age() -> None:
    clock, engine, seen = FrozenClock(), FrozenEngine(), []
    feed = Feed(engine, clock.clock(), seen.append)
    await feed.once()
    engine.observation = replace(engine.observation, error="gone")
    clock.push(30)
    await feed.once()
    assert feed.snapshot.error == "gone"
    assert feed.snapshot.good_at == 1000.0
    assert feed.snapshot.observation is not None
    assert any("reading failed: gone" in note.text for note in feed.snapshot.notes)
    engine.observation = replace(engine.observation, error="")
    await feed.once()
    assert feed.snapshot.good_at == 1030.0
    assert any("works again" in note.text for note in feed.snapshot.notes)


async def test_what_the_engine_finds_later_is_told_once_too() -> None:
    clock, engine = FrozenClock(), FrozenEngine(notices=["change 3 (t_v_idx) was taken over"])
    feed = Feed(engine, clock.clock(), lambda _: None)
    await feed.once()
    engine.notices.append("the log cannot be written any more (No space left on device); the work goes on without")
    await feed.once()
    await feed.once()
    told = [note.text for note in feed.snapshot.notes if note.text in engine.notices]
    assert told == engine.notices[::-1]


async def test_what_looking_costs_and_what_is_not_seen_is_told_with_its_remedy() -> None:
    clock, engine = FrozenClock(), FrozenEngine()
    feed = Feed(engine, clock.clock(), lambda _: None)
    engine.observation = replace(
        engine.observation,
        refused=('activity: 3 sessions of other roles are hidden (GRANT pg_monitor TO "bob")',),
        cost=replace(engine.observation.cost, slower=(("statements", 21.4),)),
    )
    await feed.once()
    await feed.once()
    told = [note.text for note in feed.snapshot.notes]
    assert [t for t in told if "GRANT" in t] == [f"not seen: {engine.observation.refused[0]}"]
    assert [t for t in told if "every 21 s" in t] == ["statements: every 21 s now, to stay within 60 ms a minute"]
    strip = StripState("shop", "production", engine, feed.snapshot, clock.now, clock.mono, 10.0)
    assert "1 not seen" in text_of(strip_lines(strip, 200)[1])
    said = " ".join(text_of(entry) for entry in cost_lines(engine.observation, 200))
    assert "120 statements and 33 ms a minute by the server's own clock, of 60 ms" in said
    assert "less often than wanted, to stay within it: statements every 21 s" in said
    assert 'GRANT pg_monitor TO "bob"' in said


async def test_what_was_not_read_is_not_open() -> None:
    assert Snapshot().gate_open is None
    engine = FrozenEngine()

    async def refuse() -> list[object]:
        raise ServerError("no answer")

    engine.throttle = refuse  # type: ignore[method-assign,assignment]
    feed = Feed(engine, FrozenClock().clock(), lambda _: None)
    await feed.once()
    assert feed.snapshot.gate_open is None
    assert feed.snapshot.throttle_error == "no answer"


async def test_gates_of_a_server_that_is_away_are_not_open_and_come_back_with_it() -> None:
    clock, engine, seen = FrozenClock(), FrozenEngine(gates_now=[replace(g, status=Status.PASS) for g in sample.gates()]), []
    feed = Feed(engine, clock.clock(), seen.append)
    await feed.once()
    assert feed.snapshot.gate_open is True
    engine.observation = replace(engine.observation, error="connection refused")
    told: list[bool | None] = []

    async def away() -> list[object]:
        told.append(feed.snapshot.gate_open)  # what the screen shows while the gates are still being asked for
        raise ServerError("no connection within 15 s")

    engine.throttle, back = away, engine.throttle  # type: ignore[method-assign,assignment]
    await feed.once()
    await feed.once()
    assert told == [None]
    assert feed.snapshot.gate_open is None
    engine.observation, engine.throttle = replace(engine.observation, error=""), back  # type: ignore[method-assign]
    await feed.once()
    assert feed.snapshot.gate_open is True


async def test_gates_that_are_slow_to_answer_do_not_hold_the_picture_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexpilot_tui.tui.feed.PATIENCE_S", 0.05)
    engine = FrozenEngine(gates_now=[replace(g, status=Status.PASS) for g in sample.gates()])
    feed = Feed(engine, FrozenClock().clock(), lambda _: None)
    await feed.once()
    engine.observation = replace(engine.observation, error="gone")
    answered, asked = asyncio.Event(), 0

    async def never() -> list[Verdict]:
        nonlocal asked
        asked += 1
        await answered.wait()
        return [replace(sample.gates()[0], status=Status.BLOCK)]

    engine.throttle, throttle = never, engine.throttle  # type: ignore[method-assign,assignment]
    feed.hurry()
    async with asyncio.timeout(5):
        await feed.once()
        await feed.once()  # the first question is still under way, and is not put twice
    assert asked == 1
    assert feed.snapshot.gate_open is None
    assert feed.snapshot.throttle_error == feed.snapshot.changes_error == UNREAD
    engine.observation, engine.throttle = replace(engine.observation, error=""), throttle  # type: ignore[method-assign]
    answered.set()
    await feed.once()
    assert feed.snapshot.gate_open is False  # the late answer
    await feed.once()
    assert feed.snapshot.gate_open is True  # asked again, because the target was away in between


async def test_old_data_makes_gates_unknown() -> None:
    clock, engine = FrozenClock(), FrozenEngine(gates_now=[replace(g, status=Status.PASS) for g in sample.gates()])
    feed = Feed(engine, clock.clock(), lambda _: None)
    await feed.once()
    assert feed.snapshot.aged(clock.mono + 9, 10.0).gate_open is True
    assert feed.snapshot.aged(clock.mono + 11, 10.0).gate_open is None
    fresh = replace(feed.snapshot, good_at=clock.mono + 61)  # read since, while the gates were not asked again
    assert fresh.aged(clock.mono + 59, 10.0).gate_open is True
    assert fresh.aged(clock.mono + 61, 10.0).gate_open is None


def test_a_closed_gate_comes_first_and_a_stale_one_is_in_brackets() -> None:
    worst = (Status.PASS, Status.WAIT, Status.PASS, Status.UNKNOWN, Status.BLOCK)
    gates = [replace(g, status=status) for g, status in zip(sample.gates(), worst, strict=False)]
    order = [g.status.value for g in closed_first(gates)]
    assert order == ["block", "unknown", "wait", "pass", "pass"]
    assert [g.guard for g in closed_first(gates) if g.allows] == [g.guard for g in gates if g.allows]
    passing = next(g for g in gates if g.allows)
    assert gate_row(passing).cells["status"] == ("PASS", "ok")
    assert gate_row(passing, known=False).cells["status"] == ("(PASS)", "dim")


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("SELECT a, b FROM t", 80, "SELECT a, b FROM t"),
        ("SELECT count(*) AS n, sum(a) FROM s.t WHERE b = $1", 30, "SELECT … FROM s.t WHERE b = $1"),
        ("select extract(year from d), (select 1 from u) from t where x", 30, "select … from t where x"),
        ("select 'a from b', \"from\" from t where x = 1 and y", 26, "select … from t where x =…"),
        ("/* app:web */ /* x */ select aaaaaaaaaaaaaaaaa from t", 20, "select … from t"),
        ("select aaaaaaaaaaaaaaaaaaaaaaaaaa", 10, "select aa…"),
        ("with q as (select a from t) select b from q where c", 20, "with q as (select a…"),
        ("insert into t (a, b, c) values ($1, $2)", 16, "insert into t (…"),
        ("select ((((((( from t where aaaaaaaaaaaaaa", 12, "select ((((…"),
    ],
)
def test_a_statement_in_one_line(text: str, width: int, shown: str) -> None:
    assert in_one_line(text, width) == shown
    assert cell_len(shown) <= width


def test_a_statement_without_end_is_cut_at_once() -> None:
    text = "select " + "a, " * 2_000_000 + "b from t"
    began = time.thread_time()
    assert cell_len(in_one_line(text, 40)) == 40
    assert time.thread_time() - began < 1


async def test_the_login_outlives_the_cipher_in_a_narrow_strip_and_the_place_is_told_in_a_wide_one() -> None:
    clock, engine = FrozenClock(), FrozenEngine(target=Target(name="orders", environment="production"))

    def first(width: int) -> str:
        return text_of(
            strip_lines(StripState("orders", "production", engine, Snapshot(), clock.now, clock.mono, 10.0), width)[0]
        )

    assert first(80).endswith("alice")
    assert "TLSv1.3" in first(80)
    assert "TLS_AES" not in first(80)
    assert "orders-db-1:5432/shop" in first(140)
    assert "TLS_AES" in first(140)


async def test_a_bypass_is_told_in_words_on_every_width_and_its_end_too() -> None:
    clock, engine = FrozenClock(), FrozenEngine(lifted=sample.bypass())
    feed = Feed(engine, clock.clock(), lambda _: None)
    await feed.once()

    def strip(width: int) -> tuple[str, ...]:
        state = StripState("shop", "production", engine, feed.snapshot, clock.now, clock.mono, 10.0)
        return tuple(text_of(entry) for entry in strip_lines(state, width))

    for width in (80, 120):
        lines = strip(width)
        assert len(lines) == 3
        assert lines[2].startswith(" BYPASS: rate, window lifted until ")
        assert "by alice, not reviewed" in lines[2]
        assert cell_len(lines[2]) == width
    assert any(note.tone == "crit" and "BYPASS of rate and window by alice" in note.text for note in feed.snapshot.notes)
    engine.lifted = None
    feed.hurry()
    await feed.once()
    assert len(strip(80)) == 2
    assert any("bypass has ended" in note.text for note in feed.snapshot.notes)


def test_a_forecast_shows_what_constants_cost() -> None:
    from indexpilot_tui.engine.whatif.model import PricePoint, QueryForecast
    from indexpilot_tui.tui.screens.steps.forecast_text import point_lines

    plan = {"Node Type": "Seq Scan", "Total Cost": 16_008.0}
    points = (
        PricePoint("rare: status = 'pending' (0.1 % of the rows)", 16_008.0, 8.3, True, "rare"),
        PricePoint("common: status = 'done' (99 % of the rows)", 16_008.0, 16_008.0, False, "common"),
    )
    query = QueryForecast("1", "select", 1.0, 16_008.0, 16_008.0, False, plan, plan, points)
    text = "\n".join(text_of(row) for row in point_lines(query, 80))
    assert "→ 8.3" in text
    assert "index used  rare: status = 'pending'" in text
    assert "used  common" not in text
    assert point_lines(QueryForecast("1", "select", 1.0, 1.0, 1.0, False, plan, plan), 80) == []


def _of_steps(state: State, *events: Event) -> Change:
    base = sample.change(17, "CREATE INDEX ON public.orders (customer_id)", "slow", "alice")
    steps = tuple(
        Step(deed, f"{deed} {n}", "public", f"orders_{n}", 16400 + n, f"i{n}")
        for n, deed in enumerate(("root", "leaf", "leaf"))
    )
    return replace(base, state=state, plan=replace(base.plan, steps=steps), events=events)


def _event(number: int, action: str, **detail: object) -> Event:
    return Event(number, sample.NOW, "alice", action, detail)


def test_the_steps_of_a_partitioned_change_are_counted_and_the_one_at_work_is_named() -> None:
    change = _of_steps(
        State.RUNNING, _event(1, "part.intent", position=0, ddl="CREATE INDEX r ON ONLY p"), _event(2, "part.outcome", position=0, ok=True),
        _event(3, "part.intent", position=1, ddl="CREATE INDEX CONCURRENTLY l1 ON p1"),
    )  # fmt: skip
    shown = "\n".join(text_of(entry) for entry in progress_lines(change, None, sample.NOW, 100))
    assert "1 of 3 done" in shown
    assert "now    CREATE INDEX CONCURRENTLY l1 ON p1" in shown


def test_what_a_person_can_do_stands_above_the_log() -> None:
    change = _of_steps(
        State.NEEDS_OPERATOR, _event(1, "needs_operator", commands=["indexpilot changes resolve 17 --finish", "\x1b[2J"])
    )
    shown = "\n".join(text_of(entry) for entry in progress_lines(change, None, sample.NOW, 100))
    assert "indexpilot changes resolve 17 --finish" in shown
    assert "\x1b" not in shown


def test_the_name_of_every_guard_fits_its_column() -> None:
    """Those of the gates, and of the verdicts that they give in their place."""
    width = next(c.width for c in GATE_COLUMNS if c.id == "guard")
    parts = ("load.active_backends", "load.oldest_transaction", "load.lwlock_waits", "load.transactions", "load.checkpoints",
             "replicas.lag", "replicas.slots", "replicas.synchronous", "replicas.sessions", "disk.tablespace",
             "storage_budget.total", "storage_budget.per_table", "write_performance.indexes", "write_performance.hot",
             "write_performance.latency", "write_performance.writes", "blockers.lock_holders", "blockers.snapshots")  # fmt: skip
    assert {n: guard_label(n) for n in (*(g.name for g in GATES), *parts) if len(guard_label(n)) > width} == {}

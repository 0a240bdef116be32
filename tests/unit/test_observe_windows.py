"""Windows, marks and groups of the hotspots, from readings that are made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from indexpilot_tui.engine.observe.book import Tapes
from indexpilot_tui.engine.observe.counters import Counters, Key, Read
from indexpilot_tui.engine.observe.hotspots import HotspotTracker
from indexpilot_tui.engine.observe.ledger import STATEMENTS
from indexpilot_tui.engine.observe.model import Group, Hotspots, View
from indexpilot_tui.engine.observe.node import Node, succession
from indexpilot_tui.engine.observe.pulse import Wait
from indexpilot_tui.engine.observe.spots import tables_named
from indexpilot_tui.engine.observe.tape import Tape

T0 = datetime(2026, 3, 1, 14, 0, tzinfo=UTC)
SINCE_MARK = View(since_mark=True)


class Server:
    """Counters of a made-up pg_stat_statements, read every `step` seconds."""

    def __init__(self, users: dict[int, str] | None = None) -> None:
        self.tracker = HotspotTracker(own_user="mon")
        self.entries: dict[Key, Counters] = {}
        self.at, self.reset, self.started, self.evicted = T0, T0, T0, 0
        self.users = users or {10: "shop"}
        self.newest: Hotspots | None = None
        self.look()

    def look(self) -> Hotspots:
        read = Read(self.at, self.started, self.reset, self.evicted, dict(self.entries), 0)
        interval = self.tracker.note(read)
        for userid, queryid, _ in interval.growth:
            row = {
                "queryid": queryid,
                "userid": userid,
                "user_name": self.users[userid],
                "query": f"select q{queryid} from t{queryid}",
            }
            self.tracker.learn([row])
        self.newest = self.tracker.hotspots(interval)
        return self.newest

    def runs(self, seconds: float, calls: dict[Key, tuple[int, float]], step: float = 2.0) -> None:
        """For so long, every `step`: so many calls of so many ms each."""
        for _ in range(round(seconds / step)):
            self.at += timedelta(seconds=step)
            for key, (number, ms) in calls.items():
                more = Counters(number, number * ms, 0.0, number, number * 8, number * 2, 0, 0.0, number, 0.0, 0.0, 0.0)
                self.entries[key] = self.entries[key].plus(more) if key in self.entries else more
            self.look()

    def over(self, view: View) -> Hotspots:
        assert self.newest is not None
        return self.tracker.book(self.newest, Tapes()).hotspots(view)


A: Key = (10, 1, True)
B: Key = (11, 2, True)
USERS = {10: "shop", 11: "batch"}


def test_windows_sum_what_was_watched_and_say_how_much_that_is() -> None:
    server = Server(USERS)
    server.runs(40, {A: (10, 1.0)})
    short = server.over(View(60))
    assert short.interval_s == pytest.approx(40)
    assert short.window_note == "no more was watched yet"
    server.runs(300, {A: (10, 1.0)})
    server.runs(60, {A: (10, 1.0), B: (2, 50.0)})
    minute, five, hour = (server.over(View(w)) for w in (60, 300, 3600))
    assert minute.interval_s == pytest.approx(60, abs=10)
    assert five.interval_s == pytest.approx(300, abs=10)
    assert (minute.window_note, five.window_note) == ("", "")
    assert hour.interval_s == pytest.approx(400)
    assert [i.queryid for i in minute.items] == [2, 1]
    assert minute.items[0].ms_per_s == pytest.approx(50, rel=0.2)
    slow = next(i for i in hour.items if i.queryid == 2)
    assert slow.ms_per_s == pytest.approx(30 * 100 / 400)
    assert sum(i.share for i in hour.items) == pytest.approx(1)
    assert slow.mean_ms == pytest.approx(50)
    assert slow.stddev_ms == pytest.approx(0, abs=1e-6)


def test_a_reset_a_restart_and_a_failover_begin_an_epoch_that_no_window_reaches_over() -> None:
    server = Server()
    server.runs(100, {A: (10, 100.0)})
    server.entries, server.reset = {}, server.at + timedelta(seconds=1)
    server.runs(20, {A: (1, 1.0)})
    seen = server.over(View(60))
    assert seen.interval_s == pytest.approx(19)
    assert "was reset at" in seen.window_note
    assert seen.items[0].calls_per_s == pytest.approx(10 / 19)
    server.started = server.at + timedelta(seconds=1)
    server.entries = {}
    server.runs(20, {A: (1, 1.0)})
    assert "restarted" in server.over(View(60)).window_note
    assert server.over(View(60)).interval_s == pytest.approx(18)
    server.tracker.succession = succession(Node(1, False, "a:1"), Node(2, False, "b:1"))
    server.entries = {A: Counters(10**9, 1e12, 1.0, 1, 1, 1, 1, 1.0)}  # another server's counters
    server.runs(4, {A: (1, 1.0)})
    seen = server.over(View(60))
    assert seen.epoch_note == "failover: the primary at b:1 is on timeline 2, was on 1"
    assert seen.interval_s == pytest.approx(2)
    assert seen.items[0].calls_per_s == pytest.approx(0.5)


def test_who_joined_the_top_since_the_mark_is_told_with_what_it_took_before() -> None:
    server = Server(USERS)
    server.runs(60, {A: (10, 1.0)})
    assert server.tracker.set_mark(None) == server.at
    server.runs(30, {A: (30, 1.0), B: (1, 100.0)})
    seen = server.over(SINCE_MARK)
    assert seen.mark == T0 + timedelta(seconds=60)
    assert seen.interval_s == pytest.approx(30)
    assert [(i.queryid, i.joined) for i in seen.items] == [(2, True), (1, False)]
    assert [i.before_ms_per_s for i in seen.items] == [0, pytest.approx(5)]
    assert seen.items[1].ms_per_s == pytest.approx(15)
    assert seen.joined == 1
    assert server.over(View()).joined == 1  # the newest reading tells it, too
    first = {i.queryid: i.first_seen for i in seen.items}
    assert first == {1: T0 + timedelta(seconds=2), 2: T0 + timedelta(seconds=62)}


def test_a_mark_may_be_set_on_what_is_past() -> None:
    server = Server(USERS)
    server.runs(120, {A: (10, 1.0)})
    server.runs(120, {B: (1, 100.0)})
    server.tracker.set_mark(T0 + timedelta(seconds=121))
    seen = server.over(SINCE_MARK)
    assert seen.interval_s == pytest.approx(120, abs=12)
    assert [i.queryid for i in seen.items if i.joined] == [2]


def test_by_user_everything_counts_and_by_table_what_names_it() -> None:
    server = Server(USERS)
    many: dict[Key, tuple[int, float]] = {(10, q, True): (1, 1.0) for q in range(1000, 1000 + STATEMENTS + 100)}
    server.runs(30, {**many, B: (100, 1.0)})
    seen = server.over(View(60, group=Group.USER))
    assert [(i.query, i.share) for i in seen.items] == [
        ("shop", pytest.approx((STATEMENTS + 100) / (STATEMENTS + 200))),
        ("batch", pytest.approx(100 / (STATEMENTS + 200))),
    ]
    tape = Tape()
    tape.add(T0.timestamp(), {7: (0.0,) * 8}, {7: "public.t2"})
    tape.add(T0.timestamp() + 30, {7: (100.0, 90.0, 3.0, 4.0, 3.0, 0.0, 2.0, 60.0)}, {7: "public.t2"})
    tape.add(T0.timestamp() + 60, {7: (0.0,) * 8}, {7: "public.t2"})  # reset: says nothing
    assert server.newest is not None
    book = server.tracker.book(server.newest, Tapes(tables=tuple(tape.pieces), table_names=tape.names))
    (table,) = book.hotspots(View(300, group=Group.TABLE)).tables
    assert table.name == "public.t2"
    assert table.share == pytest.approx(100 / (STATEMENTS + 200))
    assert (table.hit_ratio, table.hot_ratio) == (0.9, 0.75)
    assert table.blocks_per_s == pytest.approx(100 / 60)


def test_an_hour_stays_small_and_exact() -> None:
    server = Server()
    calls: dict[Key, tuple[int, float]] = {(10, q, True): (1, 1.0 + q % 7) for q in range(1, 401)}
    server.runs(4000, calls, step=9.0)
    buckets = server.tracker.ledger.buckets()
    assert len(buckets) <= 105
    assert sum(len(b.keys) * 8 + len(b.numbers) * 8 for b in buckets) < 4e6
    hour = server.over(View(3600))
    assert hour.interval_s == pytest.approx(3600, abs=70)
    assert hour.total_ms_per_s == pytest.approx(sum(ms for _, ms in calls.values()) / 9)


def test_waits_of_a_statement_are_told_with_their_share() -> None:
    server = Server()
    for second in range(10):
        waits = (Wait(1, "", "", 1), Wait(1, "Lock", "transactionid", 3), Wait(None, "IO", "DataFileRead", 9))
        server.tracker.waits.add(T0.timestamp() + second, waits)
    server.runs(2, {A: (1, 1.0)})
    assert server.newest is not None
    assert server.newest.items[0].waits == (("Lock:transactionid", 0.75), ("", 0.25))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("select * from public.orders o join items using (id) where o.id in (select x from z)", {"orders", "items", "z"}),
        ("with z as (select 1 from t) update u set a = 1 from z", {"t", "u"}),
        ("not sql at all", set()),
    ],
)
def test_tables_that_a_statement_names(text: str, names: set[str]) -> None:
    assert tables_named(text) == names

"""What the signals are made of, without a server: write latency, HOT updates, followers and the archiver."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from indexpilot_tui.engine.gauges.follow import follow_gauges
from indexpilot_tui.engine.gauges.server import server_gauges
from indexpilot_tui.engine.model.gauge import Gauge, Standing
from indexpilot_tui.engine.observe.ask import Refusal
from indexpilot_tui.engine.observe.counters import Counters, Interval
from indexpilot_tui.engine.observe.replication import Archiver, Replication
from indexpilot_tui.engine.observe.signals import Signals
from indexpilot_tui.engine.observe.spots import TABLE_FIGURES
from indexpilot_tui.engine.observe.tape import Piece
from indexpilot_tui.engine.observe.writing import WriteGauge, hot_of
from indexpilot_tui.settings.model import Settings, Target
from indexpilot_tui.settings.safeguards import Throttle
from indexpilot_tui.settings.validated import validated
from tests.tui import sample_signals
from tests.tui.sample import NOW


def growth(calls: int, ms: float) -> Counters:
    return Counters(calls, ms, 0.0, 0, 0, 0, 0, 0.0)


def test_the_mean_is_of_the_calls_of_writing_statements_alone() -> None:
    gauge = WriteGauge()
    interval = Interval(
        2.0, {(10, 1, True): growth(30, 60.0), (11, 1, True): growth(10, 60.0), (10, 2, True): growth(900, 9e4)}
    )
    gauge.note(interval, NOW, "")
    assert gauge.now(()).mean_ms.reason == "which statements write was not asked for yet"
    gauge.writers.take([{"queryid": 1}, {"queryid": 3}])
    gauge.note(interval, NOW, "")
    mean = gauge.now(()).mean_ms
    assert (mean.value, mean.count, mean.at, mean.reason) == (3.0, 40, NOW, "")
    gauge.note(replace(interval, growth={(10, 2, True): growth(1, 1.0)}), NOW, "")
    assert gauge.now(()).mean_ms.value is None
    assert gauge.now(()).mean_ms.reason == "no row was written in the interval"
    gauge.note(Interval(0.0, {}, True, "the server restarted"), NOW, "")
    assert gauge.now(()).mean_ms.reason == "the server restarted"
    gauge.note(interval, NOW, "pg_stat_statements is not in this database")
    assert gauge.now(()).mean_ms.reason == "pg_stat_statements is not in this database"
    gauge.writers.take(Refusal("write_statements", "permission denied", "GRANT it", False, 0.0, 0.0))
    gauge.note(interval, NOW, "")
    assert gauge.now(()).mean_ms.reason == "write_statements: permission denied (GRANT it)"


def piece(end: float, **tables: tuple[float, float]) -> Piece:
    """(updated, hot_updated) by table."""
    made = {}
    for oid, (updated, hot) in enumerate(tables.values()):
        figures = dict.fromkeys(TABLE_FIGURES, 0.0) | {"updated": updated, "hot_updated": hot}
        made[oid] = tuple(figures.values())
    return Piece(end - 30, end, made)


def test_hot_updates_are_those_of_the_newest_interval_of_all_tables() -> None:
    end = NOW.timestamp()
    found = hot_of([piece(end - 30, a=(10.0, 10.0)), piece(end, a=(30.0, 10.0), b=(10.0, 0.0))])
    assert (found.value, found.count, found.at) == (0.25, 40.0, NOW)
    assert hot_of([piece(end, a=(0.0, 0.0))]).reason == "no row was updated in the interval"
    assert hot_of([]).reason == "the tables were not read twice yet"
    assert hot_of([], "tables: permission denied").reason == "tables: permission denied"


def followers(**changed: object) -> dict[str, Gauge]:
    signals = sample_signals.signals()
    assert signals.replication is not None
    made = replace(signals, replication=replace(signals.replication, **changed))  # type: ignore[arg-type]
    return {g.key: g for g in follow_gauges(made, Settings())}


@pytest.mark.parametrize(
    ("archiver", "standing", "shown"),
    [
        (Archiver(True, False, 0, NOW - timedelta(seconds=60), None), Standing.WITHIN, 54.0),
        (Archiver(True, False, 0, NOW - timedelta(hours=2), None), Standing.OVER, 7194.0),
        (Archiver(True, True, 7, NOW - timedelta(seconds=60), NOW), Standing.OVER, "failing"),
        (Archiver(False, False, 0, None, None), Standing.PLAIN, "off"),
        (Archiver(True, False, 0, None, None), Standing.PLAIN, "nothing yet"),
        (None, Standing.UNKNOWN, None),
    ],
)  # fmt: skip
def test_the_archiver(archiver: Archiver | None, standing: Standing, shown: object) -> None:
    gauge = followers(archiver=archiver)["archiver"]
    assert gauge.standing(0.0) is standing
    assert (gauge.words or gauge.value) == shown


def test_what_was_refused_is_not_none() -> None:
    seen = followers(
        standbys=(), slots=(), archiver=None, unread=("standbys: denied (GRANT a)", "slots: denied", "wal_keeping: no")
    )
    assert {key: (g.standing(0.0), g.why) for key, g in seen.items()} == {
        "standbys": (Standing.UNKNOWN, "standbys: denied (GRANT a)"),
        "slots": (Standing.UNKNOWN, "slots: denied"),
        "archiver": (Standing.UNKNOWN, "wal_keeping: no"),
    }
    nothing = replace(sample_signals.signals(), replication=None)
    assert {g.standing(0.0) for g in follow_gauges(nothing, Settings())} == {Standing.UNKNOWN}


def test_a_slot_that_is_lost_is_bad_whatever_it_keeps() -> None:
    signals = sample_signals.signals()
    assert signals.replication is not None
    lost = replace(signals.replication.slots[0], wal_status="lost", retained_bytes=None)
    assert followers(slots=(lost,))["slot replica_a"].standing(0.0) is Standing.OVER


def test_a_standby_that_has_replayed_all_is_not_behind() -> None:
    signals = sample_signals.signals()

    def own(behind: float | None, ago: float | None) -> Gauge:
        found = Replication((), (), None, None, ago, behind)
        standby = replace(signals, pulse=replace(signals.pulse, in_recovery=True), replication=found)
        return next(g for g in follow_gauges(standby, Settings()) if g.key == "own_lag")

    assert (own(0.0, 4000.0).value, own(0.0, 4000.0).standing(0.0)) == (0.0, Standing.WITHIN)
    assert own(9e6, 31.0).standing(0.0) is Standing.OVER
    assert own(9e6, None).standing(0.0) is Standing.UNKNOWN


def of_server(signals: Signals, **throttle: object) -> dict[str, Gauge]:
    settings = Settings()
    guards = replace(settings.production_safeguards, throttle=validated(Throttle, throttle))
    target = Target(name="orders", cores=signals.cores)
    made = server_gauges(signals, replace(settings, production_safeguards=guards), target)
    return {g.key: g for g in made}


def test_a_switched_off_limit_is_none_and_nothing_is_green_for_it() -> None:
    on, off = of_server(sample_signals.signals()), of_server(sample_signals.signals(), enabled=False)
    assert on["active"].standing(0.0) is Standing.WITHIN
    assert (off["active"].standing(0.0), off["active"].setting) == (Standing.PLAIN, "production_safeguards.throttle.enabled")


def test_without_cores_there_is_nothing_to_compare_with() -> None:
    seen = of_server(replace(sample_signals.signals(), cores=None))["on_cpu"]
    assert (seen.value, seen.limit, seen.standing(0.0)) == (11, None, Standing.PLAIN)
    assert "targets.orders.cores is not set" in seen.evidence
    assert of_server(sample_signals.signals())["on_cpu"].limit == 16 * 0.8


def test_waits_by_kind_with_their_events() -> None:
    seen = of_server(sample_signals.signals())
    assert (seen["max_io_waits"].value, seen["max_io_waits"].evidence) == (23, "DataFileRead 14 · WALSync 9")
    assert (seen["waits"].value, seen["waits"].evidence) == (4, "Client:ClientRead 3 · IPC:BtreePage 1")
    none = of_server(replace(sample_signals.signals(), pulse=replace(sample_signals.pulse(), waits=())))
    assert (none["max_io_waits"].value, none["waits"].value) == (0, 0)


def test_no_connection_left_is_over() -> None:
    pulse = replace(sample_signals.pulse(), client_backends=195)
    gauge = of_server(replace(sample_signals.signals(), pulse=pulse))["connections"]
    assert (gauge.value, gauge.standing(0.0)) == (0, Standing.OVER)

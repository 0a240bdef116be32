"""Rates of earlier builds: from rows of the log to the range of the next build."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from indexpilot_tui.engine.journal.builds import to_build
from indexpilot_tui.engine.model.builds import MeasuredBuild
from indexpilot_tui.engine.whatif.rates import Rates
from indexpilot_tui.engine.whatif.sizes import IndexShape, KeyColumn, build_seconds, wal_bytes

KEY = KeyColumn(8, False, 8, 0.0, 1e6)
SHAPE = IndexShape("btree", 10e6, (KEY,), heap_pages=100_000)
BUILD = MeasuredBuild(7, "i", "btree", 20.0, 0.0, 86_400.0, 200_000_000, 800_000_000, 10e6, 60_000_000, 300_000_000, False)


def events(*rows: tuple[float, str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"at": at, "action": action, "detail": detail} for at, action, detail in rows]


def row(found: list[dict[str, Any]], **detail: Any) -> dict[str, Any]:
    return {"id": 1, "method": "btree", "index": "a\x1b[31m", "age_s": 5.0, "detail": json.dumps(detail), "events": found}


def test_what_was_waited_for_others_is_no_time_of_the_build() -> None:
    found = events(
        (100.0, "ddl.intent", {}), (100.5, "phase", {"phase": "building index: scanning table", "blocks_total": 1000}),
        (104.0, "phase", {"phase": "waiting for writers before validation"}),
        (164.0, "phase", {"phase": "index validation: scanning table", "tuples_total": 5}), (166.0, "ddl.outcome", {"ok": True}),
    )  # fmt: skip
    build = to_build(row(found, size_bytes=5_000_000))
    assert build is not None
    assert (build.seconds, build.waited_s, build.heap_bytes, build.rows) == (6.0, 60.0, 8_192_000, 5.0)
    assert "\x1b" not in build.index


@pytest.mark.parametrize(
    "found",
    [
        [], events((1.0, "ddl.outcome", {"ok": True})), events((1.0, "ddl.intent", {})),
        events((1.0, "ddl.intent", {}), (2.0, "ddl.outcome", {"ok": False, "sqlstate": "40P01"})),
    ],
)  # fmt: skip
def test_a_log_that_does_not_tell_gives_no_rate(found: list[dict[str, Any]]) -> None:
    assert to_build(row(found, size_bytes=5)) is None


def test_the_last_attempt_counts() -> None:
    found = events(
        (1.0, "ddl.intent", {}), (90.0, "ddl.outcome", {"ok": False}), (100.0, "ddl.intent", {}),
        (103.0, "ddl.outcome", {"ok": True}),
    )  # fmt: skip
    build = to_build(row(found, size_bytes=5, rows=7.0, heap_bytes=9, after={"size_bytes": 1}))
    assert build is not None
    assert (build.seconds, build.rows, build.heap_bytes, build.index_bytes) == (3.0, 7.0, 9, 5)


def test_the_range_is_around_what_was_measured() -> None:
    low, high = Rates([BUILD]).seconds(SHAPE, 200_000_000)
    # 2 x 819 MB + 200 MB at 90 MB/s: 20.4 s; 10 million rows at 500,000 a second: 20 s
    assert low == pytest.approx(20.0 * 0.6, rel=0.01)
    assert high == pytest.approx(20.4 * 1.8, rel=0.01)
    many = [replace(BUILD, seconds=s, age_s=float(n)) for n, s in enumerate((18.0, 20.0, 25.0))]
    low, high = Rates(many).seconds(SHAPE, 200_000_000)
    assert low == pytest.approx(18.0 * 0.8, rel=0.01)
    assert high == pytest.approx(25.0 * 1.02 * 1.4, rel=0.01)
    assert Rates(many).seconds(replace(SHAPE, heap_pages=2_000_000), 3_000_000_000)[1] > 20 * 25 * 1.4  # far beyond


def test_without_a_build_of_the_method_the_general_model_answers() -> None:
    for builds in (
        (),
        (replace(BUILD, method="gin"),),
        (replace(BUILD, seconds=0.01),),
        (replace(BUILD, heap_bytes=1, index_bytes=1),),
    ):
        rates = Rates(builds)
        assert rates.seconds(SHAPE, 200_000_000) == build_seconds(SHAPE, 200_000_000, 100_000)
        assert rates.wal_bytes("btree", 1000) == wal_bytes(1000)
        assert rates.basis == "general rates (btree: no earlier build of this kind in the journal)"


def test_wal_and_temporary_files_are_as_measured() -> None:
    rates = Rates([BUILD, replace(BUILD, wal_bytes=None, temp_bytes=None)])
    assert rates.wal_bytes("btree", 100_000_000) == 30_000_000  # wal_compression was on there
    assert rates.temp_bytes(SHAPE, 200_000_000, 1_000_000) == 300_000_000
    assert rates.temp_bytes(SHAPE, 200_000_000, 10**12) == 0  # fits the memory
    wide = rates.temp_bytes(replace(SHAPE, keys=(replace(KEY, width=200.0),)), 2_200_000_000, 1_000_000)
    assert wide > 2_000_000_000  # entries of another width are modelled
    assert "2 earlier btree builds, the newest 1.0 days ago, 90 MB/s read and written, 500,000 rows/s" in rates.basis


def test_a_partial_index_is_priced_by_what_it_reads() -> None:
    partial = replace(SHAPE, rows=1000.0, share=0.0001)
    low, _ = Rates([BUILD]).seconds(partial, 100_000)
    assert low == pytest.approx((2 * 819_200_000 + 100_000) / 90e6 * 0.6, rel=0.01)

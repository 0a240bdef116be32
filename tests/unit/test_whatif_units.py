"""The shadow planner's pure parts: file images, sizes, statement repair, array texts, workload files."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexpilot_tui.engine.whatif import hollow
from indexpilot_tui.engine.whatif.comparisons import DEFAULT_INEQUALITY, compared_columns, share_correction
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.points import array_items, compared
from indexpilot_tui.engine.whatif.read import search_path
from indexpilot_tui.engine.whatif.sizes import (
    IndexShape,
    KeyColumn,
    build_seconds,
    estimate,
    temp_bytes,
    tuple_size,
    wal_per_insert,
)
from indexpilot_tui.engine.whatif.snapshot import ColumnStats
from indexpilot_tui.engine.whatif.statements import parse, substituted
from indexpilot_tui.engine.whatif.workload import read_workload_file
from indexpilot_tui.errors import UsageError

INT4 = KeyColumn(4, False, 4, 0.0, 0.0)


def _int4(distinct: float, nulls: float = 0.0) -> KeyColumn:
    return KeyColumn(4, False, 4, nulls, distinct)


# Sizes of real indexes, PostgreSQL 15 and 18: pg_relation_size after CREATE INDEX on generate_series data.
@pytest.mark.parametrize(
    ("shape", "real"),
    [
        (IndexShape("btree", 3_000_000, (KeyColumn(8, False, 8, 0, 3e6),), unique=True), 67_400_000),
        (IndexShape("btree", 3_000_000, (KeyColumn(8, False, 8, 0, 1e6),)), 43_600_000),
        (IndexShape("btree", 3_000_000, (KeyColumn(8, False, 8, 0, 1001),)), 21_200_000),
        (IndexShape("btree", 3_000_000, (KeyColumn(33, True, 1, 0, 3e6),)), 177_000_000),
        (IndexShape("btree", 1_200_000, (_int4(40_000),)), 9_027_584),
    ],
)
def test_btree_sizes_are_close_to_measured_ones(shape: IndexShape, real: int) -> None:
    assert 1 / 1.15 < estimate(shape).size_bytes / real < 1.15


@given(
    rows=st.floats(0, 1e10), distinct=st.floats(0, 1e10), nulls=st.floats(0, 1), width=st.floats(1, 2000),
    method=st.sampled_from(["btree", "hash", "gin", "gist", "brin", "spgist", "bloom"]), varying=st.booleans(),
)  # fmt: skip
def test_every_size_is_a_size(rows: float, distinct: float, nulls: float, width: float, method: str, varying: bool) -> None:
    key = KeyColumn(width, varying, 1, nulls, min(distinct, rows))
    shape = IndexShape(method, rows, (key,), heap_pages=1000)
    size = estimate(shape)
    assert size.pages >= 1
    assert size.size_bytes < 1e15
    low, high = build_seconds(shape, size.size_bytes, 1000)
    assert 0 < low < high


# pg_relation_size after CREATE INDEX ... USING hash on 300,000 rows, PostgreSQL 15.
@pytest.mark.parametrize(
    ("rows", "share", "key", "real"),
    [
        (300_000, 1.0, KeyColumn(4, False, 4, 0, 41, (0.025,) * 40), 14_295_040),  # each value fills pages of its own
        (300_000, 1.0, KeyColumn(4, False, 4, 0.5, 900), 8_880_128),  # NULLs are not stored
        (9_000, 0.03, KeyColumn(4, False, 4, 0, 8_000), 8_413_184),  # a predicate saves no bucket
        (300_000, 1.0, KeyColumn(4, False, 4, 0, 100_000), 8_421_376),
    ],
)
def test_hash_sizes_are_close_to_measured_ones(rows: float, share: float, key: KeyColumn, real: int) -> None:
    assert 1 / 1.05 < estimate(IndexShape("hash", rows, (key,), share=share)).size_bytes / real < 1.05


def test_a_hash_index_of_one_value_is_estimated_in_no_time() -> None:
    started = time.thread_time()
    for distinct in (1e-300, 1.0, 3.0):
        shape = IndexShape("hash", 1e10, (KeyColumn(4, False, 4, 0.0, distinct),))
        assert 1e10 * 20 < estimate(shape).size_bytes < 1e10 * 80
    assert time.thread_time() - started < 1


def test_deduplication_never_makes_an_index_larger() -> None:
    for distinct in (1, 7, 1000, 99_999, 500_000, 1_000_000):
        plain = IndexShape("btree", 1_000_000, (_int4(distinct),), deduplicate=False)
        packed = IndexShape("btree", 1_000_000, (_int4(distinct),))
        assert estimate(packed).pages <= estimate(plain).pages * 1.02


def test_layout_figures() -> None:
    assert tuple_size([INT4]) == 16
    assert tuple_size([INT4, INT4]) == 16
    assert tuple_size([KeyColumn(8, False, 8, 0, 0), INT4]) == 24
    assert wal_per_insert(IndexShape("btree", 1, (INT4,))) == 64
    shape = IndexShape("btree", 10_000_000, (INT4,))
    assert temp_bytes(shape, 64 << 20) == 200_000_000
    assert temp_bytes(shape, 1 << 30) == 0
    assert temp_bytes(IndexShape("gin", 10_000_000, (INT4,)), 1 << 20) == 0


@pytest.mark.parametrize(
    ("pages", "height"), [(0, 0), (1, 0), (2, 0), (3, 1), (250, 1), (300, 2), (80_000, 2), (100_000, 3)]
)
def test_hollow_btrees_have_their_height_in_the_metapage(pages: int, height: int) -> None:
    image = hollow.btree_image(pages, 4)
    magic, version, root, level = struct.unpack_from("<IIII", image, 24)
    assert (magic, version) == (0x053162, 4)
    assert level == height
    assert root == (1 if pages > 1 else 0)
    assert len(image) == hollow.PAGE * (1 if pages < 2 else height + 2)
    if pages >= 2:  # root to leaf, each page one level lower
        levels = [struct.unpack_from("<I", image, n * hollow.PAGE + hollow.PAGE - 16 + 8)[0] for n in range(1, height + 2)]
        assert levels == list(range(height, -1, -1))


@pytest.mark.parametrize(
    ("text", "items"),
    [
        (None, []), ("{}", []), ("{a,b}", ["a", "b"]), ('{"a,b","c\\"d","e\\\\f"}', ["a,b", 'c"d', "e\\f"]),
        ('{"",x}', ["", "x"]), ('{"{1,2}"}', ["{1,2}"]), ("{1}", ["1"]),
    ],
)  # fmt: skip
def test_array_texts(text: str | None, items: list[str]) -> None:
    assert array_items(text) == items


def test_statements_are_repaired_or_refused_with_the_reason() -> None:
    def sql(text: str) -> str:
        return parse(Statement("1", text, 1)).sql

    assert sql("select interval $1") == "SELECT $1::interval"
    assert sql("select * from t where a = any(array[$1,$2])") == "SELECT * FROM t WHERE a IN ($1, $2)"
    assert "year" in sql("select extract($1 from x) from t")
    assert sql("select 1 -- untouched") == "select 1 -- untouched"
    for text, reason in (
        ("<insufficient privilege>", "hidden"), ("vacuum t", "utility"), ("select 1; select 2", "2 statements"),
        ("selec 1", "parser"), ("", "0 statements"), ("a\x00b", "NUL"), ("explain select 1", "EXPLAIN alone"),
        ("explain (analyze off) select 1", "EXPLAIN alone"), ("copy t from stdin", "utility statement (copy)"),
        ("create table x as execute p", "utility"), ("create table x as select 1 with no data", "utility"),
        ("execute p(1)", "utility"), ("do 'begin end'", "utility statement (do)"), ("x" * 200_001, "longer than 200,000"),
    ):  # fmt: skip
        assert reason in parse(Statement("1", text, 1)).refused, text


def test_what_a_statement_touches_and_writes() -> None:
    p = parse(Statement("1", "with c as (select 1) update s.t set a = 1, b = c.x from c join u on true where id = $3", 1))
    assert p.tables == (("s", "t"), ("", "u"))
    assert (p.target, p.writes, p.parameters, p.kind) == (("s", "t"), ("a", "b"), 3, "update")
    tree = parse(Statement("1", "select * from t where a = $1 and $2::int < b and c in ($3)", 1)).tree
    assert list(compared(tree)) == [("a", "=", 1), ("b", ">", 2), ("c", "=", 3)]
    assert substituted(tree, {1: "it's"}) == "SELECT * FROM t WHERE a = 'it''s' AND $1::int < b AND c IN ($2)"


def test_search_paths() -> None:
    assert search_path('"$user", public', "bob") == ("pg_catalog", "bob", "public")
    assert search_path('"We""ird", Public,pg_catalog', "x") == ('We"ird', "public", "pg_catalog")
    assert search_path("", "x") == ("pg_catalog",)


def test_workload_files(tmp_path: Path) -> None:
    file = tmp_path / "w"
    file.write_text("select 1; select ';' -- no; split\n;\n\nselect $$a;b$$;")
    assert [s.sql for s in read_workload_file(file)] == ["select 1", "select ';' -- no; split", "select $$a;b$$"]
    file.write_text(json.dumps([{"query": "select 1", "calls": 7}, {"query": "x", "id": "q", "total_ms": 2}]))
    assert read_workload_file(file) == [Statement("1", "select 1", 7.0), Statement("q", "x", 1.0, 2.0)]
    file.write_text(json.dumps({"queries": {"3": "select 3"}}))
    assert read_workload_file(file) == [Statement("3", "select 3", 1.0)]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "[1]", '[{"query": 1}]', '[{"query": "x", "calls": "many"}]', '[{"query": "x", "calls": -1}]',
     '{"queries": [1]}', "[{", '[{"query": "x", "total_ms": true}]'],
)  # fmt: skip
def test_bad_workload_files_get_one_message(tmp_path: Path, content: str) -> None:
    file = tmp_path / "w"
    file.write_text(content)
    with pytest.raises(UsageError) as caught:
        read_workload_file(file)
    assert caught.value.field == "workload"
    with pytest.raises(UsageError):
        read_workload_file(tmp_path / "absent")


def _uniform(column: str, low: int, high: int, nulls: str = "0") -> ColumnStats:
    step = (high - low) / 100
    bounds = "{" + ",".join(str(low + n * step) for n in range(101)) + "}"
    none = dict.fromkeys(("mce", "mcef", "elem_counts", "range_lengths", "range_empty", "range_bounds"))
    return ColumnStats("s", "t", column, False, nulls, 4, -1.0, None, None, bounds, "0", **none)


@pytest.mark.parametrize(
    ("predicate", "share"),
    [
        ("a < b", 0.5), ("b > a", 0.5), ("a < c", 1.0), ("c < a", 0.0), ("c >= a", 1.0), ("a < d", 0.125), ("n < b", 0.5),
        ("a < b AND a < b", 0.25), ("a < c AND (a < b OR a > b)", 1.0),
    ],
)  # fmt: skip
def test_a_comparison_of_columns_knows_where_their_values_lie(predicate: str, share: float) -> None:
    columns = {"a": (0, 100), "b": (0, 100), "c": (200, 300), "d": (0, 25), "n": (0, 100)}
    stats = tuple(_uniform(name, *ends, nulls="0.5" if name == "n" else "0") for name, ends in columns.items())
    known = SimpleNamespace(column_stats=lambda _r, name: next((s for s in stats if s.column == name), None))
    relation = SimpleNamespace(columns=[SimpleNamespace(name=n, type="numeric") for n in columns])
    terms = len(compared_columns(predicate))
    corrected = DEFAULT_INEQUALITY**terms * share_correction(known, relation, predicate)  # type: ignore[arg-type]
    assert corrected == pytest.approx(share, abs=0.01)


def test_a_comparison_of_what_has_no_order_here_is_left_to_the_planner() -> None:
    known = SimpleNamespace(column_stats=lambda _r, name: _uniform(name, 0, 9))
    relation = SimpleNamespace(columns=[SimpleNamespace(name=n, type="text") for n in "ab"])
    for predicate in ("a < b", "a < 'x'", "a = b", "lower(a) < b", "a is not null"):
        assert share_correction(known, relation, predicate) == 1.0  # type: ignore[arg-type]

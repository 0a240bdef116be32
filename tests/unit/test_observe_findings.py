"""What is concluded from the rows of the catalog: which index covers which, what is unused, what a foreign key lacks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from indexpilot_tui.engine.observe.indexes.facts import IndexFacts
from indexpilot_tui.engine.observe.indexes.findings import findings_of
from indexpilot_tui.engine.observe.indexes.foreign_keys import free_name, supports
from indexpilot_tui.engine.observe.indexes.say import span
from indexpilot_tui.engine.observe.indexes.situation import Situation
from indexpilot_tui.engine.observe.indexes.structure import covers, redundant, shape_of
from indexpilot_tui.engine.observe.model import FindingKind, HealthFinding

NOW = datetime(2026, 3, 1, tzinfo=UTC)
_oids = count(20_000)


def index(name: str, keys: str, *, key_count: int | None = None, **changed: Any) -> IndexFacts:
    """A plain valid btree on `keys` (attribute numbers)."""
    numbers = tuple(int(k) for k in keys.split())
    n = key_count if key_count is not None else len(numbers)
    made = IndexFacts(
        next(_oids), 1, "public", name, "t", "btree", n, numbers, opclasses=(1978,) * n, collations=(0,) * n,
        options=(0,) * n, size_bytes=81_920, scans=5, rows=1000.0,
    )  # fmt: skip
    for field, value in changed.items():
        assert hasattr(made, field), field
        setattr(made, field, value)
    made.has_predicate = changed.get("has_predicate", made.predicate != "")
    made.has_expressions = changed.get("has_expressions", made.elements != ())
    return made


def foreign_key(columns: list[int], **changed: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "oid": 5, "name": "t_p_fkey", "table_oid": 1, "schema_name": "public", "table_name": "t", "partitioned": False,
        "table_rows": 1e6, "table_bytes": 64 * 1024 * 1024, "columns": columns, "column_names": [f"c{c}" for c in columns],
        "parent_schema": "public", "parent_table": "p", "on_delete": "a", "parent_deleted": 3, "parent_updated": 0,
    }  # fmt: skip
    return row | changed


def situation(**changed: Any) -> Situation:
    values: dict[str, Any] = {
        "now": NOW, "stats_since": NOW - timedelta(days=30), "in_recovery": False, "standbys": 0, "min_age_days": 14.0,
    }  # fmt: skip
    return Situation(**(values | changed))


def find(indexes: list[IndexFacts], *keys: dict[str, Any], **changed: Any) -> list[HealthFinding]:
    return list(findings_of(indexes, keys, situation(**changed)))


def kinds(found: list[HealthFinding]) -> list[tuple[str, str]]:
    return [(f.kind.value, f.index) for f in found]


COVERED = [
    ("same", index("a", "1 2"), index("b", "1 2"), "duplicate"),
    ("backward", index("a", "1 2", options=(0, 1)), index("b", "1 2", options=(3, 2)), "duplicate"),
    ("prefix", index("a", "1"), index("b", "1 2"), "left_prefix"),
    ("prefix of a primary key", index("a", "1"), index("b", "1 2", unique=True, primary=True), "left_prefix"),
    ("fewer included", index("a", "1 5", key_count=1), index("b", "1 5 6", key_count=1), "duplicate"),
    ("included is a key", index("a", "1 2", key_count=1), index("b", "1 2"), "left_prefix"),
    ("same expression", index("a", "0", elements=("lower(x)",)), index("b", "0", elements=("lower(x)",)), "duplicate"),
    ("same predicate", index("a", "1", predicate="(b > 5)"), index("b", "1 2", predicate="(b > 5)"), "left_prefix"),
    ("same hash", index("a", "1", method="hash"), index("b", "1", method="hash"), "duplicate"),
]
NOT_COVERED = [
    ("another order", index("a", "2 1"), index("b", "1 2")),
    ("one key turned", index("a", "1 2", options=(0, 1)), index("b", "1 2")),
    ("another opclass", index("a", "1", opclasses=(4217,)), index("b", "1")),
    ("another collation", index("a", "1", collations=(950,)), index("b", "1")),
    ("partial wider", index("a", "1"), index("b", "1 2", predicate="(b > 5)")),
    ("another predicate", index("a", "1", predicate="(b > 6)", rows=10), index("b", "1", predicate="(b > 5)")),
    ("more included", index("a", "1 5", key_count=1), index("b", "1")),
    ("another expression", index("a", "0", elements=("lower(x)",)), index("b", "0", elements=("upper(x)",))),
    ("unique", index("a", "1", unique=True), index("b", "1")),
    ("constraint", index("a", "1", constraint="t_key"), index("b", "1")),
    ("replica identity", index("a", "1", replica_identity=True), index("b", "1")),
    ("attached to a parent", index("a", "1", attached=True), index("b", "1")),
    ("another table", index("a", "1"), index("b", "1", table_oid=2)),
    ("another method", index("a", "1", method="hash"), index("b", "1")),
    ("gist prefix", index("a", "1", method="gist"), index("b", "1 2", method="gist")),
    ("the other is invalid", index("a", "1"), index("b", "1", valid=False)),
    ("the other is being built", index("a", "1"), index("b", "1", building=True)),
    ("predicate not read", index("a", "1", predicate=None), index("b", "1", predicate=None)),
    ("expression not read", index("a", "0", has_expressions=True), index("b", "0", has_expressions=True)),
]


@pytest.mark.parametrize(("what", "gone", "kept", "kind"), COVERED, ids=[c[0] for c in COVERED])
def test_covered(what: str, gone: IndexFacts, kept: IndexFacts, kind: str) -> None:
    cover = covers(shape_of(kept), shape_of(gone))
    assert cover is not None
    assert cover.kind == kind


@pytest.mark.parametrize(("what", "gone", "kept"), NOT_COVERED, ids=[c[0] for c in NOT_COVERED])
def test_not_covered(what: str, gone: IndexFacts, kept: IndexFacts) -> None:
    assert covers(shape_of(kept), shape_of(gone)) is None


def test_of_equal_ones_one_stays_the_used_one() -> None:
    rows = [index("idle", "1", scans=0), index("busy", "1", scans=9), index("some", "1", scans=3)]
    names = {row.oid: row.name for row in rows}
    assert sorted(names[c.gone.oid] for c in redundant([shape_of(r) for r in rows])) == ["idle", "some"]


def test_all_superfluous_ones_may_go_together() -> None:
    rows = [index("a", "1", scans=9), index("a2", "1", scans=2), index("ab", "1 2"), index("abc", "1 2 3"), index("z", "2")]
    gone = {c.gone.oid for c in redundant([shape_of(r) for r in rows])}
    left = [shape_of(r) for r in rows if r.oid not in gone]
    assert [r.name for r in rows if r.oid not in gone] == ["abc", "z"]
    for row in rows:
        if row.oid in gone:
            assert any(covers(kept, shape_of(row)) for kept in left)


def test_what_takes_over_the_scans_of_another_is_not_called_unused() -> None:
    found = find([index("narrow", "1", scans=900), index("wide", "1 2", scans=0)])
    assert kinds(found) == [("left_prefix", "public.narrow")]
    assert found[0].fix == 'DROP INDEX CONCURRENTLY "public"."narrow"'


def test_unused_only_after_the_window_and_never_what_is_needed() -> None:
    rows = [
        index("idle", "1", scans=0),
        index("u", "2", scans=0, unique=True),
        index("k", "3", scans=0, constraint="t_excl"),
        index("r", "4", scans=0, replica_identity=True),
        index("fk", "5", scans=0),
    ]
    found = find(rows, foreign_key([5]))
    assert kinds(found) == [("unused", "public.idle")]
    assert "30 days" in found[0].evidence
    young = find(rows, foreign_key([5]), stats_since=NOW - timedelta(days=2))
    assert [(f.severity, f.fix) for f in young] == [("info", "")]
    assert "too short" in young[0].evidence
    assert "not known" in find(rows, foreign_key([5]), stats_since=None)[0].evidence
    (with_standbys,) = find(rows, foreign_key([5]), standbys=2)
    assert "2 connected standbys were not asked" in with_standbys.evidence
    assert (with_standbys.severity, with_standbys.fix) == ("info", "")
    on_standby = find(rows, foreign_key([5]), in_recovery=True)
    assert [(f.severity, f.fix) for f in on_standby] == [("info", "")]


def test_a_foreign_key_keeps_one_of_the_indexes_that_serve_it() -> None:
    idle = {"scans": 0}
    two_equal = find([index("a", "4", **idle), index("b", "4", **idle)], foreign_key([4]))
    assert kinds(two_equal) == [("duplicate", "public.b")]  # and not the other one as unused
    wide_and_other = [index("a", "4 5", **idle), index("b", "4 6", **idle)]
    assert len(find(wide_and_other, foreign_key([4]))) == 1
    assert len(find(wide_and_other)) == 2
    with_a_used_one = [*wide_and_other, index("c", "4 7")]
    assert kinds(find(with_a_used_one, foreign_key([4]))) == [("unused", "public.a"), ("unused", "public.b")]


def test_invalid_is_left_behind_only_when_nobody_works_on_it() -> None:
    broken = {"valid": False, "ready": False}
    assert kinds(find([index("x", "1", **broken)])) == [("invalid", "public.x")]
    assert kinds(find([index("x", "1", **broken, building=True)])) == [("building", "public.x")]
    assert kinds(find([index("x", "1", **broken, busy=True)])) == [("building", "public.x")]
    on_standby = find([index("x", "1", **broken)], in_recovery=True)
    assert [(f.kind, f.severity, f.fix) for f in on_standby] == [(FindingKind.INVALID, "info", "")]
    enforcing = find([index("x", "1", valid=False, unique=True)])
    assert enforcing[0].severity == "critical"
    assert "rejects writes" in enforcing[0].risk
    assert "DROP INDEX CONCURRENTLY that did not finish" in find([index("x", "1", **broken, live=False)])[0].evidence
    assert find([index("x", "1", valid=False, partitioned=True)])[0].fix == ""


SERVED = [
    (index("a", "4 5"), [4, 5], True),
    (index("a", "5 4 9"), [4, 5], True),
    (index("a", "9 4 5"), [4, 5], False),
    (index("a", "4"), [4, 5], False),
    (index("a", "4 5", key_count=1), [4, 5], False),
    (index("a", "4", predicate="(c4 IS NOT NULL)"), [4], True),
    (index("a", "4 5", predicate="((c4 IS NOT NULL) AND (c5 IS NOT NULL))"), [4, 5], True),
    (index("a", "4", predicate="(c9 > 3)"), [4], False),
    (index("a", "4", predicate="((c4 IS NULL) OR (c5 IS NOT NULL))"), [4], False),
    (index("a", "4", valid=False), [4], False),
    (index("a", "4", method="hash"), [4], True),
    (index("a", "4", method="gin"), [4], False),
    (index("a", "0", elements=("c4 + 1",)), [4], False),
]


@pytest.mark.parametrize(("row", "columns", "served"), SERVED)
def test_which_index_serves_a_foreign_key(row: IndexFacts, columns: list[int], served: bool) -> None:
    assert supports(shape_of(row), columns) is served
    assert bool(find([row], foreign_key(columns))) is not served or not row.valid


def test_the_missing_index_is_named_in_full() -> None:
    hostile = foreign_key([4], schema_name='my"s', table_name="Order; drop", column_names=["user"])
    (found,) = find([], hostile)
    assert found.fix == ('CREATE INDEX CONCURRENTLY "Order; drop_user_idx" ON "my""s"."Order; drop" ("user")')
    assert found.severity == "warning"
    assert "3 deletes" in found.evidence
    assert find([], foreign_key([4], table_bytes=8_192))[0].severity == "info"
    assert "reads this whole table" in found.evidence
    assert "up to 192.0 MiB" in found.evidence
    (parted,) = find([], foreign_key([4], partitioned=True, table_bytes=None))
    assert parted.fix == 'CREATE INDEX CONCURRENTLY "t_c4_idx" ON "public"."t" ("c4")'
    assert "one index a partition" in parted.risk
    assert "saves" not in parted.evidence
    assert find([], {"oid": 5, "table_oid": 1, "columns": [4]}) == []  # served when it was read: the next reading tells


def test_a_name_fits_and_is_free() -> None:
    assert free_name("s", "t", ["a"], {("s", "t_a_idx"), ("other", "t_a_idx1")}) == "t_a_idx1"
    long = free_name("s", "ü" * 60, ["a"], set())
    assert len(long.encode()) <= 63
    assert long.endswith("_idx")


def test_spans_read_well() -> None:
    assert [span(30), span(0.5), span(0.01), span(0.0001)] == ["30 days", "12 hours", "14 minutes", "9 seconds"]

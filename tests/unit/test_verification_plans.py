"""What plans and writes add to the verdict, and what tells one plan from another."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from indexpilot_tui.engine.changes.plan_shapes import CHANGED, NOT_COMPARED, UNCHANGED, compare, shape
from indexpilot_tui.engine.changes.verification import verify
from indexpilot_tui.engine.journal.records import PhaseStats
from indexpilot_tui.settings.model import VerificationPolicy
from tests.unit.test_verification import phases, row, spread

POLICY = VerificationPolicy()
SCAN = {"Node Type": "Seq Scan", "Relation Name": "t", "Total Cost": 10.0, "Plan Rows": 5, "Filter": "(v = 5)"}
INDEX = {"Node Type": "Index Scan", "Relation Name": "t", "Index Name": "t_v_idx", "Index Cond": "(v = $1)"}


def known(shape_: str, *points: str) -> dict[str, Any]:
    return {"shapes": {"generic": shape_, **{f"p{n}": p for n, p in enumerate(points)}}, "parameters": len(points)}


def judged(
    before: float,
    after: float,
    plans: tuple[Any, Any],
    *,
    what: str = "select",
    change: str = "create",
    blocks: tuple[float, float] | None = None,
    **fields: Any,
) -> Any:
    """The verdict on one statement of 100 calls a side, with these plans at start and observed."""
    first = spread(50.0, 40)
    sides = [first, first + spread(before, 100), first + spread(before, 100)]
    sides.append(sides[-1] + spread(after, 100))
    wal = [n * 100 for n in (40, 140, 140)] + [140 * 100 + 100 * 200]
    seen: list[float | None] = [None] * 4
    if blocks is not None:
        seen = [n * blocks[0] for n in (40, 140, 140)] + [140 * blocks[0] + 100 * blocks[1]]
    stats = phases(*[[row(v, kind=what, wal_bytes=w, blocks=b)] for v, w, b in zip(sides, wal, seen, strict=True)])
    for phase, plan in zip(("start", "observed"), plans, strict=True):
        context = {"plans": {"1": plan} if plan else {}, **fields.get(phase, {})}
        stats[phase] = replace(stats[phase], context=context)
    for phase in ("proposed", "end"):
        stats[phase] = replace(stats[phase], context=fields.get(phase, {}))
    return verify(stats, POLICY, change)


SAME, OTHER = (known("a", "b"), known("a", "b")), (known("a", "b"), known("a", "c"))


@pytest.mark.parametrize(
    ("plans", "change", "what", "verdict"),
    [
        (OTHER, "create", "select", "regressed"),
        (SAME, "create", "select", "no evidence"),  # something else made it slower
        (SAME, "drop", "select", "no evidence"),
        (SAME, "create", "update", "regressed"),  # a writer pays without a word in its plan
        (SAME, "reindex", "select", "regressed"),  # the planner cannot tell a rebuilt index, the disk can
        ((None, None), "create", "select", "regressed"),  # not known: the counters decide
        ((known("a", "b"), {"why": "hidden"}), "create", "select", "regressed"),
        ((known("a"), known("a")), "create", "select", "no evidence"),  # without parameters there is one plan
        (
            ({"shapes": {"generic": "a"}, "parameters": 1},) * 2,
            "create",
            "select",
            "regressed",
        ),  # generic alone is not enough
    ],
)
def test_a_statement_that_only_reads_is_changed_by_its_plan(plans: Any, change: str, what: str, verdict: str) -> None:
    result = judged(10.0, 20.0, plans, what=what, change=change)
    assert result.queries[0].verdict == result.verdict == verdict, result
    if verdict == "no evidence":
        assert "its plan is the one from before" in result.queries[0].reason


def test_an_improvement_without_another_plan_is_none_of_ours_either() -> None:
    result = judged(20.0, 10.0, SAME)
    assert result.verdict == "no evidence"
    assert "faster, but its plan is the one from before" in result.queries[0].reason
    assert judged(20.0, 10.0, OTHER).verdict == "improved"


def with_blocks(plans: tuple[Any, Any], times: float, **fields: Any) -> Any:
    """100 blocks a call before, `times` as many after."""
    return judged(10.0, 20.0, plans, blocks=(100.0, 100.0 * times), **fields)


NOT_KNOWN = ({"why": "hidden"}, {"why": "hidden"})


@pytest.mark.parametrize(
    ("plans", "times", "verdict", "plan"),
    [
        (SAME, 1.0, "no evidence", "unchanged"),
        (SAME, 1.04, "no evidence", "unchanged"),
        (SAME, 0.5, "regressed", "not compared"),  # the plans that were sampled are not the one that ran
        (SAME, 1.07, "regressed", "not compared"),
        (NOT_KNOWN, 1.0, "no evidence", "not compared"),  # the same work: whatever slowed it was not an index
        (NOT_KNOWN, 1.03, "regressed", "not compared"),
        (OTHER, 1.0, "regressed", "changed"),
    ],
)
def test_blocks_tell_whether_the_work_is_the_same(plans: Any, times: float, verdict: str, plan: str) -> None:
    result = with_blocks(plans, times)
    assert (result.queries[0].verdict, result.queries[0].plan) == (verdict, plan), result.queries[0].reason
    assert f"{times:.2f} times the blocks" in result.queries[0].reason
    assert with_blocks(plans, times, what="update").queries[0].verdict == "regressed"


def test_the_reason_names_plans_writes_wal_and_hot() -> None:
    table = {"start": {"table": {"updates": 1000, "hot": 990}}, "end": {"table": {"updates": 1000, "hot": 990}}}
    table |= {"proposed": {"table": {"updates": 0, "hot": 0}}}
    result = judged(10.0, 20.0, OTHER, what="update", **table, observed={"table": {"updates": 1100, "hot": 990}})
    assert result.writes is not None
    assert (result.writes.wal_before, result.writes.wal_after) == (100.0, 200.0)
    assert (result.writes.hot_before_pct, result.writes.hot_after_pct) == (99.0, 0.0)
    assert "plans of 1 of 1 compared, 1 changed (1)" in result.reason
    assert "writes: 10 -> 20 ms, 100 -> 200 B of WAL a call, HOT 99 -> 0 % of the updates" in result.reason


def test_hot_of_few_updates_or_counters_set_back_is_not_told() -> None:
    few = {"start": {"table": {"updates": 5, "hot": 5}}, "end": {"table": {"updates": 5, "hot": 5}}}
    result = judged(10.0, 20.0, OTHER, what="update", **few, observed={"table": {"updates": 2, "hot": 2}})
    assert result.writes is not None
    assert (result.writes.hot_before_pct, result.writes.hot_after_pct) == (None, None)


def test_without_a_writer_nothing_is_said_of_writes() -> None:
    result = judged(10.0, 20.0, OTHER)
    assert result.writes is None
    assert "writes" not in result.reason


def test_why_plans_are_not_known_is_said() -> None:
    stats = phases(*[[row(spread(10.0, n), kind="select")] for n in (40, 140, 140, 240)])
    hidden = {"plans": {}, "plans_why": "no right to read"}
    told: dict[str, PhaseStats] = {k: replace(v, context=hidden) for k, v in stats.items()}
    assert "plans not compared (no right to read)" in verify(told, POLICY).reason


def test_costs_rows_and_constants_are_no_part_of_a_shape() -> None:
    other = {**SCAN, "Total Cost": 99.0, "Plan Rows": 1, "Filter": "(v = 7)"}
    text = {**SCAN, "Filter": "(v = 'it''s $1 (5)'::text)"}
    assert shape(SCAN) == shape(other)
    assert shape(text) == shape({**text, "Filter": "(v = 'x'::text)"})
    assert shape({**INDEX, "Index Cond": "(v = 5)"}) == shape(INDEX)


@pytest.mark.parametrize(
    "changed",
    [{"Node Type": "Index Scan"}, {"Relation Name": "u"}, {"Filter": "(w = 5)"}, {"Scan Direction": "Backward"},
     {"Plans": [INDEX]}],
)  # fmt: skip
def test_everything_else_is(changed: dict[str, Any]) -> None:
    assert shape(SCAN) != shape({**SCAN, **changed})
    deep: dict[str, Any] = {"Node Type": "Limit", "Plans": [copy.deepcopy(SCAN)]}
    assert shape(deep) != shape({**deep, "Plans": [{**SCAN, **changed}]})


def test_points_that_only_one_side_has_are_not_compared() -> None:
    before = {"shapes": {"generic": "a", "p1": "x"}, "parameters": 1}
    assert compare(before, {"shapes": {"generic": "a", "p2": "y"}, "parameters": 1})[0] == NOT_COMPARED
    assert compare(before, {"shapes": {"generic": "b", "p2": "y"}, "parameters": 1})[0] == CHANGED
    assert compare(before, {"shapes": {"generic": "a", "p1": "x", "p2": "y"}, "parameters": 1})[0] == UNCHANGED
    assert compare(None, before)[0] == compare(before, {"why": "hidden"})[0] == NOT_COMPARED

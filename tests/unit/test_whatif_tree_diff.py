"""The plan tree diff that a person reads."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from indexpilot_tui.engine.whatif.tree_diff import diff, flatten, text_lines

SEQ = {"Node Type": "Seq Scan", "Relation Name": "t", "Alias": "t", "Total Cost": 900.0, "Plan Rows": 9, "Filter": "(b = 7)"}
INDEX = {"Node Type": "Index Scan", "Index Name": "t_b", "Relation Name": "t", "Alias": "x", "Total Cost": 8.5,
         "Plan Rows": 9, "Index Cond": "(b = 7)\x1b[31m"}  # fmt: skip


def _top(child: dict[str, Any], cost: float) -> dict[str, Any]:
    return {"Node Type": "Sort", "Sort Key": ["a", "b"], "Total Cost": cost, "Plan Rows": 9, "Plans": [child]}


def test_what_goes_stands_before_what_comes_and_nothing_acts_on_a_terminal() -> None:
    lines = text_lines(_top(SEQ, 1000.0), _top(INDEX, 9.25))
    assert lines[0] == "  Sort  (rows 9, cost 1,000.00 -> 9.25)"
    assert lines[1:3] == ["-   Seq Scan on t  (rows 9, cost 900.00)", "-       Filter: (b = 7)"]
    assert lines[3] == "+   Index Scan using t_b on t x  (rows 9, cost 8.50)"
    assert lines[4].startswith("+       Index Cond: (b = 7)")
    assert "\x1b" not in "".join(lines)


def test_equal_plans_have_no_signs() -> None:
    assert {x.sign for x in diff(_top(SEQ, 5.0), _top(SEQ, 5.0))} == {" "}


_plans = st.recursive(
    st.fixed_dictionaries({"Node Type": st.sampled_from(["Seq Scan", "Sort", "Hash"]), "Total Cost": st.floats(0, 1e9)}),
    lambda inner: st.fixed_dictionaries(
        {"Node Type": st.sampled_from(["Hash Join", "Append"]), "Plans": st.lists(inner, max_size=3)}
    ),
    max_leaves=8,
)


@given(before=_plans, after=_plans)
def test_every_node_of_both_plans_is_shown_once(before: dict[str, Any], after: dict[str, Any]) -> None:
    found = diff(before, after)
    assert [x.before for x in found if x.before] == list(flatten(before))
    assert [x.after for x in found if x.after] == list(flatten(after))

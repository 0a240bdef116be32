"""Two EXPLAIN plan trees as one: which nodes stay, go and come, with their costs. For every screen and for plain text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from indexpilot_tui.engine.postgres.text import clean_line

_CONDITIONS = ("Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "Join Filter", "Filter", "Sort Key", "Group Key")


@dataclass(frozen=True, slots=True)
class PlanNode:
    """One node (texts cleaned). `label` and `depth` make it the same node in both trees."""

    depth: int
    label: str
    cost: float
    rows: float
    conditions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DiffNode:
    """`sign`: '-' leaves the plan (`after` None), '+' enters it (`before` None), ' ' stays."""

    sign: str
    before: PlanNode | None
    after: PlanNode | None

    @property
    def node(self) -> PlanNode:
        found = self.after or self.before
        if found is None:
            raise ValueError("a line of a diff has a node")
        return found


def flatten(plan: dict[str, Any], depth: int = 0) -> Iterator[PlanNode]:
    """The nodes of a plan tree, top down."""
    conditions = tuple(_condition(name, plan[name]) for name in _CONDITIONS if plan.get(name))
    yield PlanNode(depth, _label(plan), float(plan.get("Total Cost", 0)), float(plan.get("Plan Rows", 0)), conditions)
    for child in plan.get("Plans", ()):
        yield from flatten(child, depth + 1)


def _condition(name: str, value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return clean_line(f"{name}: {text}", 400)


def _label(plan: dict[str, Any]) -> str:
    kind = str(plan.get("Node Type", "?"))
    if plan.get("Parallel Aware"):
        kind = f"Parallel {kind}"
    if (join := plan.get("Join Type")) and join != "Inner":
        kind = f"{kind} {join}"
    if plan.get("Scan Direction") == "Backward":
        kind += " backward"
    index, relation, alias = plan.get("Index Name"), plan.get("Relation Name"), plan.get("Alias")
    if index:
        kind += f" using {index}"
    if relation:
        kind += f" on {relation}" + (f" {alias}" if alias and alias != relation else "")
    return clean_line(kind, 200)


def diff(before: dict[str, Any], after: dict[str, Any]) -> list[DiffNode]:
    """The nodes of both trees in reading order; what goes stands before what comes in its place."""
    old, new = list(flatten(before)), list(flatten(after))
    matcher = SequenceMatcher(None, [(n.depth, n.label) for n in old], [(n.depth, n.label) for n in new], autojunk=False)
    found: list[DiffNode] = []
    for tag, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if tag == "equal":
            pairs = zip(old[old_from:old_to], new[new_from:new_to], strict=True)
            found += [DiffNode(" ", was, now) for was, now in pairs]
        else:
            found += [DiffNode("-", was, None) for was in old[old_from:old_to]]
            found += [DiffNode("+", None, now) for now in new[new_from:new_to]]
    return found


def text_lines(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The diff as plain text: sign, tree, rows and cost; conditions of the nodes that go or come below them."""
    lines: list[str] = []
    for entry in diff(before, after):
        node = entry.node
        cost = f"{node.cost:,.2f}"
        if entry.before and entry.after and entry.before.cost != entry.after.cost:
            cost = f"{entry.before.cost:,.2f} -> {entry.after.cost:,.2f}"
        indent = "  " * node.depth
        lines.append(f"{entry.sign} {indent}{node.label}  (rows {node.rows:,.0f}, cost {cost})")
        if entry.sign != " ":
            lines += [f"{entry.sign} {indent}    {c}" for c in node.conditions]
    return lines

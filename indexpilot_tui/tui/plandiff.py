"""Two EXPLAIN plan trees as one readable diff: what stays, what goes, what comes, with the costs of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.lines import Line, line, pad

_CONDITIONS = ("Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "Join Filter", "Filter", "Sort Key", "Group Key")


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a plan. `label` and `depth` make it the same node in both trees."""

    depth: int
    label: str
    cost: float
    rows: float
    conditions: tuple[str, ...]


def nodes(plan: dict[str, Any], depth: int = 0) -> Iterator[Node]:
    """The tree, top down."""
    yield Node(
        depth,
        _label(plan),
        float(plan.get("Total Cost", 0.0)),
        float(plan.get("Plan Rows", 0.0)),
        tuple(_condition(name, plan[name]) for name in _CONDITIONS if plan.get(name)),
    )
    for child in plan.get("Plans", ()):
        yield from nodes(child, depth + 1)


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


def plan_lines(before: dict[str, Any], after: dict[str, Any], width: int) -> list[Line]:
    """The diff in lines of `width` cells: `−` leaves the plan, `+` enters it, unmarked stays (cost before → after)."""
    old, new = list(nodes(before)), list(nodes(after))
    matcher = SequenceMatcher(None, [(n.depth, n.label) for n in old], [(n.depth, n.label) for n in new], autojunk=False)
    out: list[Line] = []
    for tag, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if tag == "equal":
            for was, now in zip(old[old_from:old_to], new[new_from:new_to], strict=True):
                out.append(_line(" ", was, _costs(was.cost, now.cost), "dim" if was.cost == now.cost else "plain", width))
            continue
        for was in old[old_from:old_to]:
            out.append(_line("−", was, fmt.rate(was.cost), "del", width))
            out += _conditions(was, "−", width)
        for now in new[new_from:new_to]:
            out.append(_line("+", now, fmt.rate(now.cost), "add", width))
            out += _conditions(now, "+", width)
    return out


def tree_lines(plan: dict[str, Any], width: int) -> list[Line]:
    """One plan in lines of `width` cells, each node with its conditions."""
    out: list[Line] = []
    for node in nodes(plan):
        out.append(_line(" ", node, fmt.rate(node.cost), "plain", width))
        out += _conditions(node, " ", width)
    return out


def _costs(was: float, now: float) -> str:
    return fmt.rate(now) if was == now else f"{fmt.rate(was)} → {fmt.rate(now)}"


def _line(sign: str, node: Node, cost: str, tone: str, width: int) -> Line:
    right = f"  rows {fmt.count(node.rows)}  cost {cost}"
    left = f" {sign} " + "  " * node.depth + ("└ " if node.depth else "") + node.label
    return line((pad(left, max(10, width - len(right))), tone), (right, tone if tone in ("add", "del") else "dim"))


def _conditions(node: Node, sign: str, width: int) -> list[Line]:
    indent = "  " * node.depth + ("    " if node.depth else "  ")
    return [line((pad(f" {sign} {indent}{text}", width), "dim")) for text in node.conditions]

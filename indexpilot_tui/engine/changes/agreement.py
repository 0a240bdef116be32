"""Whether a plan's statement does what the plan says. What is approved is read as fields; what is sent is the text."""

from __future__ import annotations

from indexpilot_tui.engine.changes.definition import differences
from indexpilot_tui.engine.changes.planning_parts import step_disagreement
from indexpilot_tui.engine.model.change import Change, Plan
from indexpilot_tui.engine.postgres.ddl import parse_index_statement, render
from indexpilot_tui.errors import RefusedError, UsageError


def disagreement(plan: Plan, parent: Change | None = None) -> str:
    """How the statement differs from its plan, or from the opposite of `parent` (for a rollback); empty when it does not."""
    try:
        statement = parse_index_statement(plan.ddl)
        canonical = render(statement, schema=plan.schema, table=plan.table, index=plan.index, concurrently=True)
    except (UsageError, ValueError) as exc:
        return str(exc)
    said = {"kind": plan.kind, "concurrently": True, "schema": plan.schema, "index": plan.index}
    found = {"kind": statement.kind, "concurrently": statement.concurrently, "schema": statement.schema}
    found["index"] = statement.index
    if plan.kind == "create":
        said |= {"table": plan.table, "unique": plan.unique, "method": plan.method}
        found |= {"table": statement.table, "unique": statement.unique, "method": statement.method}
    different = [f"{key}: planned {said[key]}, written {found[key]}" for key in said if said[key] != found[key]]
    if not different and canonical != plan.ddl:
        different = ["it is not written as a plan's statement is"]
    if not different and plan.steps:
        different = [text for text in [step_disagreement(plan)] if text]
    if not different and parent is not None:
        different = _not_the_opposite(plan, parent)
    return "; ".join(different)


def _not_the_opposite(plan: Plan, parent: Change) -> list[str]:
    if plan.kind == parent.plan.kind:
        return [f"a {plan.kind} takes no {parent.plan.kind} back"]
    if plan.kind == "drop":
        return [] if plan.index_oid == parent.index_oid else ["it drops another index than the one that was made"]
    kept = parent.way_back
    return differences(plan.ddl, kept.ddl if kept is not None else str(parent.plan.saved.get("definition", "")))


def must_agree(plan: Plan, parent: Change | None = None) -> None:
    """Raise RefusedError unless the statement is exactly what the plan says."""
    different = disagreement(plan, parent)
    if different:
        raise RefusedError(
            f"the plan's statement is not what the plan says ({different})",
            field="DDL",
            remedy="propose the change again with this program",
        )

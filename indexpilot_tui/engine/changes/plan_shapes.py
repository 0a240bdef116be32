"""The shape of a statement's plan as a fingerprint: did the change give it another plan? No plan and no value is kept.

A plan is asked for with EXPLAIN, which executes nothing of the statement, on a session made for it (planner.py): planning
itself folds calls of functions that are called IMMUTABLE, whoever wrote them. Beyond that, only statements that read are
planned on the target, and only where every function, operator, type and relation that they name belongs to the server or to
somebody with all rights. As the generic plan, and for parameters that are compared with columns also with the commonest,
the rarest and a middle value of the column's statistics, since a generic plan alone can stay while the plan that is used
changes. What is hashed is the tree of nodes with the names of relations and indexes and the conditions without their
constants; costs and row counts are left out.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from indexpilot_tui.engine.changes.catalog import question
from indexpilot_tui.engine.changes.naming import login_path
from indexpilot_tui.engine.journal.records import PhaseStats
from indexpilot_tui.engine.model.change import Plan
from indexpilot_tui.engine.postgres.planner import NO_PLANNER, explain, planning_session, qualified
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import IndexPilotError, PrivilegeError
from indexpilot_tui.settings.model import Settings, Target

if TYPE_CHECKING:  # an executor that plans nothing starts without the what-if room: 0.07 of its 0.57 s of CPU
    from indexpilot_tui.engine.whatif.statements import Parsed

CHANGED, UNCHANGED, NOT_COMPARED = "changed", "unchanged", "not compared"
MAX_STATEMENTS = 40  # the ones that cost the most time
BUDGET_S = 5.0  # in all: planning takes the server's time, too
GENERIC = "generic"
HIDDEN = "this login may not read a table of it"

# what tells one plan from another of the same statement, besides its children
_KEPT = ("Node Type", "Strategy", "Partial Mode", "Join Type", "Parent Relationship", "Scan Direction", "Operation",
         "Relation Name", "Schema", "Index Name", "CTE Name", "Function Name", "Subplan Name", "Sort Key", "Group Key",
         "Presorted Key")  # fmt: skip
_CONDITIONS = ("Index Cond", "Recheck Cond", "Filter", "Hash Cond", "Merge Cond", "Join Filter", "TID Cond", "Cache Key")
_IMPLIED = {"=", "<>", "<", "<=", ">", ">=", "~~"}  # operators that stand in no A_Expr: USING, BETWEEN, IN, CASE x WHEN
_CONSTANT = re.compile(r"'(?:[^']|'')*'|\$\d+|\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b", re.IGNORECASE)


def shape(plan: Mapping[str, Any]) -> str:
    """The fingerprint of a plan tree (the value of "Plan" in EXPLAIN (FORMAT JSON))."""
    text = json.dumps(_node(plan), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _node(plan: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: plan[key] for key in _KEPT if key in plan}
    kept |= {key: _CONSTANT.sub("?", str(plan[key])) for key in _CONDITIONS if key in plan}
    return kept | {"Plans": [_node(child) for child in plan.get("Plans", ())]}


async def read_shapes(target: Target, settings: Settings, plan: Plan, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """`plans` by queryid, as `compare` wants them; `why` tells what kept all of them from being read. Never raises for what
    the server refuses: then nothing is known of plans, and the verdict says so."""
    heavy: dict[str, Mapping[str, Any]] = {}
    for row in sorted((r for r in rows if r["queryid"] is not None), key=lambda r: -float(r["total_exec_time"])):
        heavy.setdefault(str(row["queryid"]), row)
    try:
        async with planning_session(target, settings) as planner:
            path = list(dict.fromkeys([*await login_path(planner), plan.schema]))
            plans = await _all(planner, list(heavy.items())[:MAX_STATEMENTS], path)
        return {"plans": plans, "why": ""}  # only now it is known that nothing was changed by the way
    except IndexPilotError as exc:
        return {"plans": {}, "why": clean_line(exc.message, 200)}


async def _all(monitor: Session, heavy: list[tuple[str, Mapping[str, Any]]], path: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    end = time.monotonic() + BUDGET_S
    for queryid, row in heavy:
        if time.monotonic() > end:
            found[queryid] = {"why": f"planning took longer than {BUDGET_S:g} s in all"}
            continue
        if row.get("kind") != "select":
            found[queryid] = {"why": "it writes: what an index costs it does not stand in its plan"}
            continue
        found[queryid] = await _one(monitor, str(row["query"]), path)
    return found


async def _one(monitor: Session, text: str, path: list[str]) -> dict[str, Any]:
    """Fingerprints of one statement by the point that was planned, and how many parameters it has."""
    from indexpilot_tui.engine.whatif.model import Statement
    from indexpilot_tui.engine.whatif.statements import parameter_numbers, parse, substituted

    parsed = parse(Statement("", text, 1.0))
    if parsed.refused:
        return {"why": parsed.refused}
    try:
        others = await _code_of_others(monitor, parsed, path)
        if others:
            return {"why": f"planning it on the target could run code of others ({others})"}
        tree = await qualified(monitor, parsed.tree, path)
        shapes = {GENERIC: shape(await explain(monitor, substituted(tree, {}), generic=parsed.parameters > 0))}
    except PrivilegeError:
        return {"why": HIDDEN}
    except IndexPilotError as exc:
        if monitor.closed:
            raise
        return {"why": clean_line(exc.message, 160)}
    if parsed.parameters:
        for values in await _points(monitor, parsed, path):
            try:
                generic = len(values) < len(parameter_numbers(tree))
                shapes[_digest(values)] = shape(await explain(monitor, substituted(tree, values), generic=generic))
            except IndexPilotError:
                if monitor.closed:
                    raise
    return {"shapes": shapes, "parameters": parsed.parameters}


async def _code_of_others(monitor: Session, parsed: Parsed, path: list[str]) -> str:
    """What planning the statement could run or unfold that is not the server's own, by every name in it; empty when there
    is nothing. A column may be a function of the row, so names of columns count, too."""
    import postgast
    from postgast import pg_query_pb2 as pb

    def names(kind: type, field: str) -> list[tuple[str, ...]]:
        return [tuple(n.string.sval for n in getattr(e, field)) for e in postgast.find_nodes(parsed.tree, kind)]

    functions, columns = names(pb.FuncCall, "funcname"), names(pb.ColumnRef, "fields")
    operators, types = names(pb.A_Expr, "name"), names(pb.TypeName, "names")
    schemas = {name[0] for name in (*functions, *operators, *types) if len(name) > 1} | {s for s, _ in parsed.tables if s}
    params = {
        "functions": sorted({name[-1] for name in (*functions, *columns) if name}),
        "operators": sorted({name[-1] for name in operators if name} | _IMPLIED),
        "types": sorted({name[-1] for name in types if name}),
        "relations": sorted(name for _, name in parsed.tables),
        "schemas": sorted({*path, *schemas}),
    }
    row = await monitor.row(question("code_of_others", monitor), params)
    return clean_line(str(row["what"]), 100) if row is not None else ""


def _digest(values: Mapping[int, str]) -> str:
    """Names a point without telling its values."""
    return hashlib.sha256(json.dumps(sorted(values.items())).encode()).hexdigest()[:12]


async def _points(monitor: Session, parsed: Parsed, path: list[str]) -> list[dict[int, str]]:
    """Values for the parameters that are compared with columns: the commonest, the rarest, a middle one."""
    from indexpilot_tui.engine.whatif.points import compared

    names = [name for _, name in parsed.tables]
    rows = await monitor.rows(question("stats_points", monitor), {"tables": names, "schemas": path})
    columns = {str(row["column"]): row for row in rows}
    points: list[dict[int, str]] = []
    for kind, other in (("common", "middle"), ("rare", "middle"), ("middle", "common")):
        values = {}
        for column, _, number in compared(parsed.tree):
            row = columns.get(column, {})
            value = next((row[name] for name in (kind, other) if row.get(name) is not None), None)  # '' is a value
            if value is not None:
                values[number] = str(value)
        if values and values not in points:
            points.append(values)
    return points


async def plans_of(target: Target, settings: Settings, text: str) -> tuple[tuple[tuple[str, dict[str, Any]], ...], str]:
    """As `read_plans`, on a session made for planning; none, and why, where no login is there that may only read."""
    try:
        async with planning_session(target, settings) as planner:
            found = await read_plans(planner, text)
    except PrivilegeError as exc:
        return (), clean_line(f"{exc.message}; {exc.remedy}", 300)
    return found


async def read_plans(monitor: Session, text: str) -> tuple[tuple[tuple[str, dict[str, Any]], ...], str]:
    """The plans of one statement now, on a session of its own: (what was planned, plan) for the generic plan and for values
    of its parameters; and why there are none, or no more. EXPLAIN alone, so nothing of it is executed.

    Raises what `monitor` raises when it is lost.
    """
    from indexpilot_tui.engine.whatif.model import Statement
    from indexpilot_tui.engine.whatif.statements import parameter_numbers, parse, substituted

    parsed = parse(Statement("", text, 1.0))
    if parsed.refused:
        return (), parsed.refused
    if parsed.kind != "select":
        return (), "only statements that read are planned on the target"
    path = await login_path(monitor)
    found: list[tuple[str, dict[str, Any]]] = []
    try:
        others = await _code_of_others(monitor, parsed, path)
        if others:
            return (), f"planning it on the target could run code of others ({others})"
        whole = "generic plan: for any values" if parsed.parameters else "its plan"
        tree = await qualified(monitor, parsed.tree, path)
        found.append((whole, await explain(monitor, substituted(tree, {}), generic=parsed.parameters > 0)))
        for values in await _points(monitor, parsed, path) if parsed.parameters else ():
            generic = len(values) < len(parameter_numbers(tree))
            plan = await explain(monitor, substituted(tree, values), generic=generic)
            shown = ", ".join(f"${number} = {clean_line(value, 40)}" for number, value in sorted(values.items()))
            found.append((shown, plan))
    except IndexPilotError as exc:
        if monitor.closed:
            raise
        why = HIDDEN if isinstance(exc, PrivilegeError) else clean_line(exc.message, 200)
        return tuple(found), why
    return tuple(found), ""


def compare(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> tuple[str, str]:
    """Whether a statement's plan changed, and why that is not known where it is not. A statement with parameters has kept
    its plan only if that held at some of their values, too."""
    if before is None or after is None:
        return NOT_COMPARED, "its plan was not read"
    for side in (before, after):
        if "shapes" not in side:
            return NOT_COMPARED, str(side.get("why", ""))
    common = before["shapes"].keys() & after["shapes"].keys()
    if any(before["shapes"][key] != after["shapes"][key] for key in common):
        return CHANGED, ""
    if not common or (before["parameters"] and common == {GENERIC}):
        return NOT_COMPARED, "its generic plan is the same; that of its parameters' values is not known"
    return UNCHANGED, ""


def hidden(stats: Mapping[str, PhaseStats]) -> bool:
    """Whether the plans of no statement could be read, for want of rights or of a login to plan as."""
    if any(str(stats[phase].context.get("plans_why", "")).startswith(NO_PLANNER) for phase in ("start", "observed")
           if phase in stats):  # fmt: skip
        return True
    sides = [stats[phase].context.get("plans", {}) for phase in ("start", "observed") if phase in stats]
    found = [plan for side in sides for plan in side.values()]
    return bool(found) and not any("shapes" in plan for plan in found) and any(p.get("why") == HIDDEN for p in found)

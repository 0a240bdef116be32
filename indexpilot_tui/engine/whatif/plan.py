"""Planning on the shadow: EXPLAIN without execution, at the generic plan and at chosen constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif import restore
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.functions import STANDS_IN, as_parameters
from indexpilot_tui.engine.whatif.statements import Parsed, numbered, parameter_numbers

Plan = dict[str, Any]  # the value of "Plan" in EXPLAIN (FORMAT JSON)
# SQLSTATEs that a parameter without a type can cause
_UNTYPED = {"42725", "42883", "42P18", "42804", "42846"}
_GUESSES = ("interval", "int4", "numeric", "text")
_SECOND_GUESSES = ("int4", "timestamptz", "text")
_MAX_GUESSES = 16
GENERIC_PLAN = 160000  # EXPLAIN (GENERIC_PLAN)


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, or the reason (cleaned) why there is none. `text` is what was planned in the end, `note` (cleaned) what was
    changed for it."""

    plan: Plan | None
    reason: str = ""
    text: str = ""
    note: str = ""

    @property
    def cost(self) -> float:
        return float(self.plan["Total Cost"]) if self.plan else 0.0


def nodes(plan: Plan) -> Iterator[Plan]:
    """A plan tree's nodes, the root first."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def indexes_used(plan: Plan) -> set[str]:
    return {str(n["Index Name"]) for n in nodes(plan) if "Index Name" in n}


def skips_leading(plan: Plan, leading: Mapping[str, str]) -> set[str]:
    """Multi-column B-trees (name -> first column) that a plan searches without a condition on their first column: from 18
    on such a search can skip (and is priced so), before it reads the whole index."""
    found: set[str] = set()
    for node in nodes(plan):
        first = leading.get(str(node.get("Index Name", "")))
        condition = str(node.get("Index Cond", ""))
        if first is not None and condition and first not in condition:
            found.add(str(node["Index Name"]))
    return found


async def set_path(shadow: ShadowDatabase, path: tuple[str, ...]) -> None:
    """Where the next statements look for names that have no schema; sent only when it changes. What is PostgreSQL's own
    comes first, and of the schemas that somebody outside named only those that hold something here."""
    if shadow.search_path != path:
        known = {*restore.schemas(shadow.snapshot), *(s for _, s in shadow.snapshot.server.extensions), "public"}
        names = ["pg_catalog", *(p for p in path if p in known and p != "pg_catalog")]
        value = sql.SQL(", ").join(sql.Identifier(p) for p in names)
        await shadow.plain.execute(sql.SQL("set search_path = {}").format(value))
        shadow.search_path = path


async def explain_text(shadow: ShadowDatabase, text: str, *, generic: bool) -> Plan:
    """One EXPLAIN, as the role without powers. Raises psycopg.Error.

    GENERIC_PLAN works in the simple protocol only, which would take several statements; but a text with parameters was
    written by the deparser, so it is one.
    """
    if generic and shadow.cluster.version < GENERIC_PLAN:
        return await _explain_prepared(shadow, text)
    if generic:
        cursor = await shadow.plain.execute(f"explain (generic_plan, format json) {text}".encode())
    else:
        cursor = await shadow.plain.execute(f"explain (format json) {text}".encode(), binary=True)
    row = await cursor.fetchone()
    if row is None:
        raise psycopg.DataError("EXPLAIN gave no row")
    plan: Plan = row[0][0]["Plan"]
    return plan


async def _explain_prepared(shadow: ShadowDatabase, text: str) -> Plan:
    """The generic plan where EXPLAIN has no option for it: a prepared statement whose parameters do not matter."""
    await shadow.plain.execute(b"set plan_cache_mode = force_generic_plan")
    await shadow.plain.execute(f"prepare indexpilot_generic as {text}".encode(), binary=True)
    try:
        cursor = await shadow.plain.execute(
            "select cardinality(parameter_types) from pg_catalog.pg_prepared_statements where name = 'indexpilot_generic'"
        )
        row = await cursor.fetchone()
        nulls = ", ".join(["null"] * (row[0] if row else 0))
        cursor = await shadow.plain.execute(
            f"explain (format json) execute indexpilot_generic{f'({nulls})' if nulls else ''}".encode()
        )
        found = await cursor.fetchone()
    finally:
        await shadow.plain.execute(b"deallocate indexpilot_generic")
    if found is None:
        raise psycopg.DataError("EXPLAIN gave no row")
    plan: Plan = found[0][0]["Plan"]
    return plan


async def explain(shadow: ShadowDatabase, parsed: Parsed) -> Planned:
    """The plan of one statement; parameters that the server cannot type are given a type by trial. Never raises for what
    is the statement's own fault."""
    try:
        return Planned(await explain_text(shadow, parsed.sql, generic=parsed.parameters > 0), "", parsed.sql)
    except psycopg.Error as exc:
        if shadow.plain.closed:
            raise
        first = exc
    if first.sqlstate == STANDS_IN:
        found = await _without_calls(shadow, parsed)
        if found is not None:
            return found
    if parsed.parameters and first.sqlstate in _UNTYPED:
        found = await _guessed(shadow, parsed, first)
        if found is not None:
            return found
    return Planned(None, clean_line(first.diag.message_primary or str(first), 200))


async def _without_calls(shadow: ShadowDatabase, parsed: Parsed) -> Planned | None:
    """Functions of the target whose results planning wants, as parameters: their values are not known here."""
    text, names = as_parameters(parsed.tree, shadow.snapshot, shadow.stand_ins)
    if not names:
        return None
    try:
        plan = await explain_text(shadow, text, generic=True)
    except psycopg.Error:
        if shadow.plain.closed:
            raise
        return None
    shown = clean_line(", ".join(names[:5]), 200)
    return Planned(plan, "", text, f"the result of {shown} is not known here, it is planned as a parameter")


async def _guessed(shadow: ShadowDatabase, parsed: Parsed, first: psycopg.Error) -> Planned | None:
    """Types for parameters: for each one alone, then one after the other, keeping what at least changes the complaint."""
    parameters = parameter_numbers(parsed.tree)
    for number, type_name in [(n, t) for n in parameters for t in _GUESSES][:_MAX_GUESSES]:
        found = await _with_types(shadow, parsed, {number: type_name})
        if isinstance(found, Planned):
            return found
    casts: dict[int, str] = {}
    complaint = _complaint(first)
    for number, type_name in [(n, t) for n in parameters for t in _SECOND_GUESSES][:_MAX_GUESSES]:
        if number in casts:
            continue
        found = await _with_types(shadow, parsed, {**casts, number: type_name})
        if isinstance(found, Planned):
            return found
        if found.sqlstate in _UNTYPED and _complaint(found) != complaint:
            casts[number], complaint = type_name, _complaint(found)
    return None


async def _with_types(shadow: ShadowDatabase, parsed: Parsed, casts: dict[int, str]) -> Planned | psycopg.Error:
    text = numbered(parsed.tree, casts)
    try:
        return Planned(await explain_text(shadow, text, generic=True), "", text)
    except psycopg.Error as exc:
        if shadow.plain.closed:
            raise
        return exc


def _complaint(exc: psycopg.Error) -> str:
    return exc.diag.message_primary or str(exc)


def path_of(shadow: ShadowDatabase, parsed: Parsed) -> tuple[str, ...]:
    """The search_path to plan a statement under: the target's, then where its unqualified names were found."""
    snapshot = shadow.snapshot
    found = [snapshot.resolved.get(n) for n in parsed.tables if not n[0]]
    extra = [snapshot.relations[o].schema for o in found if o in snapshot.relations]
    return tuple(dict.fromkeys([*snapshot.server.search_path, *extra]))


async def _plan(shadow: ShadowDatabase, parsed: Parsed) -> Planned:
    snapshot = shadow.snapshot
    for name in parsed.tables:
        oid = snapshot.resolved.get(name)
        shown = clean_line(".".join(x for x in name if x))
        if oid is None:
            return Planned(None, f"relation {shown} is not on the target, or more than one outside the search_path")
        relation = snapshot.relations.get(oid)
        if relation is None:
            return Planned(None, f"{shown} is a system catalog, which the shadow does not mirror")
        if relation.kind == "f":
            return Planned(None, f"{shown} is a foreign table")
        if oid not in shadow.oids:
            return Planned(None, f"{shown} could not be taken over into the shadow")
    await set_path(shadow, path_of(shadow, parsed))
    return await explain(shadow, parsed)


async def plans_before(shadow: ShadowDatabase, parsed: Sequence[Parsed]) -> dict[str, Planned]:
    """Plans of the target as it is; remembered until something of it changes."""
    found: dict[str, Planned] = {}
    for p in parsed:
        if p.refused:
            found[p.statement.key] = Planned(None, p.refused)
            continue
        known = shadow.plans.get(p.sql)
        if known is None:
            known = shadow.plans[p.sql] = await _plan(shadow, p)
        found[p.statement.key] = known
    return found


async def plans_after(
    shadow: ShadowDatabase, parsed: Sequence[Parsed], before: dict[str, Planned], touching: set[str]
) -> dict[str, Planned]:
    """Plans after the change, of the statements that it can matter to."""
    return {
        p.statement.key: await _plan(shadow, p)
        for p in parsed
        if p.statement.key in touching and before[p.statement.key].plan is not None
    }

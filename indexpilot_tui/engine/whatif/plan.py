"""Planning on the shadow: EXPLAIN without execution, at the generic plan and at chosen constants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.statements import Parsed, numbered, parameter_numbers

Plan = dict[str, Any]  # the value of "Plan" in EXPLAIN (FORMAT JSON)
# SQLSTATEs that a parameter without a type can cause
_UNTYPED = {"42725", "42883", "42P18", "42804", "42846"}
_GUESSES = ("interval", "int4", "numeric", "text")
_MAX_GUESSES = 12


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, or the reason (cleaned) why there is none. `text` is what was planned in the end."""

    plan: Plan | None
    reason: str = ""
    text: str = ""

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


async def set_path(shadow: ShadowDatabase, path: tuple[str, ...]) -> None:
    """The search_path of the next statements; sent only when it changes."""
    if shadow.search_path != path:
        value = sql.SQL(", ").join(sql.Identifier(p) for p in path) if path else sql.SQL("''")
        await shadow.plain.execute(sql.SQL("set search_path = {}").format(value))
        shadow.search_path = path


async def explain_text(shadow: ShadowDatabase, text: str, *, generic: bool) -> Plan:
    """One EXPLAIN, as the role without powers. Raises psycopg.Error.

    GENERIC_PLAN works in the simple protocol only, which would take several statements; but a text with parameters was
    written by the deparser, so it is one.
    """
    if generic:
        cursor = await shadow.plain.execute(f"explain (generic_plan, format json) {text}".encode())
    else:
        cursor = await shadow.plain.execute(f"explain (format json) {text}".encode(), binary=True)
    row = await cursor.fetchone()
    if row is None:
        raise psycopg.DataError("EXPLAIN gave no row")
    plan: Plan = row[0][0]["Plan"]
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
    if parsed.parameters and first.sqlstate in _UNTYPED:
        tries = 0
        for number in parameter_numbers(parsed.tree):
            for type_name in _GUESSES:
                tries += 1
                if tries > _MAX_GUESSES:
                    break
                text = numbered(parsed.tree, number, type_name)
                try:
                    return Planned(await explain_text(shadow, text, generic=True), "", text)
                except psycopg.Error:
                    continue  # not that type: the next guess
    return Planned(None, clean_line(first.diag.message_primary or str(first), 200))

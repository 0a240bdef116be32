"""From statements to what is priced: each at its own text, at a rare value where a column is skewed, and with what the
server does behind its back (foreign keys)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.advise.candidate import quote
from indexpilot_tui.engine.whatif.advise.pricing import Unit
from indexpilot_tui.engine.whatif.advise.scope import Use
from indexpilot_tui.engine.whatif.advise.uses import uses_of
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.plan import Planned, path_of, plans_before
from indexpilot_tui.engine.whatif.points import array_items, compared
from indexpilot_tui.engine.whatif.shape import numbers
from indexpilot_tui.engine.whatif.snapshot import Snapshot
from indexpilot_tui.engine.whatif.statements import Parsed, parameter_numbers, parse, substituted

SKEWED = 0.5  # a column is skewed when one value has more of the rows than this ...
RARE = 0.1  # ... and another, common enough to be in the statistics, less than this


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key of `child` to `parent` (OIDs); `columns` of the child, in the key's order."""

    parent: int
    child: int
    schema: str
    name: str
    constraint: str
    columns: tuple[str, ...]
    parent_columns: tuple[str, ...]


def _rare(snapshot: Snapshot, parsed: Parsed) -> dict[int, tuple[str, str]]:
    """Parameter -> (column, rare value), for parameters that are compared with a skewed column."""
    relations = [snapshot.relations[o] for n in parsed.tables if (o := snapshot.resolved.get(n)) in snapshot.relations]
    found: dict[int, tuple[str, str]] = {}
    for column, operator, number in compared(parsed.tree):
        if operator != "=":
            continue
        stats = next((s for r in relations if (s := snapshot.column_stats(r, column)) is not None), None)
        values, shares = (array_items(stats.mcv), numbers(stats.mcf)) if stats is not None else ([], ())
        if len(values) != len(shares) or not values or max(shares) < SKEWED:
            continue
        rare = min(range(len(values)), key=lambda i: (shares[i], values[i]))
        if shares[rare] < RARE:
            found[number] = (column, values[rare])
    return found


def _at_rare(snapshot: Snapshot, parsed: Parsed, text: str) -> Parsed | None:
    """The statement with the rare values in place of their parameters; None when no column is skewed."""

    if not parsed.parameters or text != parsed.sql:
        return None
    rare = _rare(snapshot, parsed)
    if not rare:
        return None
    text = substituted(parsed.tree, {n: v for n, (_, v) in rare.items()})
    tree = parsing.parse(text)
    return replace(parsed, sql=text, parameters=len(parameter_numbers(tree)), tree=tree)


def _unit(shadow: ShadowDatabase, p: Parsed, planned: Planned, weight: float, label: str, uses: list[Use]) -> Unit:
    text = planned.text or p.sql
    plan = planned.plan or {}
    return Unit(p.statement.key, label, text, p.parameters > 0, path_of(shadow, p), weight, uses, plan, planned.cost)


async def units_of(
    shadow: ShadowDatabase, parsed: Sequence[Parsed], planned: Mapping[str, Planned], references: Sequence[Reference]
) -> list[Unit]:
    """What to price for every statement that has a plan. Weights of one statement's texts add up to its calls; foreign
    keys come on top."""
    snapshot = shadow.snapshot
    found: list[Unit] = []
    for p in parsed:
        plan = planned[p.statement.key]
        if plan.plan is None:
            continue
        uses = uses_of(p.tree, snapshot)
        rare = _at_rare(snapshot, p, plan.text)
        priced = (await plans_before(shadow, [rare]))[p.statement.key] if rare is not None else Planned(None)
        calls = p.statement.calls
        if rare is not None and priced.plan is not None:
            found.append(_unit(shadow, p, plan, calls / 2, "", uses))
            at_rare = uses_of(rare.tree, snapshot)
            for use in at_rare:
                use.predicates.clear()  # the value is out of the statistics; which one is asked for is not known
            found.append(_unit(shadow, rare, priced, calls / 2, "at a rare value", at_rare))
        else:
            found.append(_unit(shadow, p, plan, calls, "", uses))
        for reference in references:
            if _fires(p, reference, snapshot):
                found += await _lookup(shadow, p, plan, reference)
    return found


def _fires(parsed: Parsed, reference: Reference, snapshot: Snapshot) -> bool:
    if parsed.target is None or snapshot.resolved.get(parsed.target) != reference.parent:
        return False
    return parsed.kind == "delete" or (parsed.kind == "update" and bool(set(parsed.writes) & set(reference.parent_columns)))


async def _lookup(shadow: ShadowDatabase, parsed: Parsed, planned: Planned, reference: Reference) -> list[Unit]:
    """The lookup in the referencing table, once for each row: what ri_triggers.c runs, which EXPLAIN does not show."""
    from indexpilot_tui.engine.whatif.advise.writes import written_rows

    where = " AND ".join(f"{quote(c)} = ${n}" for n, c in enumerate(reference.columns, 1))
    text = f"SELECT 1 FROM ONLY {quote(reference.schema, reference.name)} x WHERE {where}"  # noqa: S608 - quoted
    made = parse(Statement(parsed.statement.key, text, parsed.statement.calls))
    names: dict[tuple[str, str], Any] = {(reference.schema, reference.name): reference.child}
    shadow.snapshot.resolved.update({n: o for n, o in names.items() if n not in shadow.snapshot.resolved})
    found = (await plans_before(shadow, [made]))[parsed.statement.key]
    if found.plan is None or planned.plan is None:
        return []
    rows = written_rows(planned.plan)
    label = clean_line(f"foreign key {reference.constraint} of {reference.schema}.{reference.name}")
    return [_unit(shadow, made, found, parsed.statement.calls * rows, label, uses_of(made.tree, shadow.snapshot))]

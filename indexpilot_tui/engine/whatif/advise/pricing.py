"""Prices of statements under sets of candidates: each a real EXPLAIN on the shadow, asked as seldom as possible.

A plan that was found while the planner saw the set V and that uses only U is its choice for every set between U and V:
the answer is known without asking. The same holds for the bound that the search uses: with U in place, the cost is at most
this.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import psycopg

from indexpilot_tui.engine.whatif.advise.pool import Pool
from indexpilot_tui.engine.whatif.advise.scope import Use
from indexpilot_tui.engine.whatif.change import SKIP_SCAN_VERSION
from indexpilot_tui.engine.whatif.plan import Plan, explain_text, indexes_used, set_path, skips_leading


@dataclass(slots=True)
class Unit:
    """A text to plan, a part of a statement's price: `weight` is calls x share. `uses` say which candidates can matter;
    `base` is its cost as the target is; `writes` rows it writes a call."""

    statement: str  # key
    label: str
    text: str
    generic: bool
    path: tuple[str, ...]
    weight: float
    uses: list[Use]
    plan: Plan
    base: float
    relevant: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Atom:
    """Under any set that holds `used`, the unit costs at most `cost`."""

    used: frozenset[int]
    cost: float


class Prices:
    """Costs of units under sets of candidate numbers; keeps every answer."""

    def __init__(self, pool: Pool, units: Sequence[Unit], target_version: int) -> None:
        self.pool, self.units = pool, list(units)
        self.explains = 0
        self.atoms: list[dict[frozenset[int], float]] = [{frozenset(): u.base} for u in units]
        self._answers: list[list[tuple[frozenset[int], frozenset[int], float]]] = [[] for _ in units]
        self._exact: list[dict[frozenset[int], float]] = [{frozenset(): u.base} for u in units]
        # the shadow's planner can skip-scan and the target's cannot
        self._skips = target_version < SKIP_SCAN_VERSION <= pool.shadow.cluster.version

    def relate(self, numbers: Collection[int]) -> None:
        """Find out which units new candidates can matter to."""
        for number in numbers:
            candidate = self.pool.entries[number].candidate
            for unit in self.units:
                if any(_matters(use, number, self.pool) for use in unit.uses if _reaches(use, candidate.table)):
                    unit.relevant.add(number)

    async def cost(self, position: int, config: Collection[int]) -> float:
        """The cost of one unit with these candidates in place."""
        unit = self.units[position]
        wanted = frozenset(config) & unit.relevant
        known = self._exact[position].get(wanted)
        if known is not None:
            return known
        for used, seen, cost in self._answers[position]:
            if used <= wanted <= seen:
                self._exact[position][wanted] = cost
                return cost
        used, cost = await self._ask(unit, wanted)
        self._answers[position].append((used, wanted, cost))
        self._exact[position][wanted] = cost
        if cost < self.atoms[position].get(used, float("inf")):
            self.atoms[position][used] = cost
        return cost

    async def choice(self, position: int, config: Collection[int]) -> tuple[frozenset[int], float]:
        """The candidates that the planner takes among these, and the cost."""
        cost = await self.cost(position, config)
        wanted = frozenset(config) & self.units[position].relevant
        for used, seen, known in self._answers[position]:
            if used <= wanted <= seen and known == cost:
                return used, cost
        return frozenset(), cost

    async def used(self, position: int, config: Collection[int]) -> tuple[frozenset[int], Plan]:
        """The candidates that the plan under a set uses, and the plan."""
        unit = self.units[position]
        await self.pool.show(frozenset(config) & unit.relevant)
        plan = await self._explain(unit)
        return self._used(plan), plan

    async def _explain(self, unit: Unit) -> Plan:
        await set_path(self.pool.shadow, unit.path)
        self.explains += 1
        return await explain_text(self.pool.shadow, unit.text, generic=unit.generic)

    def _used(self, plan: Plan) -> frozenset[int]:
        return frozenset(self.pool.by_name[n] for n in indexes_used(plan) if n in self.pool.by_name)

    async def _ask(self, unit: Unit, wanted: frozenset[int]) -> tuple[frozenset[int], float]:
        """One EXPLAIN; a plan that the target's older planner could not price so is asked again without its index."""
        seen = wanted
        while True:
            await self.pool.show(seen)
            try:
                plan = await self._explain(unit)
            except psycopg.OperationalError:
                raise
            except psycopg.Error:
                return frozenset(), unit.base  # e.g. an expression that fails while planning: no help from this set
            used = self._used(plan)
            skipping = self._skipping(plan, used)
            if not skipping:
                return used, float(plan["Total Cost"])
            seen = seen - skipping

    def _skipping(self, plan: Plan, used: frozenset[int]) -> frozenset[int]:
        if not self._skips:
            return frozenset()
        leading = {
            name: self.pool.entries[n].candidate.keys[0].strip('"')
            for n in used
            if len(self.pool.entries[n].candidate.keys) > 1 and self.pool.entries[n].candidate.method == "btree"
            for name in self.pool.entries[n].names
        }
        return frozenset(self.pool.by_name[n] for n in skips_leading(plan, leading)) if leading else frozenset()

    def total(self, costs: Sequence[float]) -> float:
        return sum(u.weight * c for u, c in zip(self.units, costs, strict=True))

    async def exact(self, config: Collection[int]) -> list[float]:
        """The cost of every unit with these candidates in place."""
        return [await self.cost(p, config) for p in range(len(self.units))]


def _reaches(use: Use, table: int) -> bool:
    return use.table.oid == table or table in use.table.parents


def _matters(use: Use, number: int, pool: Pool) -> bool:
    """Whether a plan of this use could take the index: by its first key, or because it holds all that is wanted."""
    candidate = pool.entries[number].candidate
    if candidate.predicate and not all(part in use.predicates for part in candidate.parts):
        return False
    if candidate.keys[0] in use.leading():
        return True
    return candidate.method == "btree" and not use.whole and set(use.columns) <= candidate.columns

"""Prices of statements under sets of candidates: each a real EXPLAIN on the shadow, asked as seldom as possible.

A plan that was found while the planner saw the set V and that uses only U is its choice for every set between U and V:
the answer is known without asking. The same holds for the bound that the search uses: with U in place, the cost is at most
this.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field
from math import inf

import psycopg

from indexpilot_tui.engine.whatif.advise.masks import mask_of, numbers_of
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


# What an EXPLAIN said: the candidates that the plan uses, its cost, and how many EXPLAINs it took.
Said = tuple[int, float, int]


class Prices:
    """Costs of units under sets of candidates (bit masks); keeps every answer.

    What the planner said is kept for good (`_said`, shared by forks); what is known of it is of one search alone, so that
    an advice does not depend on what was asked before. `explains` counts the questions of this search, asked or remembered.
    """

    def __init__(self, pool: Pool, units: Sequence[Unit], target_version: int) -> None:
        self.pool, self.units = pool, list(units)
        self.explains = 0
        self.asked = 0  # EXPLAINs that were really sent
        self.atoms: list[dict[int, float]] = [{0: u.base} for u in units]
        self.relevant = [mask_of(u.relevant) for u in units]
        self.affected: dict[int, list[int]] = {}  # units that a candidate can matter to
        self._answers: list[list[tuple[int, int, float]]] = [[] for _ in units]
        self._exact: list[dict[int, float]] = [{0: u.base} for u in units]
        self._said: list[dict[int, Said]] = [{} for _ in units]
        # the shadow's planner can skip-scan and the target's cannot
        self._skips = target_version < SKIP_SCAN_VERSION <= pool.shadow.cluster.version

    def fork(self) -> Prices:
        """The same knowledge, to go on from without changing this one."""
        made = copy(self)
        made.asked = 0
        made.atoms = [dict(a) for a in self.atoms]
        made._answers = [list(a) for a in self._answers]
        made._exact = [dict(e) for e in self._exact]
        return made

    def relate(self, numbers: Collection[int]) -> None:
        """Find out which units new candidates can matter to."""
        for number in numbers:
            candidate = self.pool.entries[number].candidate
            for position, unit in enumerate(self.units):
                if any(_matters(use, number, self.pool) for use in unit.uses if _reaches(use, candidate.table)):
                    unit.relevant.add(number)
                    self.relevant[position] |= 1 << number
                    self.affected.setdefault(number, []).append(position)

    async def cost(self, position: int, config: int) -> float:
        """The cost of one unit with these candidates in place."""
        wanted = config & self.relevant[position]
        known = self._exact[position].get(wanted)
        if known is None:
            _, known = await self.choice(position, wanted)
        return known

    async def choice(self, position: int, config: int) -> tuple[int, float]:
        """The candidates that the planner takes among these, and the cost."""
        wanted = config & self.relevant[position]
        out = ~wanted
        for used, seen, cost in self._answers[position]:
            if not used & out and not wanted & ~seen:
                self._exact[position][wanted] = cost
                return used, cost
        said = self._said[position].get(wanted)
        if said is None:
            said = self._said[position][wanted] = await self._ask(self.units[position], wanted)
        used, cost, asked = said
        self.explains += asked
        self._answers[position].append((used, wanted, cost))
        self._exact[position][wanted] = cost
        if cost < self.atoms[position].get(used, inf):
            self.atoms[position][used] = cost
        return used, cost

    def least(self, position: int, config: int) -> float:
        """What is known without asking: the unit costs at least this under a set."""
        wanted = config & self.relevant[position]
        known = self._exact[position].get(wanted)
        if known is not None:
            return known
        return max((c for _, seen, c in self._answers[position] if not wanted & ~seen), default=0.0)

    async def _explain(self, unit: Unit) -> Plan:
        await set_path(self.pool.shadow, unit.path)
        self.asked += 1
        return await explain_text(self.pool.shadow, unit.text, generic=unit.generic)

    def _used(self, plan: Plan) -> int:
        return mask_of({self.pool.by_name[n] for n in indexes_used(plan) if n in self.pool.by_name})

    async def _ask(self, unit: Unit, wanted: int) -> Said:
        """One EXPLAIN; a plan that the target's older planner could not price so is asked again without its index."""
        seen, asked = wanted, 0
        while True:
            await self.pool.show(numbers_of(seen))
            asked += 1
            try:
                plan = await self._explain(unit)
            except psycopg.OperationalError:
                raise
            except psycopg.Error:
                return 0, unit.base, asked  # e.g. an expression that fails while planning: no help from this set
            used = self._used(plan)
            skipping = self._skipping(plan, used)
            if not skipping:
                return used, float(plan["Total Cost"]), asked
            seen &= ~skipping

    def _skipping(self, plan: Plan, used: int) -> int:
        if not self._skips:
            return 0
        leading = {
            name: self.pool.entries[n].candidate.keys[0].strip('"')
            for n in numbers_of(used)
            if len(self.pool.entries[n].candidate.keys) > 1 and self.pool.entries[n].candidate.method == "btree"
            for name in self.pool.entries[n].names
        }
        return mask_of({self.pool.by_name[n] for n in skips_leading(plan, leading)}) if leading else 0

    def total(self, costs: Sequence[float]) -> float:
        return sum(u.weight * c for u, c in zip(self.units, costs, strict=True))

    async def exact(self, config: int | Iterable[int]) -> list[float]:
        """The cost of every unit with these candidates (a mask, or numbers) in place."""
        mask = config if isinstance(config, int) else mask_of(config)
        return [await self.cost(p, mask) for p in range(len(self.units))]


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

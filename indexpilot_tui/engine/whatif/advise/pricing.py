"""Prices of statements under sets of candidates: each a real EXPLAIN on the shadow, asked as seldom as possible.

A plan that was found while the planner saw the set V and that uses only U is its choice for every set between U and V:
the answer is known without asking. The same holds for the bound that the search uses: with U in place, the cost is at most
this.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf

import psycopg

from indexpilot_tui.engine.whatif.advise.candidate import Candidate
from indexpilot_tui.engine.whatif.advise.masks import mask_of, numbers_of
from indexpilot_tui.engine.whatif.advise.planners import Planners, Question
from indexpilot_tui.engine.whatif.advise.pool import Pool
from indexpilot_tui.engine.whatif.advise.scope import Use
from indexpilot_tui.engine.whatif.change import SKIP_SCAN_VERSION
from indexpilot_tui.engine.whatif.plan import Plan, indexes_used, skips_leading


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


@dataclass(slots=True)
class Memory:
    """What the planner said on one state of the shadow, for further advices on it. Masks count by the position in
    `candidates`, so it holds as far as the same candidates come in the same order again, sized by the same model."""

    size_of: object = None
    candidates: list[Candidate] = field(default_factory=list)
    said: dict[Question, dict[int, Said]] = field(default_factory=dict)

    def meet(self, number: int, candidate: Candidate) -> None:
        """A candidate got this number; what was said of another one is forgotten."""
        if number < len(self.candidates) and self.candidates[number] != candidate:
            del self.candidates[number:]
            for answers in self.said.values():
                for mask in [m for m in answers if m >> number]:
                    del answers[mask]
        if number == len(self.candidates):
            self.candidates.append(candidate)


class Prices:
    """Costs of units under sets of candidates (bit masks); keeps every answer.

    What the planner said is kept for good in `memory`; what is known of it is of one search alone, so that an advice does
    not depend on what was asked before. `explains` counts the questions of this search, asked or remembered.
    """

    def __init__(
        self, pool: Pool, units: Sequence[Unit], target_version: int, planners: Planners, memory: Memory | None = None
    ) -> None:
        self.pool, self.units, self.planners = pool, list(units), planners
        self.memory = memory or Memory()
        self.explains = 0
        self.atoms: list[dict[int, float]] = [{0: u.base} for u in units]
        self.relevant = [mask_of(u.relevant) for u in units]
        self.affected: dict[int, list[int]] = {}  # units that a candidate can matter to
        self.taken = [0 for _ in units]  # the candidates that some plan of a unit used
        self._answers: list[list[tuple[int, int, float]]] = [[] for _ in units]
        self._exact: list[dict[int, float]] = [{0: u.base} for u in units]
        # the shadow's planner can skip-scan and the target's cannot
        self._skips = target_version < SKIP_SCAN_VERSION <= pool.shadow.cluster.version

    def relate(self, numbers: Collection[int]) -> None:
        """Find out which units new candidates can matter to."""
        for number in numbers:
            candidate = self.pool.entries[number].candidate
            self.memory.meet(number, candidate)
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
        known = self._known(position, wanted)
        if known is not None:
            return known
        unit = self.units[position]
        return self._learn(position, wanted, await self._ask(unit, wanted))

    def knows(self, position: int, config: int) -> bool:
        """Whether the answer follows from what this search has heard; what an earlier one was told does not count."""
        wanted = config & self.relevant[position]
        return wanted in self._exact[position] or self._follows(position, wanted) is not None

    def _follows(self, position: int, wanted: int) -> tuple[int, float] | None:
        out = ~wanted
        for used, seen, cost in self._answers[position]:
            if not used & out and not wanted & ~seen:
                return used, cost
        return None

    def _known(self, position: int, wanted: int) -> tuple[int, float] | None:
        """The answer, where it follows from what this search has heard, or was given to an earlier one."""
        heard = self._follows(position, wanted)
        if heard is not None:
            self._exact[position][wanted] = heard[1]
            return heard
        said = self._said(position).get(wanted)
        return self._learn(position, wanted, said) if said is not None else None

    def _said(self, position: int) -> dict[int, Said]:
        return self.memory.said.setdefault(_question(self.units[position]), {})

    def _learn(self, position: int, wanted: int, said: Said) -> tuple[int, float]:
        used, cost, asked = said
        self._said(position)[wanted] = said
        self.explains += asked
        self._answers[position].append((used, wanted, cost))
        self._exact[position][wanted] = cost
        self.taken[position] |= used
        if cost < self.atoms[position].get(used, inf):
            self.atoms[position][used] = cost
        return used, cost

    async def ask(self, positions: Iterable[int], config: int) -> None:
        """Hear about several units under one set at once, as far as it is not known; `cost` then answers from memory."""
        open_: list[int] = []
        for p in positions:
            wanted = config & self.relevant[p]
            if wanted not in self._exact[p] and self._known(p, wanted) is None:
                open_.append(p)
        if not open_:
            return
        shown = 0
        for p in open_:
            shown |= config & self.relevant[p]
        await self.pool.show(numbers_of(shown))
        plans = await self.planners.all([_question(self.units[p]) for p in open_])
        for p, plan in zip(open_, plans, strict=True):
            wanted = config & self.relevant[p]
            used = 0 if isinstance(plan, psycopg.Error) else self._used(plan)
            if isinstance(plan, psycopg.Error) or used & ~wanted or self._skipping(plan, used):
                self._learn(p, wanted, await self._ask(self.units[p], wanted))
            else:
                self._learn(p, wanted, (used, float(plan["Total Cost"]), 1))

    def least(self, position: int, config: int) -> float:
        """What is known without asking: the unit costs at least this under a set."""
        wanted = config & self.relevant[position]
        known = self._exact[position].get(wanted)
        if known is not None:
            return known
        return max((c for _, seen, c in self._answers[position] if not wanted & ~seen), default=0.0)

    def _used(self, plan: Plan) -> int:
        return mask_of({self.pool.by_name[n] for n in indexes_used(plan) if n in self.pool.by_name})

    async def _ask(self, unit: Unit, wanted: int) -> Said:
        """One EXPLAIN; a plan that the target's older planner could not price so is asked again without its index."""
        seen, asked = wanted, 0
        while True:
            await self.pool.show(numbers_of(seen))
            asked += 1
            try:
                plan = await self.planners.one(_question(unit))
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
        await self.ask(range(len(self.units)), mask)
        return [await self.cost(p, mask) for p in range(len(self.units))]


def _question(unit: Unit) -> Question:
    return unit.text, unit.generic, unit.path


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

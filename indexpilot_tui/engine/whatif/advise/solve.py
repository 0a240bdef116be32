"""From candidates to a set: prices where they matter, search on what is known, EXPLAIN of what the search wants, again."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from itertools import groupby

from indexpilot_tui.engine.whatif.advise.candidate import Candidate
from indexpilot_tui.engine.whatif.advise.generate import merged
from indexpilot_tui.engine.whatif.advise.masks import mask_of, numbers_of
from indexpilot_tui.engine.whatif.advise.pool import Pool
from indexpilot_tui.engine.whatif.advise.pricing import Prices, Unit
from indexpilot_tui.engine.whatif.advise.search import MIN_GAIN, PAGE, Problem, Search

MAX_ROUNDS = 40
MAX_EXPLAINS = 20_000  # a bound that does not depend on the clock, so that slow machines give the same advice
MAX_MERGED = 120
MERGED_EACH = 12  # of one table and first key
MERGE_FROM = 12
PREFIX_LOSS = 0.005  # of the workload: less does not justify an index that is a prefix of another one
FELT = 0.03  # an index is worth having when some statement would cost so much more without it
SMALL = 0.0002  # of the workload's cost: what could gain less with one statement is not looked at for it
MAX_TREE = 40  # EXPLAINs for the combinations of first keys of one unit
PEELS = 12  # rounds of asking for the next best: 8 to 14 were tried, 12 found the cheapest sets
MAX_PAIRS = 4000  # of unit and candidate that are priced alone
PROBES = 5  # sets a round that are priced exactly
NEAR = 0.01  # of the workload's cost: bounds so much above the best may turn out to be below it
STARTS = 6  # of the greedy sets, how many search goes on from
ROUNDS = 3  # of asking for units that a candidate may be of use to
GREEDY = (0.7,)  # exponents of the greedy search by exact prices


class Solver:
    """Finds a set of candidates for one problem. `prices` keeps what was asked, for several budgets in a row."""

    def __init__(self, pool: Pool, prices: Prices) -> None:
        self.pool, self.prices = pool, prices
        self._workload = prices.total([u.base for u in prices.units])
        self.singles: dict[int, float] = {}  # gain of each candidate alone, in weighted cost units

    async def survey(self, numbers: Sequence[int], *, combine: bool = True) -> None:
        """Learn what new candidates are worth: those that the planner picks when it may choose freely, and then among the
        rest, each alone; then which first keys go together (`combine`). To price every candidate alone takes twice the
        EXPLAINs and found no better sets."""
        prices = self.prices
        new = mask_of(numbers)
        for p in range(len(prices.units)):  # each by itself: a statement with OR takes long among partial indexes of others
            await prices.choice(p, new)
        heavy = sorted(range(len(prices.units)), key=lambda p: (-prices.units[p].weight * prices.units[p].base, p))
        pairs = [(n, p) for p in heavy if await self._matters(p, new)
                 for n in numbers_of(await self._peel(p, prices.relevant[p] & new))][:MAX_PAIRS]  # fmt: skip
        self.singles.update(dict.fromkeys(numbers, 0.0))
        for n, some in groupby(sorted(pairs), key=lambda x: x[0]):  # a candidate is shown once, to all whom it may concern
            positions = [p for _, p in some]
            await prices.ask(positions, 1 << n)
            for p in positions:
                unit = prices.units[p]
                self.singles[n] += unit.weight * max(0.0, unit.base - await prices.cost(p, 1 << n))
        for position, unit in enumerate(prices.units if combine else ()):
            small, all_ = self._leaders(position)
            if not await self._matters(position, new):
                continue
            enough = self._enough(unit)
            await self._combine(position, small, enough)
            await self._combine(position, small | all_, enough)

    def _enough(self, unit: Unit) -> float:
        """The cost below which a unit gains enough to be looked at."""
        return unit.base - SMALL * self._workload / unit.weight if unit.weight > 0 else 0.0

    async def _matters(self, position: int, numbers: int) -> bool:
        """Whether a unit gains enough when it may have all of these candidates; if not, no one of them matters to it."""
        unit = self.prices.units[position]
        return await self.prices.cost(position, numbers) <= self._enough(unit)

    async def _peel(self, position: int, left: int) -> int:
        """What the planner picks for a unit among all, then among the rest, until nothing helps."""
        useful = 0
        for _ in range(PEELS):
            used, cost = await self.prices.choice(position, left)
            if not used or cost > 0.98 * self.prices.units[position].base:
                break
            useful |= used
            left &= ~used
        return useful

    def _family(self, number: int) -> tuple[int, str]:
        candidate = self.pool.entries[number].candidate
        return candidate.table, candidate.keys[0]

    def _leaders(self, position: int) -> tuple[int, int]:
        """Of the candidates with one table and first key that can matter to a unit: the smallest, and those that bring most
        alone, by themselves and for their size."""
        prices, entries = self.prices, self.pool.entries
        base = prices.units[position].base
        families: dict[tuple[int, str], list[tuple[float, int, int]]] = {}
        for n in numbers_of(prices.relevant[position]):
            cost = prices.atoms[position].get(1 << n, base)
            families.setdefault(self._family(n), []).append((cost, entries[n].size, n))
        small, best = 0, 0
        for members in families.values():
            small |= 1 << min(members, key=lambda x: (x[1], x[0], x[2]))[2]
            best |= 1 << min(members)[2]
            best |= 1 << min(members, key=lambda x: ((x[0] - base) / max(PAGE, x[1]) ** 0.5, x[2]))[2]
        return small, best

    async def _combine(self, position: int, visible: int, enough: float) -> None:
        """Which first keys work together: the plan with all of these visible, then with those of one of its first keys
        hidden, and so on, each combination once; down to plans that cost more than `enough`."""
        prices = self.prices
        same: dict[tuple[int, str], int] = {}
        for n in numbers_of(visible):
            same[self._family(n)] = same.get(self._family(n), 0) | 1 << n
        family = {n: mask for mask in same.values() for n in numbers_of(mask)}
        open_, before = deque([(0, visible)]), prices.explains
        while open_ and prices.explains - before < MAX_TREE:
            kept, shown = open_.popleft()
            used, cost = await prices.choice(position, shown)
            if cost > enough:
                continue
            for mask in sorted({family[n] for n in numbers_of(used)}):
                if not mask & kept:
                    open_.append((kept, shown & ~mask))
                    kept |= mask

    async def merge(self) -> list[int]:
        """Candidates that do what two useful ones of a table do apart."""
        by_start: dict[tuple[int, str], list[tuple[float, int]]] = {}
        for n, gain in self.singles.items():
            candidate = self.pool.entries[n].candidate
            if gain > 0 and candidate.method == "btree" and candidate.include:
                by_start.setdefault((candidate.table, candidate.keys[0]), []).append((-gain, n))
        made: dict[Candidate, float] = {}
        for (table, _), found in sorted(by_start.items()):
            best = [(-g, self.pool.entries[n].candidate) for g, n in sorted(found)[:MERGE_FROM]]
            some: dict[Candidate, float] = {}
            for promise, candidate in merged(table, best):
                if not self.pool.knows(candidate):
                    some[candidate] = max(promise, some.get(candidate, 0.0))
            made.update({c: some[c] for c in sorted(some, key=lambda c: (-some[c], c))[:MERGED_EACH]})
        ranked = sorted(made, key=lambda c: (-made[c], c))[:MAX_MERGED]
        numbers = await self.pool.add(ranked)
        self.prices.relate(numbers)
        return numbers

    async def solve(self, problem: Problem) -> tuple[int, ...]:
        """The best set that was found, by exact prices: from greedy sets, then step by step to better ones nearby."""
        totals: dict[int, float] = {}
        least = MIN_GAIN * sum(u.weight * u.base for u in self.prices.units)
        problem.load(self.prices.atoms)
        starts = [await self._greedy(problem, e) for e in GREEDY] + Search(problem).starts()[: 2 * STARTS]
        for chosen in starts:
            await self._total(chosen, problem, totals)
        ranked = sorted(dict.fromkeys(starts), key=lambda s: (totals[s], s))[:STARTS]
        seen: set[int] = set()
        for start in ranked:
            best = start
            for _ in range(MAX_ROUNDS):
                if best in seen or self.prices.explains > MAX_EXPLAINS:
                    break
                seen.add(best)
                best = await self._step(best, problem, totals, least)
        found = min(totals, key=lambda s: (totals[s], problem.size(s), s))
        return tuple(await self._slim(found, problem))

    async def _total(self, chosen: int, problem: Problem, totals: dict[int, float]) -> float:
        if chosen not in totals:
            totals[chosen] = self.prices.total(await self.prices.exact(chosen)) + problem.upkeep_of(chosen)
        return totals[chosen]

    async def _step(self, best: int, problem: Problem, totals: dict[int, float], least: float) -> int:
        """A better set near this one, or this one when none of the promising ones is."""
        for pairs in (False, True):
            problem.load(self.prices.atoms)
            limit = totals[best] + NEAR * sum(problem.costs(0))
            near = [s for s in Search(problem).around(best, PROBES, pairs=pairs) if problem.total(s) < limit]
            for chosen in near:
                await self._total(chosen, problem, totals)
            found = min([best, *near], key=lambda s: (totals[s], s))
            if totals[found] < totals[best] - least:
                return found
        return best

    async def _greedy(self, problem: Problem, exponent: float) -> int:
        """The plain greedy search by exact prices, lazily: gains only get smaller as a rule, so the best of the old ones is
        worked out again until it stays the best."""
        prices = self.prices
        chosen, costs = 0, await prices.exact(0)
        heap = [(-gain / max(PAGE, problem.sizes[n]) ** exponent, n) for n, gain in sorted(self.singles.items()) if gain > 0]
        heapify(heap)
        while heap:
            _, n = heappop(heap)
            if not problem.fits(chosen | 1 << n):
                continue
            open_ = await self._may_gain(n, chosen | 1 << n, mask_of([n, *(m for _, m in heap)]), costs)
            await prices.ask(open_, chosen | 1 << n)
            after = {p: await prices.cost(p, chosen | 1 << n) for p in open_}
            gain = sum(prices.units[p].weight * (costs[p] - c) for p, c in after.items()) - problem.upkeep[n]
            if gain <= MIN_GAIN * sum(problem.costs(0)):
                continue
            score = gain / max(PAGE, problem.sizes[n]) ** exponent
            if heap and score < -heap[0][0]:
                heappush(heap, (-score, n))
                continue
            chosen |= 1 << n
            for p, c in after.items():
                costs[p] = c
        return chosen

    async def _may_gain(self, number: int, wanted: int, left: int, costs: Sequence[float]) -> list[int]:
        """The units that a candidate may save something of. Most candidates save nothing of most units, and one EXPLAIN
        tells that of many: with all of those in sight that no plan of the unit took yet, it costs the same."""
        prices = self.prices
        found = []
        for p in prices.affected.get(number, ()):
            for _ in range(ROUNDS):
                if prices.taken[p] >> number & 1 or prices.least(p, wanted) >= costs[p]:
                    break
                await prices.choice(p, wanted | left & ~prices.taken[p])
            if prices.least(p, wanted) < costs[p] or prices.knows(p, wanted):  # or lose: planners are not quite monotonic
                found.append(p)
        return found

    def _prefix(self, number: int, chosen: int) -> bool:
        """Whether another member starts with the same keys under the same predicate: two where one nearly does."""
        mine = self.pool.entries[number].candidate
        for other in (self.pool.entries[n].candidate for n in numbers_of(chosen) if n != number):
            same = (mine.table, mine.method, mine.predicate) == (other.table, other.method, other.predicate)
            count = len(mine.keys)
            if same and other.keys[:count] == mine.keys and other.suffixes[:count] == mine.suffixes:
                return True
        return False

    async def _slim(self, chosen: int, problem: Problem) -> list[int]:
        """Take out what exact prices do not miss."""
        prices = self.prices
        least = Search(problem).least
        while chosen:
            now = await prices.exact(chosen)
            losses = []
            for n in numbers_of(chosen):
                without = await prices.exact(chosen & ~(1 << n))
                felt = any(w > c * (1 + FELT) for w, c in zip(without, now, strict=True))
                loss = prices.total(without) - prices.total(now) - problem.upkeep[n]
                spare = self._prefix(n, chosen) and loss < PREFIX_LOSS * prices.total(now)
                losses.append((0.0 if spare or not felt else loss, n))
            loss, number = min(losses)
            if loss > least:
                break
            chosen &= ~(1 << number)
        return numbers_of(chosen)

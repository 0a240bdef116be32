"""From candidates to a set: prices where they matter, search on what is known, EXPLAIN of what the search wants, again."""

from __future__ import annotations

from collections.abc import Sequence

from indexpilot_tui.engine.whatif.advise.candidate import Candidate
from indexpilot_tui.engine.whatif.advise.generate import merged
from indexpilot_tui.engine.whatif.advise.pool import Pool
from indexpilot_tui.engine.whatif.advise.pricing import Prices
from indexpilot_tui.engine.whatif.advise.search import Problem, Search, mask_of, numbers_of

MAX_ROUNDS = 8
MAX_EXPLAINS = 20_000  # a bound that does not depend on the clock, so that slow machines give the same advice
MAX_MERGED = 100
MERGED_EACH = 10  # of one table and first key
MERGE_FROM = 10
PREFIX_LOSS = 0.005  # of the workload: less does not justify an index that is a prefix of another one
FELT = 0.03  # an index is worth having when some statement would cost so much more without it
PEELS = 8  # rounds of asking for the next best
MAX_PAIRS = 4000  # of unit and candidate that are priced alone
PROBES = 16  # sets a round that are priced exactly though their bound is not the best
STARTS = 3  # of the greedy sets, how many local search goes on from
PARTNERS = 3  # of a unit's best single candidates, how many are tried together with all of the other tables


class Solver:
    """Finds a set of candidates for one problem. `prices` keeps what was asked, for several budgets in a row."""

    def __init__(self, pool: Pool, prices: Prices) -> None:
        self.pool, self.prices = pool, prices
        self.singles: dict[int, float] = {}  # gain of each candidate alone, in weighted cost units

    async def survey(self, numbers: Sequence[int]) -> None:
        """Learn what new candidates are worth: each alone where it can matter when that is affordable, else those that the
        planner picks when it may choose freely; then each unit with many at once, for the sets that plans need."""
        prices = self.prices
        pairs = [(p, n) for n in numbers for p, unit in enumerate(prices.units) if n in unit.relevant]
        if len(pairs) > MAX_PAIRS:
            useful = await self._peel(set(numbers))
            heavy = sorted(range(len(prices.units)), key=lambda p: (-prices.units[p].weight * prices.units[p].base, p))
            rank = {p: r for r, p in enumerate(heavy)}
            pairs = sorted(((p, n) for p, n in pairs if n in useful), key=lambda x: (rank[x[0]], x[1]))[:MAX_PAIRS]
            pairs.sort(key=lambda x: (x[1], x[0]))
        self.singles.update(dict.fromkeys(numbers, 0.0))
        for position, n in pairs:
            unit = prices.units[position]
            self.singles[n] += unit.weight * max(0.0, unit.base - await prices.cost(position, {n}))
        for position, unit in enumerate(prices.units):
            await prices.cost(position, unit.relevant)
            lean = {n for n in unit.relevant if not self.pool.entries[n].candidate.include}
            await prices.cost(position, lean)
            alone = sorted((c, sorted(u)[0]) for u, c in prices.atoms[position].items() if len(u) == 1)
            for _, first in alone[:PARTNERS]:
                table = self.pool.entries[first].candidate.table
                others = {n for n in unit.relevant if self.pool.entries[n].candidate.table != table}
                if others:
                    await prices.cost(position, {first} | others)
                    await prices.cost(position, {first} | (others & lean))

    async def _peel(self, numbers: set[int]) -> set[int]:
        """What the planner picks for each unit among all, then among the rest, until nothing helps."""
        prices = self.prices
        useful: set[int] = set()
        for position, unit in enumerate(prices.units):
            left = unit.relevant & numbers
            for _ in range(PEELS):
                if not left:
                    break
                used, cost = await prices.choice(position, left)
                if not used or cost > 0.98 * unit.base:
                    break
                useful |= used
                left = left - used
        return useful

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
        """The best set that was found, by exact prices."""
        prices = self.prices
        totals: dict[int, float] = {}
        best = 0
        for _ in range(MAX_ROUNDS):
            problem.load(prices.atoms)
            search = Search(problem)
            starts = search.starts()
            again = starts[:STARTS] if not best else [best, starts[0]]
            near = search.around(best, PROBES) if best else starts[:PROBES]
            tried = dict.fromkeys([starts[0], *(search.improve(s) for s in again), *near])
            new = [s for s in tried if s not in totals]
            for chosen in new:
                costs = await prices.exact(numbers_of(chosen))
                totals[chosen] = prices.total(costs) + sum(problem.upkeep[n] for n in numbers_of(chosen))
            better = min(totals, key=lambda s: (totals[s], problem.size(s), s), default=0)
            stuck = better == best and bool(best)
            best = better
            if not new or stuck or prices.explains > MAX_EXPLAINS:
                break
        return tuple(await self._slim(best, problem))

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
            now = await prices.exact(numbers_of(chosen))
            losses = []
            for n in numbers_of(chosen):
                without = await prices.exact(numbers_of(chosen & ~mask_of([n])))
                felt = any(w > c * (1 + FELT) for w, c in zip(without, now, strict=True))
                loss = prices.total(without) - prices.total(now) - problem.upkeep[n]
                spare = self._prefix(n, chosen) and loss < PREFIX_LOSS * prices.total(now)
                losses.append((0.0 if spare or not felt else loss, n))
            loss, number = min(losses)
            if loss > least:
                break
            chosen &= ~mask_of([number])
        return numbers_of(chosen)

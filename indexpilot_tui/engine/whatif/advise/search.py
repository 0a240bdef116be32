"""Choosing a set under a budget: greedy by benefit per byte, then local search, on prices that are upper bounds until an
EXPLAIN has made them exact. No clock and no chance decides anything: the same input gives the same set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

# Exponents of the size in benefit / size^a: 1 is the classic knapsack greedy, 0 takes the largest benefit whatever it
# costs; the best set lies between them more often than at either.
EXPONENTS = (1.0, 0.75, 0.5, 0.25, 0.0)
MIN_GAIN = 1e-5  # of the workload's cost: below it a gain is rounding
MAX_PASSES = 6
MAX_INSERTS = 60
MAX_PAIRED = 12
MAX_SEEDS = 48
MAX_GROUP = 4  # candidates that are added in one step because a plan needs them together
PAGE = 8192


def mask_of(numbers: Iterable[int]) -> int:
    mask = 0
    for n in numbers:
        mask |= 1 << n
    return mask


def numbers_of(mask: int) -> list[int]:
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


@dataclass(slots=True)
class Problem:
    """`weights` of the units; `base` costs; `sizes` bytes and `upkeep` (cost units, whole workload) of each candidate;
    budgets in the same units, None for none. `atoms` per unit: (mask of candidates, weighted cost), cost ascending."""

    weights: list[float]
    base: list[float]
    sizes: list[int]
    upkeep: list[float]
    budget: int | None
    upkeep_budget: float | None
    atoms: list[list[tuple[int, float]]] = field(default_factory=list)
    groups: dict[int, list[tuple[int, int, float]]] = field(default_factory=dict)
    _reach: list[int] = field(default_factory=list)  # of each unit: all candidates in its atoms
    _known: list[dict[int, float]] = field(default_factory=list)

    def load(self, atoms: Sequence[dict[frozenset[int], float]]) -> None:
        """Take over the atoms that are known now, dominated ones left out.

        `groups` are the sets that are added in one step, single candidates and what an atom needs together, each with the
        atoms (unit, mask, weighted cost) that hold one of them.
        """
        self.atoms, self._known, self._reach = [], [{} for _ in atoms], []
        by_candidate: dict[int, list[tuple[int, int, float]]] = {}
        for unit, known in enumerate(atoms):
            kept: list[tuple[int, float]] = []
            for used, cost in sorted(known.items(), key=lambda x: (x[1], len(x[0]), sorted(x[0]))):
                mask = mask_of(used)
                if not any(k & ~mask == 0 for k, _ in kept):
                    kept.append((mask, cost * self.weights[unit]))
            self.atoms.append(kept)
            reach = 0
            for mask, cost in kept:
                reach |= mask
                for n in numbers_of(mask):
                    by_candidate.setdefault(n, []).append((unit, mask, cost))
            self._reach.append(reach)
        masks = {1 << n for n in by_candidate}
        masks |= {m for kept in self.atoms for m, _ in kept if m and m.bit_count() <= MAX_GROUP}
        self.groups = {}
        for group in sorted(masks):
            found = {x for n in numbers_of(group) for x in by_candidate[n]}
            self.groups[group] = sorted(found, key=lambda x: (x[0], x[2], x[1]))

    def costs(self, chosen: int) -> list[float]:
        """The weighted bound of every unit under a set."""
        return [self._cost(u, chosen & reach) for u, reach in enumerate(self._reach)]

    def _cost(self, unit: int, chosen: int) -> float:
        known = self._known[unit].get(chosen)
        if known is None:
            known = next((c for m, c in self.atoms[unit] if m & ~chosen == 0), self.weights[unit] * self.base[unit])
            self._known[unit][chosen] = known
        return known

    def total(self, chosen: int) -> float:
        """The bound for a set, upkeep included."""
        return sum(self.costs(chosen)) + self.upkeep_of(chosen)

    def size(self, chosen: int) -> int:
        return sum([self.sizes[n] for n in numbers_of(chosen)])

    def upkeep_of(self, chosen: int) -> float:
        return sum([self.upkeep[n] for n in numbers_of(chosen)])

    def fits(self, chosen: int) -> bool:
        if self.budget is not None and self.size(chosen) > self.budget:
            return False
        return self.upkeep_budget is None or self.upkeep_of(chosen) <= self.upkeep_budget


class Search:
    """Greedy and local search over one problem."""

    def __init__(self, problem: Problem) -> None:
        self.p = problem
        self.least = MIN_GAIN * sum(w * b for w, b in zip(problem.weights, problem.base, strict=True))
        self._bulk = {g: (problem.size(g), problem.upkeep_of(g)) for g in problem.groups}
        self._filled: dict[tuple[int, float], int] = {}

    def _gain(self, group: int, both: int, current: Sequence[float]) -> float:
        gain, unit, lowest = 0.0, -1, 0.0
        outside = ~both
        for u, mask, cost in self.p.groups[group]:
            if u != unit:
                unit, lowest = u, current[u]
            if cost < lowest and not mask & outside:
                gain += lowest - cost
                lowest = cost
        return gain

    def fill(self, chosen: int, exponent: float) -> int:
        """Add greedily until nothing fits or pays."""
        known = self._filled.get((chosen, exponent))
        if known is None:
            known = self._filled[chosen, exponent] = self._fill(chosen, exponent)
        return known

    def _fill(self, chosen: int, exponent: float) -> int:
        p = self.p
        current = p.costs(chosen)
        size, upkeep = p.size(chosen), p.upkeep_of(chosen)
        open_groups = list(p.groups)
        while True:
            best, best_score, left = 0, 0.0, []
            for group in open_groups:
                new = group & ~chosen
                if not new:
                    continue
                bytes_, cost = self._bulk[group] if new == group else (p.size(new), p.upkeep_of(new))
                if p.budget is not None and size + bytes_ > p.budget:
                    continue
                if p.upkeep_budget is not None and upkeep + cost > p.upkeep_budget:
                    continue
                left.append(group)
                gain = self._gain(group, chosen | new, current) - cost
                if gain <= self.least * new.bit_count():
                    continue
                score = gain / (bytes_ if bytes_ > PAGE else PAGE) ** exponent
                if score > best_score:
                    best, best_score = new, score
            if not best:
                return chosen
            chosen |= best
            size, upkeep = size + p.size(best), upkeep + p.upkeep_of(best)
            current = p.costs(chosen)
            open_groups = left

    def losses(self, chosen: int) -> list[tuple[float, int]]:
        """What each member of a set is worth to it: (loss without it, number)."""
        total = self.p.total(chosen)
        return [(self.p.total(chosen & ~(1 << n)) - total, n) for n in numbers_of(chosen)]

    def prune(self, chosen: int) -> int:
        """Take out what brings less than it must."""
        while chosen:
            loss, number = min(self.losses(chosen))
            if loss > self.least:
                break
            chosen &= ~(1 << number)
        return chosen

    def squeeze(self, chosen: int, keep: int) -> int:
        """Take out members, those first that bring least per byte, until the set fits; never `keep`."""
        while chosen and not self.p.fits(chosen):
            worth = [(loss / max(PAGE, self.p.sizes[n]), n) for loss, n in self.losses(chosen) if not keep >> n & 1]
            if not worth:
                return 0
            chosen &= ~(1 << min(worth)[1])
        return chosen

    def improve(self, chosen: int) -> int:
        """Local search: take one or two out, or put one group in and make room; fill what is left; as long as it gains."""
        best = self.prune(chosen)
        total = self.p.total(best)
        for _ in range(MAX_PASSES):
            before = best
            for move in self._moves(best):
                tried = move(best)
                value = self.p.total(tried)
                if value < total * (1 - 1e-6):
                    best, total = tried, value
            best = self.prune(best)
            if best == before:
                break
            total = self.p.total(best)
        return best

    def _moves(self, best: int) -> Iterable[Callable[[int], int]]:
        """Ways to change a set, each applied to the best one so far."""
        held = numbers_of(best)
        current = self.p.costs(best)
        gains = []
        for group in self.p.groups:
            if group & ~best:
                gain = self._gain(group, best | group, current)
                if gain > self.least:
                    gains.append((-gain / max(PAGE, self._bulk[group][0]) ** 0.5, group))
        for _, group in sorted(gains)[:MAX_INSERTS]:
            yield lambda s, g=group: self.fill(self.squeeze(s | g, g), 1.0)  # type: ignore[misc]
        for a in held:
            for exponent in (1.0, 0.5, 0.0):
                yield lambda s, a=a, e=exponent: self.fill(s & ~(1 << a), e)  # type: ignore[misc]
        for i, a in enumerate(held[:MAX_PAIRED]):
            for b in held[i + 1 : MAX_PAIRED]:
                yield lambda s, m=1 << a | 1 << b: self.fill(s & ~m, 0.75)  # type: ignore[misc]

    def around(self, best: int, count: int) -> list[int]:
        """The most promising sets one move away, for an exact look: their bounds may be too high."""
        found = {tried for move in self._moves(best) if (tried := move(best)) not in (0, best)}
        return sorted(found, key=lambda s: (self.p.total(s), s))[:count]

    def starts(self) -> list[int]:
        """Greedy sets, each once, the best first: from nothing, and around each of the candidates that bring most alone,
        which a greedy start passes over when they are large."""
        p = self.p
        nothing = p.costs(0)
        gains = [(-self._gain(g, g, nothing), g) for g in p.groups if p.fits(g)]
        seeds = [g for _, g in sorted(gains)[:MAX_SEEDS]]
        found = {self.prune(self.fill(0, e)) for e in EXPONENTS}
        found |= {self.prune(self.fill(g, e)) for g in seeds for e in (1.0, 0.5)}
        return sorted(found, key=lambda s: (p.total(s), s))

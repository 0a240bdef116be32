"""Choosing a set under a budget: greedy by benefit per byte, and the sets a step away from one, on prices that are upper
bounds until an EXPLAIN has made them exact. No clock and no chance decides anything: the same input gives the same set."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, nsmallest
from math import inf

from indexpilot_tui.engine.whatif.advise.masks import numbers_of

# Exponents of the size in benefit / size^a: 1 is the classic knapsack greedy, 0 takes the largest benefit whatever it
# costs; the best set lies between them more often than at either.
EXPONENTS = (1.0, 0.75, 0.5, 0.25, 0.0)
TOLERANCE = 3e-5  # of the workload's cost: a plan with one more index is worth remembering when it saves so much
MIN_GAIN = 1e-5  # of the workload's cost: below it a gain is rounding
MAX_SEEDS = 24
MAX_PASSES = 12
MAX_LARGE = 16  # of the groups that do not fit beside a set, how many are tried in place of some of it
MAX_SPARE = 12  # members, of those that would be missed least, that go in pairs
MAX_GROUP = 3  # candidates that are added in one step because a plan needs them together
PAGE = 8192


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
    groups: dict[int, list[int]] = field(default_factory=dict)  # added in one step: the units concerned
    _reach: list[int] = field(default_factory=list)  # of each unit: all candidates in its atoms
    _holding: dict[int, list[int]] = field(default_factory=dict)  # of each candidate: the groups that hold it
    _with: dict[int, list[int]] = field(default_factory=dict)  # of each set: the groups that hold all of it
    _gains: list[dict[int, dict[int, float]]] = field(default_factory=list)
    _known: list[dict[int, float]] = field(default_factory=list)
    _loaded: list[dict[int, float]] = field(default_factory=list)
    _members: dict[int, list[int]] = field(default_factory=dict)  # of each group
    _bytes: dict[int, int] = field(default_factory=dict)
    _ascending: list[int] = field(default_factory=list)  # the sizes
    _below: list[int] = field(default_factory=list)  # the candidates of the first so many of them
    _costly: bool = True

    def __post_init__(self) -> None:
        self._costly = any(self.upkeep)
        order = sorted(range(len(self.sizes)), key=lambda n: self.sizes[n])
        self._ascending = [self.sizes[n] for n in order]
        self._below = [0]
        for n in order:
            self._below.append(self._below[-1] | 1 << n)

    def load(self, atoms: Sequence[dict[int, float]]) -> None:
        """Take over the atoms that are known now, dominated ones left out. `groups` are single candidates and what an atom
        needs together."""
        tolerance = TOLERANCE * sum(w * b for w, b in zip(self.weights, self.base, strict=True))
        old, self.atoms, self._reach = self.atoms, [], []
        units_of: dict[int, int] = {}
        masks: set[int] = set()
        same = 0  # units of which nothing new is known
        for unit, known in enumerate(atoms):
            if unit < len(old) and self._loaded[unit] == known:
                kept, same = old[unit], same | 1 << unit
            else:
                kept = self._undominated(unit, known, tolerance)
                self._loaded[unit : unit + 1], self._known[unit : unit + 1] = [dict(known)], [{}]
            self.atoms.append(kept)
            reach = 0
            for mask, _ in kept:
                reach |= mask
                if 0 < mask.bit_count() <= MAX_GROUP:
                    masks.add(mask)
            self._reach.append(reach)
            for n in numbers_of(reach):
                units_of[n] = units_of.get(n, 0) | 1 << unit
        masks.update(1 << n for n in units_of)
        before, self.groups, self._holding, self._with = self.groups, {}, {}, {}
        for group in sorted(masks):
            if self.budget is not None and self.size(group) > self.budget:
                continue
            members = self._members.get(group)
            if members is None:
                members = self._members[group] = numbers_of(group)
            units = 0
            for n in members:
                units |= units_of[n]
                self._holding.setdefault(n, []).append(group)
            self.groups[group] = numbers_of(units)
        moved = 0
        for group in before.keys() ^ self.groups.keys():
            moved |= group
        self._gains = [self._gains[u] if same >> u & 1 and not r & moved else {} for u, r in enumerate(self._reach)]

    def _undominated(self, unit: int, known: dict[int, float], tolerance: float) -> list[tuple[int, float]]:
        """The atoms that are cheaper than all those which need less."""
        kept: list[tuple[int, float]] = []
        for mask, cost in sorted(known.items(), key=lambda x: (x[0].bit_count(), x[1], x[0])):
            limit = cost * self.weights[unit] + tolerance
            out = ~mask
            for other, least in kept:
                if least <= limit and not other & out:
                    break
            else:
                kept.append((mask, cost * self.weights[unit]))
        return sorted(kept, key=lambda x: (x[1], x[0].bit_count(), x[0]))

    def costs(self, chosen: int) -> list[float]:
        """The weighted bound of every unit under a set."""
        return [self._cost(u, chosen & reach) for u, reach in enumerate(self._reach)]

    def _cost(self, unit: int, chosen: int) -> float:
        known = self._known[unit].get(chosen)
        if known is None:
            known = next((c for m, c in self.atoms[unit] if m & ~chosen == 0), self.weights[unit] * self.base[unit])
            self._known[unit][chosen] = known
        return known

    def _gains_in(self, unit: int, chosen: int) -> dict[int, float]:
        """What each group that helps would save of one unit's bound; `chosen` within the unit's reach."""
        found = self._gains[unit].get(chosen)
        if found is not None:
            return found
        found = self._gains[unit][chosen] = {}
        now, out = self._cost(unit, chosen), ~chosen
        for mask, cost in self.atoms[unit]:  # the cheapest first, so the first gain of a group is its best
            if cost >= now:
                break
            missing = mask & out
            groups = self._with.get(missing)
            if groups is None:
                first = (missing & -missing).bit_length() - 1
                groups = self._with[missing] = [g for g in self._holding.get(first, ()) if not missing & ~g]
            for group in groups:
                if group not in found:
                    found[group] = now - cost
        return found

    def gains(self, chosen: int, room: float = inf) -> dict[int, float]:
        """What adding each group would save of the bounds, upkeep left out; groups that save nothing are not in it. Of
        groups with a candidate larger than `room` it may say nothing."""
        found: dict[int, float] = {}
        fitting = self._fitting(room) & ~chosen
        for unit, reach in enumerate(self._reach):
            if not reach & fitting:
                continue
            for group, gain in self._gains_in(unit, chosen & reach).items():
                found[group] = found.get(group, 0.0) + gain
        return found

    def gains_without(self, chosen: int, out: int, gains: dict[int, float]) -> dict[int, float]:
        """The same of a set without some of it, from the `gains` of all of it: few units feel the difference. A group that
        saves nothing may be in it with what rounding leaves."""
        found = dict(gains)
        rest = chosen & ~out
        for unit, reach in enumerate(self._reach):
            if reach & out:
                for group, gain in self._gains_in(unit, chosen & reach).items():
                    found[group] -= gain
                for group, gain in self._gains_in(unit, rest & reach).items():
                    found[group] = found.get(group, 0.0) + gain
        return found

    def _fitting(self, room: float) -> int:
        """The candidates that take no more than `room` bytes."""
        return self._below[bisect_right(self._ascending, room)] if room != inf else -1

    def gain(self, group: int, chosen: int) -> float:
        """The same of one group."""
        return sum([self._gains_in(u, chosen & self._reach[u]).get(group, 0.0) for u in self.groups[group]])

    def total(self, chosen: int) -> float:
        """The bound for a set, upkeep included."""
        return sum(self.costs(chosen)) + self.upkeep_of(chosen)

    def losses(self, chosen: int) -> list[tuple[float, int]]:
        """What each member is worth to a set, upkeep included: (loss without it, number)."""
        now = self.costs(chosen)
        found = []
        for n in numbers_of(chosen):
            rest, bit = chosen & ~(1 << n), 1 << n
            lost = sum([self._cost(u, rest & r) - now[u] for u, r in enumerate(self._reach) if r & bit])
            found.append((lost - self.upkeep_of(bit), n))
        return found

    def size(self, chosen: int) -> int:
        known = self._bytes.get(chosen)
        if known is None:
            known = self._bytes[chosen] = sum([self.sizes[n] for n in numbers_of(chosen)])
        return known

    def upkeep_of(self, chosen: int) -> float:
        return sum([self.upkeep[n] for n in numbers_of(chosen)]) if self._costly else 0.0

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

    def fill(self, chosen: int, exponent: float) -> int:
        """Add greedily until nothing fits or pays."""
        known = self._filled.get((chosen, exponent))
        if known is None:
            known = self._filled[chosen, exponent] = self._fill(chosen, exponent)
        return known

    def _fill(self, chosen: int, exponent: float) -> int:
        """Scores go stale as the set grows and are worked out again when their turn comes; when nothing is left, all are
        once more, because one index can make another worth having."""
        p = self.p
        again = True
        while again:
            size, upkeep = p.size(chosen), p.upkeep_of(chosen)
            gains = p.gains(chosen, inf if p.budget is None else p.budget - size)
            heap = [(-s, g) for g, gain in gains.items()
                    if gain > self.least and (s := self._score(g, gain, chosen, size, upkeep, exponent)) > 0]  # fmt: skip
            heapify(heap)
            again = False
            while heap:
                _, group = heappop(heap)
                score = self._score(group, p.gain(group, chosen), chosen, size, upkeep, exponent)
                if score <= 0:
                    continue
                if heap and score < -heap[0][0]:
                    heappush(heap, (-score, group))
                    continue
                new = group & ~chosen
                chosen |= new
                size, upkeep = size + p.size(new), upkeep + p.upkeep_of(new)
                again = True
        return chosen

    def _score(self, group: int, gain: float, chosen: int, size: int, upkeep: float, exponent: float) -> float:
        """Gain per byte to the power, 0 when it does not fit or pay."""
        p = self.p
        new = group & ~chosen
        if not new:
            return 0.0
        bytes_, cost = self._bulk[group] if new == group else (p.size(new), p.upkeep_of(new))
        if p.budget is not None and size + bytes_ > p.budget:
            return 0.0
        if p.upkeep_budget is not None and upkeep + cost > p.upkeep_budget:
            return 0.0
        gain -= cost
        if gain <= self.least * new.bit_count():
            return 0.0
        return float(gain / (bytes_ if bytes_ > PAGE else PAGE) ** exponent)

    def losses(self, chosen: int) -> list[tuple[float, int]]:
        """What each member of a set is worth to it: (loss without it, number)."""
        return self.p.losses(chosen)

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
        """Steps to the best set nearby, as long as there is a better one."""
        best = self.prune(chosen)
        total = self.p.total(best)
        for _ in range(MAX_PASSES):
            near = self.around(best, 1, pairs=False) or self.around(best, 1, pairs=True)
            if not near or self.p.total(near[0]) >= total * (1 - 1e-6):
                break
            best = self.prune(near[0])
            total = self.p.total(best)
        return best

    def around(self, best: int, count: int, *, pairs: bool) -> list[int]:
        """The most promising sets one step away: up to one member out (or two, with `pairs`), up to one group in, and the
        rest of the budget filled. Only so many steps are worked out in full, those that promise most."""
        p = self.p
        held = numbers_of(best)
        outs = [0, *(1 << n for n in held)]
        if pairs:
            least = sorted(n for _, n in sorted(self.losses(best))[:MAX_SPARE])
            outs = [1 << a | 1 << b for i, a in enumerate(least) for b in least[i + 1 :]]
        steps: list[tuple[float, int]] = []
        large: list[tuple[float, int]] = []  # what needs room made for it
        parts = {g: (new, p.size(new), p.upkeep_of(new)) for g in p.groups if (new := g & ~best)}
        gains = {0: p.gains(best)}
        for out in outs:
            base = best & ~out
            value = p.total(base)
            size, upkeep = p.size(base), p.upkeep_of(base)
            room = inf if p.budget is None else p.budget - size
            spare = inf if p.upkeep_budget is None else p.upkeep_budget - upkeep
            first = out & -out
            if first not in gains:
                gains[first] = p.gains_without(best, first, gains[0])
            found = gains[first] if out == first else p.gains_without(best & ~first, out ^ first, gains[first])
            if out:
                steps.append((value, base))
            for group, saved in found.items():
                if saved <= self.least or group & out or group not in parts:
                    continue
                new, bytes_, cost = parts[group]
                gain = saved - cost
                if gain <= self.least:
                    continue
                if bytes_ <= room and cost <= spare:
                    steps.append((value - gain, base | new))
                elif not out:
                    large.append((-gain / max(PAGE, bytes_) ** 0.5, new))
        for _, new in sorted(large)[:MAX_LARGE]:
            made = self.squeeze(best | new, new)
            if made:
                steps.append((p.total(made), made))
        made_ = dict.fromkeys(self.fill(made, e) for _, made in nsmallest(count * 2, steps) for e in (1.0, 0.5))
        made_.pop(best, None)
        made_.pop(0, None)
        return sorted(made_, key=lambda s: (p.total(s), s))[:count]

    def starts(self) -> list[int]:
        """Greedy sets, each once, the best first: from nothing, and around each of the candidates that bring most alone,
        which a greedy start passes over when they are large."""
        p = self.p
        gains = [(-gain, g) for g, gain in p.gains(0).items() if p.fits(g)]
        seeds = [g for _, g in sorted(gains)[:MAX_SEEDS]]
        found = {self.prune(self.fill(0, e)) for e in EXPONENTS}
        found |= {self.prune(self.fill(g, e)) for g in seeds for e in (1.0, 0.5)}
        return sorted(found, key=lambda s: (p.total(s), s))

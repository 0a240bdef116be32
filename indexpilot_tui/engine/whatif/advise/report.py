"""What each chosen index is worth: in the order in which they pay, alone, and what the set loses without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.advise.masks import mask_of, numbers_of
from indexpilot_tui.engine.whatif.advise.model import AdvisedIndex, NoAdvice, QueryEffect
from indexpilot_tui.engine.whatif.advise.pool import Pool
from indexpilot_tui.engine.whatif.advise.pricing import Unit
from indexpilot_tui.engine.whatif.advise.reasons import why_not
from indexpilot_tui.engine.whatif.advise.search import Problem
from indexpilot_tui.engine.whatif.advise.solve import Solver
from indexpilot_tui.engine.whatif.snapshot import Snapshot
from indexpilot_tui.engine.whatif.statements import Parsed

BETTER = 0.01  # share of a statement's cost: a smaller gain is not advice


@dataclass(slots=True)
class Findings:
    """`before` and `after` are the workload's costs; `users` are per unit the positions in `indexes` that its plan uses."""

    indexes: list[AdvisedIndex]
    before: float
    after: float
    stop_after: int
    units: list[Unit]
    costs: list[float]
    users: list[tuple[int, ...]]
    best_alone: dict[str, tuple[float, str]] = field(default_factory=dict)

    def _by_statement(self) -> dict[str, tuple[float, float, set[int], list[Unit]]]:
        found: dict[str, tuple[float, float, set[int], list[Unit]]] = {}
        for unit, cost, used in zip(self.units, self.costs, self.users, strict=True):
            before, after, positions, members = found.get(unit.statement, (0.0, 0.0, set(), []))
            found[unit.statement] = (
                before + unit.weight * unit.base, after + unit.weight * cost, positions | set(used), [*members, unit],
            )  # fmt: skip
        return found

    def effects(self, parsed: Mapping[str, Parsed]) -> Iterator[QueryEffect]:
        """Every planned statement, its cost of one call before and after."""
        for key, (before, after, positions, _) in self._by_statement().items():
            calls = parsed[key].statement.calls
            each = calls if calls > 0 else 1.0
            yield QueryEffect(
                clean_line(key), parsed[key].shown, calls, before / each, after / each, tuple(sorted(positions))
            )

    def no_advice(self, parsed: Mapping[str, Parsed], snapshot: Snapshot, pool: Pool, *, tight: bool) -> Iterator[NoAdvice]:
        """Every planned statement that gets no better, with the reason."""
        for key, (before, after, _, members) in self._by_statement().items():
            if before > 0 and after < before * (1 - BETTER):
                continue
            unit = max(members, key=lambda u: u.weight * u.base)
            tried = len({n for u in members for n in u.relevant})
            best = self.best_alone.get(key)
            reason = why_not(unit, parsed[key].kind, best, pool.refused, snapshot, tried, tight=tight)
            yield NoAdvice(clean_line(key), parsed[key].shown, unit.base, reason)


async def report(solver: Solver, problem: Problem, chosen: Sequence[int], replaced: Mapping[int, list[str]]) -> Findings:
    """Price the chosen set from nothing to all, and from all to all but one."""
    prices, pool = solver.prices, solver.pool
    base = prices.total([u.base for u in prices.units])
    full = await prices.exact(chosen)
    after = prices.total(full)
    users: list[tuple[int, ...]] = []
    order = _order(problem, chosen)
    position = {n: i for i, n in enumerate(order)}
    for p in range(len(prices.units)):
        used, _ = await prices.choice(p, mask_of(chosen))
        users.append(tuple(sorted(position[n] for n in numbers_of(used))))
    made: list[AdvisedIndex] = []
    reached, cumulative = base, []
    for count, n in enumerate(order, 1):
        now = prices.total(await prices.exact(order[:count]))
        without = prices.total(await prices.exact([m for m in order if m != n]))
        alone = prices.total(await prices.exact([n]))
        entry = pool.entries[n]
        relation = pool.shadow.snapshot.relations[entry.candidate.table]
        serves = dict.fromkeys(u.statement for u, used in zip(prices.units, users, strict=True) if position[n] in used)
        made.append(
            AdvisedIndex(
                ddl=entry.candidate.ddl(relation, concurrently=True),
                table=clean_line(relation.qualified),
                size_bytes=entry.size,
                cost_after_cumulative=now,
                gain=reached - now,
                gain_alone=base - alone,
                loss_without=without - after,
                upkeep=problem.upkeep[n],
                serves=tuple(clean_line(k) for k in serves),
                replaces=tuple(replaced.get(n, ())),
                notes=tuple(_notes(solver, n)),
            )
        )
        reached = now
        cumulative.append((sum(problem.sizes[m] for m in order[:count]), base - now))
    findings = Findings(made, base, after, knee(cumulative), prices.units, full, users)
    for p, unit in enumerate(prices.units):
        for used, cost in prices.atoms[p].items():
            if used.bit_count() == 1 and unit.base > 0:
                entry = pool.entries[used.bit_length() - 1]
                saved = 1 - cost / unit.base
                if saved > findings.best_alone.get(unit.statement, (0.0, ""))[0]:
                    relation = pool.shadow.snapshot.relations[entry.candidate.table]
                    findings.best_alone[unit.statement] = (saved, clean_line(entry.candidate.ddl(relation)))
    return findings


def _order(problem: Problem, chosen: Sequence[int]) -> list[int]:
    """The order in which the set pays most per byte, one after the other."""
    left, done, order = sorted(chosen), 0, []
    while left:
        total = problem.total(done)
        scored = [((total - problem.total(done | 1 << n)) / max(8192, problem.sizes[n]), -n) for n in left]
        pick = -max(scored)[1]
        order.append(pick)
        left.remove(pick)
        done |= mask_of([pick])
    return order


def knee(points: Sequence[tuple[int, float]]) -> int:
    """After how many indexes the curve of gain over bytes turns flat: the point farthest above the line from its start to
    its end (Satopää et al. 2011, "Finding a Kneedle in a Haystack"). 0 for no points; all of them when there is no knee."""
    if not points:
        return 0
    size, gain = points[-1]
    if size <= 0 or gain <= 0:
        return len(points)
    above = [g / gain - s / size for s, g in points]
    best = max(above)
    return above.index(best) + 1 if best > 0.05 else len(points)


def _notes(solver: Solver, number: int) -> Iterator[str]:
    entry = solver.pool.entries[number]
    candidate = entry.candidate
    relation = solver.pool.shadow.snapshot.relations[candidate.table]
    if relation.kind == "p":
        yield "partitioned: make it on each partition CONCURRENTLY, then attach; CREATE INDEX alone locks out writes"
    if candidate.predicate:
        yield "partial: it serves only statements with this condition"
    if any(k.startswith("(") for k in candidate.keys):
        yield "on an expression: run ANALYZE after the build, so that the planner knows its values"
    if entry.rough:
        yield "its size is only an order of magnitude"

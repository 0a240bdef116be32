"""Asking side by side, and the bounds that the search goes by, without a server."""

from __future__ import annotations

import asyncio
import random
from typing import cast

import psycopg
import pytest

from indexpilot_tui.engine.whatif.advise.lane import Lane, Question, Told
from indexpilot_tui.engine.whatif.advise.masks import numbers_of
from indexpilot_tui.engine.whatif.advise.planners import Planners
from indexpilot_tui.engine.whatif.advise.search import Problem


class _Lane:
    """A planner that says what it shows, and whether it was asked two things at once."""

    def __init__(self) -> None:
        self.shown, self.busy, self.changes, self.asked = 0, False, 0, 0

    async def show(self, wanted: int) -> None:
        assert not self.busy
        self.busy = True
        self.changes += wanted != self.shown
        self.shown = wanted
        await asyncio.sleep(0)

    async def explain(self, question: Question) -> Told:
        self.asked += 1
        await asyncio.sleep(0)
        self.busy = False
        return Told(f'"Total Cost": {self.shown}.0'.encode())


def _planners(count: int) -> tuple[list[_Lane], Planners]:
    lanes = [_Lane() for _ in range(count)]
    return lanes, Planners(cast(list[Lane], lanes))


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_everything_is_asked_once_and_by_a_planner_that_is_free(count: int) -> None:
    lanes, planners = _planners(count)
    said: dict[int, float] = {}

    async def ask(n: int) -> None:
        assert n not in said
        said[n] = (await planners.one(("", False, ()), n)).cost

    await planners.each(range(50), ask)
    await asyncio.gather(*(ask(n) for n in range(50, 70)))  # more who ask than there are planners
    assert said == {n: float(n) for n in range(70)}
    assert sum(x.asked for x in lanes) == 70
    assert all(x.asked > 5 for x in lanes)


async def test_a_question_goes_to_the_planner_that_shows_most_of_it() -> None:
    lanes, planners = _planners(2)

    async def ask(n: int) -> None:
        for _ in range(10):
            await planners.one(("", False, ()), n)

    await planners.each([0b1111, 0b11110000], ask)
    assert [x.changes for x in lanes] == [1, 1]


@pytest.mark.parametrize("count", [1, 2])
async def test_a_failure_is_told_as_it_is_and_ends_the_others(count: int) -> None:
    _, planners = _planners(count)
    before = asyncio.all_tasks()
    done: list[int] = []

    async def work(n: int) -> None:
        if n == 3:
            raise psycopg.OperationalError("gone")
        await asyncio.sleep(0)
        done.append(n)

    with pytest.raises(psycopg.OperationalError, match="gone"):
        await planners.each(range(1000), work)
    assert asyncio.all_tasks() == before
    assert len(done) < 10


async def test_who_is_cancelled_leaves_the_planner_to_others() -> None:
    (lane,), planners = _planners(1)
    gate = asyncio.Event()

    async def slow(wanted: int) -> None:
        await gate.wait()

    really, lane.show = lane.show, slow  # type: ignore[method-assign]
    first, second, third = (asyncio.create_task(planners.one(("", False, ()), n)) for n in (1, 2, 3))
    await asyncio.sleep(0)
    second.cancel()  # waits
    first.cancel()  # is at it
    await asyncio.gather(first, second, return_exceptions=True)
    lane.show = really  # type: ignore[method-assign]
    gate.set()
    await asyncio.wait_for(third, 5)


def test_what_a_member_is_worth_is_what_the_set_costs_more_without_it() -> None:
    chance = random.Random(5)
    for _ in range(50):
        units = [chance.uniform(1, 9) for _ in range(6)]
        atoms = [{0: 100.0} | {chance.getrandbits(9): chance.uniform(1, 99) for _ in range(12)} for _ in units]
        problem = Problem(
            units, [100.0] * 6, [chance.randrange(1, 99) for _ in range(9)], [0.5 * n for n in range(9)], None, None
        )
        problem.load(atoms)
        chosen = chance.getrandbits(9)
        losses = {n: loss for loss, n in problem.losses(chosen)}
        assert list(losses) == numbers_of(chosen)
        for n, loss in losses.items():
            assert loss == pytest.approx(problem.total(chosen & ~(1 << n)) - problem.total(chosen))

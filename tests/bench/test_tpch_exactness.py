"""The promise of the forecast: the costs of another major version's server, before and after an index that is not there."""

from __future__ import annotations

import pytest

from tests.bench.tpch_exactness import DEFAULT, measure, show
from tests.bench.tpch_server import DEBIAN_15, tpch_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DEBIAN_15.exists(), reason="needs Debian's postgresql-15"),
]


async def test_forecast_equals_the_server_before_and_after_the_real_index() -> None:
    async with tpch_server(0.2) as (cluster, target):
        report = await measure(target, cluster.conninfo("tpch"), DEFAULT)
        told = show(report, DEFAULT)
        assert len(report.lines) == 22, told
        assert not report.forecast.left_out
        assert report.untouched, told
        # planned by the target's own major
        assert report.forecast.planner_version // 10_000 == 15, told
        assert report.within(0.001) == 22, told
        assert report.forecast.confidence.level == "high", told
        assert {x.key for x in report.lines if x.uses_index} >= {"17", "19"}, told
        assert 1 / 1.3 < report.forecast.index.size_bytes / report.real_size < 1.3, told

        newer = await measure(target, cluster.conninfo("tpch"), DEFAULT, own_major=False)
        told = show(newer, "planned by 18")
        assert newer.forecast.planner_version // 10_000 == 18, told
        assert newer.median_error < 0.005, told
        assert newer.within(0.02) >= 19, told
        # what is further off was planned otherwise by the newer planner, and the forecast says that this can happen
        assert all(not x.same_plans for x in newer.lines if x.error > 0.02), told
        assert any("planned by PostgreSQL 18, the target runs 15" in r for r in newer.forecast.confidence.reasons), told
        assert newer.forecast.confidence.level == "medium", told

        covering = await measure(
            target, cluster.conninfo("tpch"), "CREATE INDEX ON lineitem (l_partkey) INCLUDE (l_quantity) WHERE l_tax > 0.02"
        )
        assert covering.median_error < 0.005, show(covering, "partial covering index")
        assert 1 / 1.3 < covering.forecast.index.size_bytes / covering.real_size < 1.3, show(covering, "size")

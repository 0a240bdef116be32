"""Forecasts where schemas are odd: the server's own costs, on the embedded 18 and on Debian's 15."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from indexpilot_tui.localpg import LocalCluster
from tests.bench.odd import INDEXES, measure, show
from tests.bench.tpch_server import DEBIAN_15

ROUGH = ("gist",)
# What planning a GIN index takes from its metapage is in no catalog
NOT_IN_THE_CATALOG = ("tx like", "tx %", "tx ilike")


@pytest.mark.parametrize("bindir", [None, DEBIAN_15], ids=["18", "15"])
async def test_odd_schemas_are_forecast_exactly(bindir: Path | None) -> None:
    if bindir is not None and not bindir.exists():
        pytest.skip("needs Debian's postgresql-15")
    async with await LocalCluster.start("odd", bindir=bindir, settings={"autovacuum": "off"}) as cluster:
        with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
            conn.execute("create database odd")
        report = await measure(cluster.conninfo("odd"))
    told = show(report)
    assert report.compared > 4000, told
    assert report.over(0.001) == [], told
    assert [d for d in report.deviations if not any(t in d.statement for t in NOT_IN_THE_CATALOG)] == [], told
    reasons = {
        "pg_stat_activity": "is a system catalog",
    }
    assert len(report.left) == len(reasons), told
    for query, why in report.left.items():
        assert any(part in query and reason in why for part, reason in reasons.items()), (query, why)
    for ddl in INDEXES:
        limit = 2.0 if any(m in ddl for m in ROUGH) else 1.1
        assert 1 / limit < report.sizes[ddl] < limit, told
    assert any("public.never: no statistics" in r for r in report.issues)
    assert any("public.rls: row-level security" in r for r in report.issues)

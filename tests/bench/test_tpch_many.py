"""Seventeen further indexes of every access method at once: what the planner says of them before they exist, and after."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.tpch_many import measure
from tests.bench.tpch_server import DEBIAN_15, tpch_server

WITHOUT_15 = pytest.mark.skipif(not DEBIAN_15.exists(), reason="needs Debian's postgresql-15")


@pytest.mark.slow
@pytest.mark.parametrize("bindir", [None, pytest.param(DEBIAN_15, marks=WITHOUT_15)], ids=["18", "15"])
async def test_every_query_costs_what_the_server_says_with_the_real_indexes(bindir: Path | None) -> None:
    async with tpch_server(0.2, bindir) as (cluster, _target):
        base, model, true = await measure(cluster.conninfo("tpch"))
    for compared, limit in ((base, 0.001), (true, 0.001), (model, 0.02)):
        assert len(compared.server) == 22
        assert compared.worst <= limit, compared.show()

"""Fifty mutations of a good bundle; `python -m tests.bench.bundle_mutations` makes five hundred."""

from __future__ import annotations

from indexpilot_tui.localpg import LocalCluster
from tests.bench.bundle_mutations import run


def test_no_mutation_runs_and_each_ends_with_a_forecast_or_one_error(cluster18: LocalCluster) -> None:
    done = run(cluster18, 50)
    assert done.forecasts > 5
    assert done.errors > 5

"""The harness of `python -m tests.bench.workload_cost`, small: what it says of the workload is what was done to it."""

from __future__ import annotations

import pytest

from indexpilot_tui.localpg import LocalCluster
from tests.bench.workload_cost import PHASES, WAYS, measure, table
from tests.faults.workshop import quick
from tests.pgbench import Span, Transaction, figures, parse

HOLD_S = 4.0


@pytest.mark.slow
async def test_a_bare_build_makes_everybody_queue_and_a_guarded_one_does_not(cluster15: LocalCluster) -> None:
    measured = await measure(cluster15, quick(), scale=1, clients=2, seconds=1.0, rounds=1, hold=HOLD_S)
    for way in WAYS:
        assert all(measured.of(way, name).tps > 0 for name in PHASES)
    guarded, bare = measured.nights
    assert bare.deploy_s > HOLD_S - 0.5
    stuck = measured.night(bare)  # with two clients both may be writing when everybody begins to queue
    assert max(stuck.worst_read_ms, stuck.worst_write_ms) > (HOLD_S - 0.5) * 1000
    assert measured.silence(bare) > HOLD_S - 0.5
    assert guarded.deploy_s < 3, guarded
    assert guarded.tries > 1, "the build gave way and was tried again"
    assert measured.night(guarded).worst_read_ms < 3000
    assert measured.silence(guarded) < 3
    assert len(table(measured).splitlines()) == 2 + 6 + 3 + 2


def test_a_transaction_counts_where_it_began_and_where_it_ended() -> None:
    held, quick_one = Transaction(9.5, 4.0, 0), Transaction(12.0, 0.5, 1)
    first, second = Span(0, 10), Span(10, 20)
    assert figures([held, quick_one], [first]).worst_read_ms == 4000
    assert figures([held, quick_one], [first]).tps == 0
    both = figures([held, quick_one], [second])
    assert (both.tps, both.worst_read_ms, both.worst_write_ms) == (0.2, 0, 500)
    with pytest.raises(ValueError, match="no transaction"):
        figures([], [first])


def test_the_log_of_pgbench_is_read() -> None:
    assert parse("0 7 2500000 1 100 500000") == Transaction(98.0, 2.5, 1)
    assert parse("0 8 failed 1 100 500000") is None

"""What the arithmetic assumes of pg_stat_statements, asked of a real server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from indexpilot_tui.engine.changes.verification import verify
from indexpilot_tui.engine.journal.records import PhaseStats
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import VerificationPolicy

NAP = "select pg_sleep(%s)"
READ = """select queryid::text, userid, dbid, toplevel, query, calls, total_exec_time, stddev_exec_time, min_exec_time,
                 max_exec_time, stats_since from pg_stat_statements
          where query = 'select pg_sleep($1)' and dbid = (select oid from pg_database where datname = current_database())"""


def test_stddev_is_the_populations_and_windows_subtract(cluster18: LocalCluster) -> None:
    def read(conn: psycopg.Connection[Any]) -> list[dict[str, Any]]:
        return conn.execute(READ.encode()).fetchall()

    def nap(conn: psycopg.Connection[Any], seconds: float, times: int) -> None:
        for _ in range(times):
            conn.execute(NAP.replace("%s", str(seconds)).encode())

    with psycopg.connect(cluster18.conninfo(), autocommit=True, row_factory=dict_row) as conn:
        conn.execute("create extension if not exists pg_stat_statements")
        conn.execute("select pg_stat_statements_reset()")
        nap(conn, 0.02, 1)
        nap(conn, 0.05, 1)
        (two,) = read(conn)
        half = (two["max_exec_time"] - two["min_exec_time"]) / 2
        assert two["calls"] == 2
        assert two["stddev_exec_time"] == pytest.approx(half)  # a sample's would be larger by the root of 2
        nap(conn, 0.03, 8)
        start = read(conn)
        nap(conn, 0.1, 2)  # the time of the build
        end = read(conn)
        nap(conn, 0.002, 8)
        observed = read(conn)
    now = datetime.now(UTC)
    phases = {"proposed": [two], "start": start, "end": end, "observed": observed}
    stats = {name: PhaseStats(name, now, None, tuple(rows)) for name, rows in phases.items()}
    result = verify(stats, VerificationPolicy(min_calls=8))
    (query,) = result.queries
    assert (query.calls_before, query.calls_after) == (8, 8)
    assert query.mean_before_ms == pytest.approx((start[0]["total_exec_time"] - two["total_exec_time"]) / 8)
    assert query.mean_after_ms == pytest.approx((observed[0]["total_exec_time"] - end[0]["total_exec_time"]) / 8)
    assert result.verdict == "improved"

"""The promise of the forecast from the command line: TPC-H on Debian's 15 over TLS with verify-full, as a plain monitor."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.bench.tpch_server import load, queries
from tests.cli.conftest import make_database, make_logins
from tests.cli.console_line import indexpilot
from tests.servers import TlsServer

DDL = "CREATE INDEX ON lineitem (l_partkey)"


def footprint(conn: psycopg.Connection[Any]) -> Any:
    """What would show if anything were written or installed."""
    return conn.execute(
        "select d.tup_inserted, d.tup_updated, d.tup_deleted, d.temp_files, (select count(*) from pg_class),"
        " (select count(*) from pg_proc), (select array_agg(extname::text order by extname) from pg_extension)"
        " from pg_stat_database d where d.datname = current_database()"
    ).fetchone()


def costs(conn: psycopg.Connection[Any]) -> dict[str, float]:
    found = {}
    for key, text in queries().items():
        row = conn.execute(b"explain (format json) " + text.encode()).fetchone()
        assert row is not None
        found[key] = float(row[0][0]["Plan"]["Total Cost"])
    return found


@pytest.mark.slow
def test_simulate_equals_explain_before_and_after_the_real_index(tls_server: TlsServer, tmp_path: Path) -> None:
    make_database(tls_server, "tpch")
    make_logins(tls_server)
    load(tls_server.conninfo("admin", "tpch"), 0.2)
    workload = tmp_path / "workload.json"
    workload.write_text(json.dumps([{"query": q, "calls": 1} for q in queries().values()]))
    with tls_server.connect("tpch") as conn:
        first = footprint(conn)
        target = tls_server.conninfo("mona", "tpch")
        ran = indexpilot("simulate", DDL, target, "--workload", str(workload), "--json")
        assert ran.status == 0, ran.err
        time.sleep(0.5)  # a backend reports its counters when it ends
        assert footprint(conn) == first
        before = costs(conn)
        conn.execute(DDL.encode())
        after = costs(conn)
        conn.execute("drop index lineitem_l_partkey_idx")
    forecast = ran.json
    assert forecast["backend"] == "shadow"
    assert not forecast["left_out"]
    keys = list(queries())
    errors = {}
    for key, q in zip(keys, forecast["queries"], strict=True):
        errors[key] = max(abs(q["cost_before"] / before[key] - 1), abs(q["cost_after"] / after[key] - 1))
    # the programs of the target's own major are on this machine; what 18 plans for 15 is held in tests/bench
    assert forecast["planner_version"] // 10_000 == 15
    assert max(errors.values()) < 0.001, errors
    with tls_server.connect() as conn:
        conn.execute("drop database tpch with (force)")

"""Databases of other encodings: the same costs, also where bytes are of no encoding at all."""

from __future__ import annotations

import secrets
from pathlib import Path

import psycopg
import pytest

from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.engine.whatif.bundle.capture import capture
from indexpilot_tui.engine.whatif.bundle.file import read_bundle, write_bundle
from indexpilot_tui.engine.whatif.bundle.session import BundleSession
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.simulate import Simulator
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from tests.conftest import socket_target

CASES = {
    "latin1": ("encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'", "latin1", "né", "vé"),
    "euc_jp": ("encoding 'EUC_JP' lc_collate 'C' lc_ctype 'C'", "euc_jp", "名前", "東京"),
    "sql_ascii, valid": ("encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'", "utf-8", "né", "vé"),
    "sql_ascii, any byte": ("encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'", "latin1", "né", "vé"),
    "utf8": ("encoding 'UTF8' lc_collate 'C.UTF-8' lc_ctype 'C.UTF-8'", "utf-8", "né", "vé"),
}


@pytest.fixture(params=[18, 15])
def cluster(request: pytest.FixtureRequest) -> LocalCluster:
    found: LocalCluster = request.getfixturevalue(f"cluster{request.param}")
    return found


@pytest.mark.parametrize("case", CASES)
async def test_costs_are_the_servers_in_every_encoding(case: str, cluster: LocalCluster, tmp_path: Path) -> None:
    options, encoding, column, value = CASES[case]
    query = f"select * from t where \"{column}\" < '{value}5' and w = 3"
    name = f"enc_{secrets.token_hex(3)}"
    with psycopg.connect(cluster.conninfo(), autocommit=True) as admin:
        admin.execute(f"create database {name} template template0 {options}".encode())
    with psycopg.connect(
        cluster.conninfo(name, client_encoding=encoding.replace("utf-8", "utf8")), autocommit=True
    ) as owner:
        if "any byte" in case:
            owner.execute("set client_encoding to sql_ascii")
        owner.execute(f'create table t (id int, w int, "{column}" text)'.encode(encoding))
        rows = f"insert into t select g, g % 7, '{value}' || g % 300 from generate_series(1, 20000) g"
        owner.execute(rows.encode(encoding))
        owner.execute("vacuum analyze t")
        explain = owner.execute(b"explain (format json) " + query.encode(encoding), binary=True)
        raw = explain.pgresult.get_value(0, 0) if explain.pgresult is not None else b""
        assert raw is not None
        real = float(raw.decode("latin1").split('"Total Cost": ')[1].split(",")[0])
    session = await connect(socket_target(cluster, name), Purpose.MONITOR, Settings())
    simulator = Simulator()
    try:
        statements = [Statement("1", query, 1.0)]
        for ddl in ("create index on t (w)", f'create index on t ("{column}")'):
            live = await simulator.simulate(session, ddl, statements)
            assert [(q.cost_before, x) for q, x in zip(live.queries, [real], strict=True)] == [(real, real)], live.left_out
            write_bundle(await capture(session), tmp_path / "b")
            filed = await simulator.simulate(BundleSession(read_bundle(tmp_path / "b")), ddl, statements)
            assert [(q.cost_before, q.cost_after) for q in filed.queries] == [
                (q.cost_before, q.cost_after) for q in live.queries
            ]
    finally:
        await simulator.close()
        await session.close()
        with psycopg.connect(cluster.conninfo(), autocommit=True) as admin:
            # nobody else can read the counters of this server while it keeps texts that are of no encoding
            admin.execute("create extension if not exists pg_stat_statements")
            admin.execute(f"select pg_stat_statements_reset(0, oid, 0) from pg_database where datname = '{name}'".encode())
            admin.execute(f"drop database {name} with (force)".encode())

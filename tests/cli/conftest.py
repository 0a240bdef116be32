"""A database on the TLS server with an application, the control schema, and three people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import yaml

from indexpilot_tui.engine.journal.setup import setup_sql
from tests.servers import TlsServer

LOGINS = ("mona", "olga", "anna")  # monitor, operator, approver


@dataclass(frozen=True)
class Site:
    """`config(**changes)` writes a configuration with the targets mona, olga and anna, one a login."""

    server: TlsServer
    dbname: str
    config: Callable[..., str]

    def admin(self) -> psycopg.Connection[tuple[object, ...]]:
        return self.server.connect(self.dbname)


def make_database(server: TlsServer, dbname: str) -> None:
    with server.connect() as conn:
        conn.execute(f"create database {dbname}".encode())
    with server.connect(dbname) as conn:
        conn.execute("create extension pg_stat_statements")
        conn.execute(setup_sql().encode())
        conn.execute("grant pg_read_all_data to indexpilot_monitor")


def make_logins(server: TlsServer) -> None:
    with server.connect() as conn:
        present = {row[0] for row in conn.execute("select rolname from pg_roles").fetchall()}
    for name in LOGINS:
        if name not in present:
            server.add_login(name, f"{name}-secret")
    with server.connect() as conn:
        if "app_owner" not in present:
            conn.execute("create role app_owner nologin")
        conn.execute("grant indexpilot_monitor to mona")
        conn.execute("grant indexpilot_operator, app_owner to olga")
        conn.execute("grant indexpilot_approver to anna")


@pytest.fixture
def site(tls_server: TlsServer, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    dbname = "site_" + "".join(c if c.isalnum() else "_" for c in request.node.name.lower())[:50]
    make_database(tls_server, dbname)
    make_logins(tls_server)
    with tls_server.connect(dbname) as conn:
        conn.execute("create schema app authorization app_owner")
        conn.execute("set role app_owner")
        conn.execute("create table app.orders (id bigint primary key, customer_id int not null, status text, note text)")
        conn.execute(
            "insert into app.orders select i, i % 20000, case when i % 100 = 0 then 'open' else 'done' end, repeat('x', 60)"
            " from generate_series(1, 200000) i"
        )
        conn.execute("analyze app.orders")
    count = 0

    def config(sslmode: str = "verify-full", **changes: object) -> str:
        nonlocal count
        count += 1
        data: dict[str, object] = {
            "targets": {
                name: {
                    "environment": "production", "host": "localhost", "hostaddr": "127.0.0.1", "port": tls_server.port,
                    "dbname": dbname, "user": name, "sslmode": sslmode, "sslrootcert": str(tls_server.ca),
                    "passfile": str(tls_server.passfile), "disk_capacity_mb": 1_000_000, "cores": 100,
                }
                for name in LOGINS
            },
            "production_safeguards": {"maintenance_window": {"enabled": False}},
            "verification": {"window_seconds": 5},
        } | changes  # fmt: skip
        path = tmp_path / f"config{count}.yaml"
        path.write_text(yaml.safe_dump(data))
        return str(path)

    yield Site(tls_server, dbname, config)
    with tls_server.connect() as conn:
        conn.execute(f"drop database {dbname} with (force)".encode())

"""Sessions against Debian's 15 over TLS and the embedded 18 over a socket: the TLS matrix, settings read back, words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from indexpilot_tui.engine.postgres.session import Purpose, connect, session
from indexpilot_tui.errors import ConfigError, ConnectError, UsageError
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target
from indexpilot_tui.settings.validated import validated
from tests.conftest import socket_target
from tests.servers import TlsServer

TLS = pytest.mark.family(22, no_oracle="sessions only, nothing is changed")


def tls_target(server: TlsServer, sslmode: str = "verify-full", **extra: str) -> Target:
    return Target(name="prod", dsn=server.conninfo("admin", "postgres", sslmode, **extra))


async def test_verify_full_is_authenticated(tls_server: TlsServer, settings: Settings) -> None:
    async with session(tls_target(tls_server), Purpose.MONITOR, settings) as s:
        assert s.facts.tls.authenticated
        assert s.facts.tls.version.startswith("TLSv1.")
        assert s.facts.tls.cipher
        assert s.facts.direct
        assert s.facts.server_version // 10000 == 15
        assert not s.facts.in_recovery
        assert s.facts.timeline == 1
        assert len(s.facts.system_identifier) > 15
        assert abs(s.facts.clock_skew_s) < 1


@TLS
@pytest.mark.parametrize(
    ("sslmode", "extra"),
    [
        ("require", {"sslrootcert": ""}),
        ("require", {}),  # libpq checks the CA then, and no name
        ("verify-ca", {"host": "otherhost"}),
    ],
)
async def test_encrypted_but_not_authenticated(
    tls_server: TlsServer, settings: Settings, sslmode: str, extra: dict[str, str]
) -> None:
    """Anybody with a certificate could be at the other end: good enough to look, and the gate `tls` refuses a change."""
    async with session(tls_target(tls_server, sslmode, **extra), Purpose.MONITOR, settings) as s:
        assert s.facts.tls.in_use
        assert not s.facts.tls.authenticated


@TLS
@pytest.mark.parametrize("sslmode", ["require", "verify-ca"])
async def test_another_authority_is_refused_wherever_one_is_named(
    tls_server: TlsServer, settings: Settings, sslmode: str
) -> None:
    with pytest.raises(ConnectError, match="certificate was not signed by the CA"):
        await connect(tls_target(tls_server, sslmode, sslrootcert=str(tls_server.wrong_ca)), Purpose.MONITOR, settings)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        pytest.param({"sslrootcert": "WRONG"}, "certificate was not signed by the CA", marks=TLS),
        pytest.param({"host": "otherhost"}, "as the certificate does", marks=TLS),
        pytest.param({"sslrootcert": "/nowhere/ca.crt"}, "sslrootcert=FILE", marks=TLS),
        ({"user": "nobody_here"}, "password"),
        ({"dbname": "no_such_db"}, "check dbname"),
        ({"port": "1"}, "check host and port"),
    ],
)
async def test_refusals_name_the_remedy(
    tls_server: TlsServer, settings: Settings, extra: dict[str, str], words: str
) -> None:
    extra = {k: str(tls_server.wrong_ca) if v == "WRONG" else v for k, v in extra.items()}
    user = extra.pop("user", "admin")
    dbname = extra.pop("dbname", "postgres")
    target = Target(name="prod", dsn=tls_server.conninfo(user, dbname, **extra))
    with pytest.raises(ConnectError) as caught:
        await connect(target, Purpose.MONITOR, settings)
    assert words in str(caught.value)
    assert "admin-secret" not in str(caught.value)
    assert caught.value.exit_status == 3


@TLS
async def test_production_refuses_a_session_in_clear(tls_server: TlsServer, settings: Settings) -> None:
    with pytest.raises(ConnectError, match="not encrypted"):  # decided before the server is asked
        await connect(tls_target(tls_server, "disable", sslrootcert=""), Purpose.MONITOR, settings)


@pytest.fixture
def lax(tls_server: TlsServer) -> Iterator[TlsServer]:
    """A server that also answers who does not encrypt: nothing but our own policy is in the way."""
    path = tls_server.root / "data" / "pg_hba.conf"
    before = path.read_text()
    path.write_text("host all all 127.0.0.1/32 scram-sha-256\n")
    try:
        reload(tls_server)
        yield tls_server
    finally:
        path.write_text(before)
        reload(tls_server)


def reload(server: TlsServer) -> None:
    with psycopg.connect(server.conninfo("admin", sslmode="prefer", sslrootcert=""), autocommit=True) as conn:
        conn.execute("select pg_reload_conf()")


@TLS
async def test_our_own_policy_refuses_a_session_in_clear(lax: TlsServer, settings: Settings) -> None:
    target = tls_target(lax, "disable", sslrootcert="")
    with pytest.raises(ConnectError, match="not encrypted"):
        await connect(target, Purpose.MONITOR, settings)
    async with session(replace(target, environment="development"), Purpose.MONITOR, settings) as s:
        assert not s.facts.tls.in_use


@TLS
async def test_a_server_without_tls(lax: TlsServer, settings: Settings) -> None:
    """`ssl` is switched off: the modes that demand it are refused by libpq, the one that only prefers it by us."""
    with lax.connect() as conn:
        conn.execute("alter system set ssl = off")
        conn.execute("select pg_reload_conf()")
    try:
        for sslmode in ("verify-full", "require"):
            with pytest.raises(ConnectError, match="does not support SSL|not support"):
                await until_off(lax, sslmode, settings)
        with pytest.raises(ConnectError, match="not encrypted"):
            await connect(tls_target(lax, "prefer", sslrootcert=""), Purpose.MONITOR, settings)
    finally:
        with psycopg.connect(lax.conninfo("admin", sslmode="prefer", sslrootcert=""), autocommit=True) as conn:
            conn.execute("alter system reset ssl")
            conn.execute("select pg_reload_conf()")


async def until_off(server: TlsServer, sslmode: str, settings: Settings) -> None:
    """Connect until the server has taken up its new configuration and refuses."""
    for _ in range(100):
        async with session(tls_target(server, sslmode), Purpose.MONITOR, settings):
            await asyncio.sleep(0.02)


@TLS
@pytest.mark.parametrize("where", ["service file", "PGSERVICE", "PGSSLMODE"])
async def test_a_mode_that_comes_from_elsewhere_is_judged_all_the_same(
    lax: TlsServer, settings: Settings, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service file or the environment says sslmode=disable. What the target says itself wins over both."""
    fields = {
        "name": "prod", "host": "localhost", "hostaddr": "127.0.0.1", "port": lax.port, "dbname": "postgres", "user": "admin",
        "passfile": str(lax.passfile), "sslrootcert": str(lax.ca),
    }  # fmt: skip
    if where == "PGSSLMODE":
        monkeypatch.setenv("PGSSLMODE", "disable")
    else:
        services = tmp_path / "services"
        services.write_text("[shop]\nsslmode=disable\n")
        monkeypatch.setenv("PGSERVICEFILE", str(services))
        if where == "PGSERVICE":
            monkeypatch.setenv("PGSERVICE", "shop")
        else:
            fields["service"] = "shop"
    with pytest.raises(ConnectError, match="not encrypted") as caught:
        await connect(validated(Target, fields), Purpose.MONITOR, settings)
    assert "sslmode=verify-full" in str(caught.value)
    async with session(validated(Target, fields | {"sslmode": "verify-full"}), Purpose.MONITOR, settings) as s:
        assert s.facts.tls.authenticated


async def test_production_defaults_to_verify_full(tls_server: TlsServer, settings: Settings) -> None:
    target = Target(
        name="prod", host="localhost", hostaddr="127.0.0.1", port=tls_server.port, dbname="postgres", user="admin",
        sslrootcert=str(tls_server.ca), passfile=str(tls_server.passfile),
    )  # fmt: skip
    async with session(target, Purpose.MONITOR, settings) as s:
        assert s.facts.tls.sslmode == "verify-full"


async def test_a_password_in_the_target_is_refused_and_not_repeated(settings: Settings) -> None:
    with pytest.raises(ConfigError) as caught:
        await connect(Target(dsn="postgresql://u:s3cr3t@h/d"), Purpose.MONITOR, settings)
    assert "s3cr3t" not in str(caught.value)
    with pytest.raises(UsageError) as parse:
        await connect(Target(dsn="postgresql://u:s3c r3t%zz@h/d"), Purpose.MONITOR, settings)
    assert "r3t" not in str(parse.value)


async def test_password_command_is_run_at_each_connect(tls_server: TlsServer, settings: Settings, tmp_path: object) -> None:
    command = ("/bin/sh", "-c", f"echo x >> {tmp_path}/runs; echo admin-secret")
    target = replace(tls_target(tls_server, passfile=""), password_command=command)
    for _ in range(2):
        async with session(target, Purpose.MONITOR, settings):
            pass
    with open(f"{tmp_path}/runs") as f:
        assert len(f.readlines()) == 2
    failing = replace(target, password_command=("/bin/sh", "-c", "echo hush; exit 3"))
    with pytest.raises(ConnectError) as caught:
        await connect(failing, Purpose.MONITOR, settings)
    assert "hush" not in str(caught.value)


async def test_monitor_is_read_only_and_short(cluster18: LocalCluster, settings: Settings) -> None:
    async with session(socket_target(cluster18, "postgres"), Purpose.MONITOR, settings) as s:
        assert s.readback["default_transaction_read_only"] == "on"
        assert s.readback["statement_timeout"] == "5s"
        assert s.readback["lock_timeout"] == "100ms"
        with pytest.raises(Exception, match="read-only"):
            await s.execute("create table public.x (a int)")


async def test_executor_knows_no_timeout_whatever_the_role_says(cluster18: LocalCluster, settings: Settings) -> None:
    with psycopg.connect(cluster18.conninfo(), autocommit=True) as conn:
        conn.execute("create role hasty login superuser")
        conn.execute("alter role hasty set statement_timeout = '2s'")
        conn.execute("alter role hasty set lock_timeout = '1s'")
        conn.execute("alter role hasty set transaction_timeout = '3s'")
        conn.execute("alter role hasty set idle_session_timeout = '1s'")
    async with session(socket_target(cluster18, "postgres", "hasty"), Purpose.EXECUTOR, settings) as s:
        for name in ("statement_timeout", "lock_timeout", "transaction_timeout", "idle_session_timeout"):
            assert s.readback[name] == "0"
            assert await s.value(f"show {name}") == "0"

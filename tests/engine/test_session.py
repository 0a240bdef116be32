"""Sessions against Debian's 15 over TLS and the embedded 18 over a socket: the TLS matrix, settings read back, words."""

from __future__ import annotations

import psycopg
import pytest

from indexpilot_tui.engine.postgres.session import Purpose, connect, session
from indexpilot_tui.errors import ConfigError, ConnectError, UsageError
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target
from tests.conftest import socket_target
from tests.servers import TlsServer


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


async def test_require_is_encrypted_but_not_authenticated(tls_server: TlsServer, settings: Settings) -> None:
    async with session(tls_target(tls_server, "require", sslrootcert=""), Purpose.MONITOR, settings) as s:
        assert s.facts.tls.in_use
        assert not s.facts.tls.authenticated


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"sslrootcert": "WRONG"}, "certificate was not signed by the CA"),
        ({"host": "otherhost"}, "as the certificate does"),
        ({"sslrootcert": "/nowhere/ca.crt"}, "sslrootcert=FILE"),
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


async def test_production_refuses_a_session_in_clear(tls_server: TlsServer, settings: Settings) -> None:
    with pytest.raises(ConnectError, match="pg_hba|not encrypted"):
        await connect(tls_target(tls_server, "disable", sslrootcert=""), Purpose.MONITOR, settings)
    with tls_server.connect() as conn:
        hba = conn.execute("show hba_file").fetchone()
    assert hba is not None
    path = tls_server.root / "data" / "pg_hba.conf"
    before = path.read_text()
    path.write_text("host all all 127.0.0.1/32 scram-sha-256\n")
    try:
        with tls_server.connect() as conn:
            conn.execute("select pg_reload_conf()")
        with pytest.raises(ConnectError, match="not encrypted"):
            await connect(tls_target(tls_server, "disable", sslrootcert=""), Purpose.MONITOR, settings)
        lax = tls_target(tls_server, "disable", sslrootcert="").model_copy(update={"environment": "development"})
        async with session(lax, Purpose.MONITOR, settings) as s:
            assert not s.facts.tls.in_use
    finally:
        path.write_text(before)
        with tls_server.connect() as conn:
            conn.execute("select pg_reload_conf()")


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
    target = tls_target(tls_server, passfile="").model_copy(update={"password_command": command})
    for _ in range(2):
        async with session(target, Purpose.MONITOR, settings):
            pass
    with open(f"{tmp_path}/runs") as f:
        assert len(f.readlines()) == 2
    failing = target.model_copy(update={"password_command": ("/bin/sh", "-c", "echo hush; exit 3")})
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

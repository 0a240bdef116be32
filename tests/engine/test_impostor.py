"""Whoever answers in the server's place, or asks for more than a proof, gets not a byte of the password."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from indexpilot_tui.cli.main import run
from indexpilot_tui.engine.postgres import auth
from indexpilot_tui.engine.postgres.session import Purpose, connect, session
from indexpilot_tui.errors import ConfigError, ConnectError, IndexPilotError
from indexpilot_tui.settings.model import Settings, Target
from indexpilot_tui.settings.validated import validated
from tests.engine.test_session import lax, reload  # noqa: F401 - lax is a fixture
from tests.servers import TlsServer

PASSWORD = "kanari-0815"
ASKS = {"cleartext": struct.pack("!cIi", b"R", 8, 3), "md5": struct.pack("!cIi4s", b"R", 12, 5, b"salt")}
WELCOME = struct.pack("!cIi", b"R", 8, 0) + struct.pack("!cIc", b"Z", 5, b"I")
TLS = pytest.mark.family(22, no_oracle="sessions only, nothing is changed")


@asynccontextmanager
async def impostor(first: bytes, certificate: TlsServer | None = None) -> AsyncIterator[tuple[int, bytearray]]:
    """A server that answers a start-up with `first`, and what it was sent after that."""
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (size,) = struct.unpack("!I", await reader.readexactly(4))
                body = await reader.readexactly(size - 4)
                if struct.unpack("!I", body[:4])[0] != 80877103:  # SSLRequest
                    break
                if certificate is None:
                    writer.write(b"N")
                    continue
                writer.write(b"S")
                context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                context.load_cert_chain(certificate.root / "server.crt", certificate.root / "server.key")
                await writer.start_tls(context)
            writer.write(first)
            while data := await reader.read(1000):
                heard.extend(data)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


def target_at(port: int, tmp_path: Path, **fields: object) -> Target:
    passfile = tmp_path / "pgpass"
    passfile.touch(mode=0o600)
    passfile.write_text(f"*:*:*:*:{PASSWORD}\n")
    return validated(Target, {
        "name": "t", "environment": "development", "host": "localhost", "hostaddr": "127.0.0.1", "port": port, "dbname": "d",
        "user": "u", "passfile": str(passfile), "sslmode": "prefer",
    } | fields)  # fmt: skip


@TLS
@pytest.mark.parametrize("method", ASKS)
@pytest.mark.parametrize("over_tls", [False, True])
async def test_a_server_that_asks_for_the_password_gets_nothing(
    tls_server: TlsServer, settings: Settings, tmp_path: Path, method: str, over_tls: bool
) -> None:
    trust = {"sslmode": "verify-full", "sslrootcert": str(tls_server.ca), "environment": "production"} if over_tls else {}
    async with impostor(ASKS[method], tls_server if over_tls else None) as (port, heard):
        with pytest.raises(ConnectError, match="nothing was sent|channel binding") as caught:
            await connect(target_at(port, tmp_path, **trust), Purpose.MONITOR, settings)
    assert bytes(heard).strip(b"X\0\4") == b""
    assert PASSWORD not in str(caught.value)


@TLS
async def test_a_variable_cannot_admit_it(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGREQUIREAUTH", "password,md5,none")
    monkeypatch.setenv("PGCHANNELBINDING", "disable")
    async with impostor(ASKS["cleartext"]) as (port, heard):
        with pytest.raises(ConnectError, match="cleartext"):
            await connect(target_at(port, tmp_path), Purpose.MONITOR, settings)
        assert not heard
        dsn = f"host=127.0.0.1 port={port} dbname=d user=u require_auth=password"
        with pytest.raises(ConfigError, match="require_auth"):
            await connect(Target(name="t", environment="development", dsn=dsn), Purpose.MONITOR, settings)


@TLS
async def test_a_server_that_asks_for_nothing_is_none_unless_configured(settings: Settings, tmp_path: Path) -> None:
    async with impostor(WELCOME) as (port, _):
        with pytest.raises(ConnectError, match="allow_auth"):
            await connect(target_at(port, tmp_path), Purpose.MONITOR, settings)


@pytest.fixture
def methods(lax: TlsServer) -> Iterator[TlsServer]:  # noqa: F811
    """Logins whose pg_hba.conf line asks for each method."""
    path = lax.root / "data" / "pg_hba.conf"
    lines = [f"host all by_{name} 127.0.0.1/32 {name}\n" for name in ("md5", "password", "trust")]
    with lax.connect() as conn:
        for name in ("md5", "password", "trust"):
            conn.execute(f"set password_encryption = '{'md5' if name == 'md5' else 'scram-sha-256'}'".encode())
            conn.execute(f"create role by_{name} login password '{PASSWORD}'".encode())
    path.write_text("".join(lines) + path.read_text())
    reload(lax)
    yield lax
    with lax.connect() as conn:
        conn.execute("drop role by_md5, by_password, by_trust")


@TLS
async def test_each_method_logs_in_only_where_it_is_allowed(methods: TlsServer, settings: Settings, tmp_path: Path) -> None:
    proven = {"sslmode": "verify-full", "sslrootcert": str(methods.ca), "dbname": "postgres"}
    for name, allowed in (("md5", "md5"), ("password", "password"), ("trust", "none")):
        asked = target_at(methods.port, tmp_path, user=f"by_{name}", **proven)
        with pytest.raises(ConnectError):
            await connect(asked, Purpose.MONITOR, settings)
        async with session(replace(asked, allow_auth=(allowed,)), Purpose.MONITOR, settings) as s:
            assert s.facts.session_user == f"by_{name}"
        for other in {"md5", "password", "none"} - {allowed}:
            with pytest.raises(ConnectError):
                await connect(replace(asked, allow_auth=(other,)), Purpose.MONITOR, settings)
    # a server that has not proven who it is may be asked for no cleartext, whatever is configured
    for mode in ("require", "verify-ca", "prefer", "disable"):
        weak = replace(asked, user="by_password", allow_auth=("password",), sslmode=mode)
        with pytest.raises(ConfigError, match="verify-full only"):
            await connect(weak, Purpose.MONITOR, settings)


@TLS
async def test_the_channel_is_bound_where_the_server_can(tls_server: TlsServer) -> None:
    target = Target(name="t", dsn=tls_server.conninfo("admin"))
    used = auth.effective({"host": "localhost", "sslmode": "verify-full"})
    assert auth.demands(target, used) == {"require_auth": "scram-sha-256", "channel_binding": "require"}
    assert auth.demands(replace(target, allow_auth=("password",)), used)["require_auth"] == "password,scram-sha-256"
    assert auth.demands(replace(target, allow_auth=("certificate",)), used) == {
        "require_auth": "none,scram-sha-256", "channel_binding": "prefer", "sslcertmode": "require",
    }  # fmt: skip


PLACES = {
    "key": ("sslmode: {mode}", {}, ""),
    "conninfo": ("dsn: host=h dbname=d sslmode={mode}", {}, ""),
    "URI": ("dsn: postgresql://u@h/d?sslmode={mode}", {}, ""),
    "service": ("service: shop", {}, "[shop]\nhost=h\nsslmode={mode}\n"),
    "PGSERVICE": ("dbname: d", {"PGSERVICE": "shop"}, "[shop]\nhost=h\nsslmode={mode}\n"),
    "PGSSLMODE": ("host: h", {"PGSSLMODE": "{mode}"}, ""),
}


@pytest.mark.parametrize("place", PLACES)
def test_validate_refuses_production_in_clear_wherever_it_is_said(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said, variables, service = PLACES[place]
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    if place == "key":
        said += "\n    host: h"
    file = tmp_path / "c.yaml"
    for mode, status in (("disable", 64), ("allow", 64), ("prefer", 64), ("require", 0), ("verify-full", 0)):
        (tmp_path / "services").write_text(service.format(mode=mode))
        for name, value in variables.items():
            monkeypatch.setenv(name, value.format(mode=mode))
        file.write_text(f"targets:\n  orders:\n    {said.format(mode=mode)}\n")
        assert run(["config", "validate", "--config", str(file)]) == status, mode
        told = capsys.readouterr()
        assert ("not encrypted" in told.err) == (status == 64)
        file.write_text(file.read_text() + "    environment: staging\n")
        assert run(["config", "validate", "--config", str(file)]) == 0


FILE = "targets:\n  orders: {host: db1, dbname: shop}\n  tests: {host: db2, dbname: shop, environment: development}\n"


@pytest.mark.parametrize("arguments", [
    ("--check", "orders"), ("simulate", "create index on t (a)", "orders"), ("changes", "list", "orders"), ("advise", "tests"),
    ("--check", "host=db1 dbname=shop"), ("--check", "postgresql://DB1:5432/shop"), ("changes", "list", "host=x,db1 dbname=shop"),
])  # fmt: skip
def test_no_flag_weakens_a_target(arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(FILE)
    assert run([*arguments, "--environment", "development", "--config", str(file)]) == 64
    assert "weakens" in capsys.readouterr().err


def test_no_variable_weakens_a_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(FILE)
    monkeypatch.setenv("INDEXPILOT__TARGETS__ORDERS__ENVIRONMENT", "development")
    assert run(["config", "validate", "--config", str(file)]) == 64
    assert "no variable weakens" in capsys.readouterr().err
    monkeypatch.setenv("INDEXPILOT__TARGETS__ORDERS__ENVIRONMENT", "production")
    monkeypatch.setenv("INDEXPILOT__TARGETS__TESTS__ENVIRONMENT", "production")  # stricter is fine
    assert run(["config", "validate", "--config", str(file)]) == 0


def test_what_an_exception_is_for_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("targets:\n  orders: {host: h, allow_auth: [password], allow_auth_reason: IAM tokens}\n")
    assert run(["config", "validate", "--config", str(file)]) == 0
    assert "orders may log in by password, too: IAM tokens" in capsys.readouterr().out


async def test_an_old_libpq_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psycopg.pq, "version", lambda: 150000)
    monkeypatch.setattr(auth.pq, "version", lambda: 150000)
    with pytest.raises(IndexPilotError, match="cannot refuse"):
        auth.check(Target(name="t"), {})

"""Behind pgbouncer in transaction mode: looking works and sets nothing that could leak; changing is refused."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest

from indexpilot_tui.engine.model.verdict import Status
from indexpilot_tui.engine.observe.observer import Watcher
from indexpilot_tui.engine.postgres.session import Purpose, connect, session
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.gates import database_now, evaluate
from indexpilot_tui.errors import ConnectError
from indexpilot_tui.settings.model import Settings, Target
from tests.servers import TlsServer, free_port, require


@dataclass
class Pooler:
    server: TlsServer
    port: int

    def target(self) -> Target:
        return Target(name="pooled", dsn=self.server.conninfo("admin", port=str(self.port)))


@pytest.fixture
def pooler(tls_server: TlsServer, tmp_path: Path) -> Iterator[Pooler]:
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    require(os.path.exists(program), "pgbouncer")
    folder = tls_server.root / "bouncer"
    folder.mkdir(exist_ok=True)
    port = free_port()
    (folder / "users").write_text('"admin" "admin-secret"\n')
    for name in ("server.key", "server.crt"):
        shutil.copy(tls_server.root / name, folder / name)
    (folder / "ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={tls_server.port}\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\n"
        f"unix_socket_dir=\nauth_type=scram-sha-256\nauth_file={folder}/users\npool_mode=transaction\nserver_tls_sslmode=require\n"
        f"client_tls_sslmode=require\nclient_tls_key_file={folder}/server.key\nclient_tls_cert_file={folder}/server.crt\n"
        "max_client_conn=50\ndefault_pool_size=2\n"
    )
    account: dict[str, object] = {}
    if os.geteuid() == 0:
        entry = pwd.getpwnam("postgres")
        account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "postgres", "postgres")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, folder / "ini"], stdout=log, stderr=log, cwd="/", **account)  # type: ignore[call-overload]
    try:
        for _ in range(50):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield Pooler(tls_server, port)
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


@pytest.mark.family(9, no_oracle="sessions only, nothing is changed")
async def test_a_pooler_that_cannot_bind_the_channel_has_to_prove_who_it_is(pooler: Pooler, settings: Settings) -> None:
    """Measured: pgbouncer offers SCRAM without channel binding. With its certificate checked that is good enough."""
    lax = Target(name="pooled", dsn=pooler.server.conninfo("admin", sslmode="require", port=str(pooler.port)))
    with pytest.raises(ConnectError, match="channel binding"):
        await connect(lax, Purpose.MONITOR, settings)
    async with session(replace(lax, channel_binding="prefer"), Purpose.MONITOR, settings) as s:
        assert s.facts.tls.in_use


@pytest.mark.family(9, no_oracle="sessions only, nothing is changed")
async def test_looking_works_and_leaves_no_setting_behind(pooler: Pooler, settings: Settings) -> None:
    async with session(pooler.target(), Purpose.MONITOR, settings) as s:
        assert not s.facts.direct
        assert s.readback == {}
        watcher = Watcher(settings)
        for _ in range(12):  # more than it takes for a question to be prepared, were it not behind a pooler
            seen = await watcher.refresh(s)
            assert seen.error == ""
        assert seen.refused == ()
        assert seen.activity.active_backends is not None
        assert seen.health is not None
        assert seen.cost.round_trips == 1
    with psycopg.connect(pooler.server.conninfo("admin", port=str(pooler.port)), autocommit=True) as conn:
        for _ in range(5):
            assert conn.execute("show statement_timeout").fetchone() == ("0",)
            assert conn.execute("show search_path").fetchone() == ('"$user", public',)


@pytest.mark.family(9, no_oracle="sessions only, nothing is changed")
async def test_changing_is_refused(pooler: Pooler, settings: Settings) -> None:
    for purpose in (Purpose.EXECUTOR, Purpose.OBSERVER, Purpose.CONTROL):
        with pytest.raises(ConnectError, match="pooler"):
            await connect(pooler.target(), purpose, settings)
    async with session(pooler.target(), Purpose.MONITOR, settings) as s:
        now = await database_now(s)
        verdicts = await evaluate(GateContext(target=pooler.target(), settings=settings, session=s, now=now))
    direct = next(v for v in verdicts if v.guard == "direct_session")
    assert direct.status is Status.BLOCK

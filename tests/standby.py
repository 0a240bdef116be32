"""A streaming standby of a LocalCluster, on a unix socket of its own, for the time of a block."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from indexpilot_tui.localpg import LocalCluster


@dataclass
class Standby:
    """`conninfo` is that of the primary with this socket."""

    primary: LocalCluster
    root: Path
    process: subprocess.Popen[bytes]

    def conninfo(self, dbname: str = "postgres", user: str | None = None) -> str:
        return make_conninfo(self.primary.conninfo(dbname, user), host=str(self.root))

    def connect(self, dbname: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.conninfo(dbname), autocommit=True)

    def promote(self) -> None:
        """It becomes a primary of its own, on the next timeline."""
        with self.connect() as conn:
            conn.execute("select pg_promote(true, 60)")

    def caught_up(self, seconds: float = 20.0) -> None:
        """Wait until it has replayed what the primary has written so far."""
        with psycopg.connect(self.primary.conninfo(), autocommit=True) as conn:
            row = conn.execute("select pg_current_wal_insert_lsn()::text").fetchone()
        assert row
        end = time.monotonic() + seconds
        with self.connect() as conn:
            while conn.execute("select pg_last_wal_replay_lsn() >= %s::pg_lsn", (row[0],)).fetchone() != (True,):
                assert time.monotonic() < end, "the standby does not catch up"
                time.sleep(0.05)


@contextmanager
def standby_of(primary: LocalCluster, name: str = "standby1") -> Iterator[Standby]:
    """Make it from a base backup and start it."""
    root = Path(tempfile.mkdtemp(prefix="ixp-sb-"))
    os.chown(root, primary.owner_uid, primary.owner_gid)
    account = {"user": primary.owner_uid, "group": primary.owner_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    data = root / "data"
    server = None
    # The standby is the server's own user, whom peer authentication does not know.
    hba = primary.data_dir / "pg_hba.conf"
    hba.write_text("local replication all trust\n" + hba.read_text())
    with psycopg.connect(primary.conninfo(), autocommit=True) as conn:
        conn.execute("select pg_reload_conf()")
    environment = {"PATH": os.environ["PATH"], "PGAPPNAME": name}
    try:
        subprocess.run(
            [primary.bindir / "pg_basebackup", "-h", str(primary.socket_dir), "-p", str(primary.port), "-U", primary.superuser,
             "-D", data, "-R", "-X", "stream", "-c", "fast"],
            check=True, capture_output=True, cwd="/", env=environment, **account,  # type: ignore[call-overload]
        )  # fmt: skip
        server = subprocess.Popen(
            [primary.bindir / "postgres", "-D", data, "-c", f"unix_socket_directories={root}", "-c", "listen_addresses=",
             "-c", f"cluster_name={name}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **account,  # type: ignore[call-overload]
        )  # fmt: skip
        made = Standby(primary, root, server)
        _wait_for(made.conninfo())
        yield made
    finally:
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGQUIT)
            server.wait(20)
        shutil.rmtree(root, ignore_errors=True)


def _wait_for(dsn: str) -> None:
    for _ in range(100):
        try:
            psycopg.connect(dsn).close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the standby did not start")

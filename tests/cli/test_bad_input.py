"""Bad input: one clear message, the documented exit status, no traceback."""

from __future__ import annotations

import os
import pty
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path

import pytest

from tests.cli.conftest import Site
from tests.cli.console_line import ROOT, indexpilot


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (("simulate", "select 1", "x"), 64, "not an index statement"),
        (("simulate", "create index on t(a)", "no-such-target"), 64, "no target of this name"),
        (("simulate", "create index on t(a)"), 64, "no target was given"),
        (("simulate", "create index on t(a)", "postgresql://u:hunter2@h/d"), 64, "must not stand here"),
        (("--check", "host=127.0.0.1 port=1 dbname=x user=y"), 3, "cannot connect"),
        (("--check", "--config", "/no/such.yaml"), 64, "no such file"),
        (("--check", "--format", "xml"), 64, "xml"),
        (("--no-such-flag",), 64, "--no-such-flag"),
        (("changes", "show", "x"), 64, "x"),
        (("--demo", "orders"), 64, "the demo brings its own target"),
        (("simulate", "create index on t(a)", "host=h", "--workload", "/no/such.sql"), 64, "/no/such.sql"),
    ],
)
def test_without_a_server(args: tuple[str, ...], status: int, words: str) -> None:
    ran = indexpilot(*args)
    assert ran.status == status, ran.err
    assert words in ran.err + ran.out
    assert "hunter2" not in ran.err + ran.out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"? [a]\n: b\n", "line 1: a list or mapping is no key"),
        (b"targets: {a: {host: h}, a: {host: i}}\n", "given twice"),
        (b"date: 2020-99-99\n", "not valid YAML"),
        (b"a: " + b"[" * 3000, "not valid YAML"),
        (b"\xff\xfe", "save it as UTF-8"),
        (b"targets: {a: }\n", "targets.a = None: must hold keys and values"),
        (b"1: 2\n", "a key must be a word"),
    ],
)
def test_a_configuration_file_that_is_none(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(text)
    ran = indexpilot("config", "validate", "--config", str(path))
    assert ran.status == 64, ran.err
    assert words in ran.err
    assert "remedy" in ran.err


def test_a_mistyped_target_is_told_before_any_is_asked() -> None:
    ran = indexpilot("--check", "host=127.0.0.1 port=1 dbname=x", "no-such-target")
    assert ran.status == 64, ran.err
    assert "no-such-target" in ran.err


def test_bad_configuration(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("targets: {a: {host: h, password: hunter2, prot: x}}\nobserve: {interval_seconds: fast}\n")
    ran = indexpilot("config", "validate", "--config", str(path))
    assert ran.status == 64
    for words in ("targets.a.password", "did you mean port?", "observe.interval_seconds = 'fast'"):
        assert words in ran.err
    assert "hunter2" not in ran.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"port": "1"}, "check host and port"),
        ({"sslrootcert": "WRONG"}, "not signed by the CA"),
        ({"host": "otherhost"}, "as the certificate does"),
        ({"user": "stranger"}, "password"),
        ({"dbname": "no_such_db"}, "check dbname"),
    ],
)
def test_a_target_that_cannot_be_reached(site: Site, change: dict[str, str], words: str) -> None:
    change = {k: str(site.server.wrong_ca) if v == "WRONG" else v for k, v in change.items()}
    user, dbname = change.pop("user", "olga"), change.pop("dbname", site.dbname)
    ran = indexpilot("simulate", "create index on app.orders(note)", site.server.conninfo(user, dbname, **change))
    assert ran.status == 3, ran.err
    assert words in ran.err
    assert "secret" not in ran.err


def test_a_table_that_is_not_there(site: Site) -> None:
    for args in (
        ("simulate", "create index on app.nope(a)", "olga"),
        ("changes", "propose", "create index on app.nope(a)", "olga", "--reason", "x"),
    ):
        ran = indexpilot(*args, "--config", site.config())
        assert ran.status == 64, ran.err
        assert "app.nope" in ran.err


@pytest.mark.parametrize(
    "name", ["pg_catalog.pg_class (relname)", "app.orders_pkey (id)", "information_schema.tables (table_name)"]
)
def test_what_bears_no_index(site: Site, name: str) -> None:
    ran = indexpilot("simulate", f"create index on {name}", "olga", "--config", site.config())
    assert ran.status == 64, ran.err
    assert "name a table" in ran.err


def test_a_column_that_is_not_there(site: Site) -> None:
    for args in (
        ("simulate", "create index on app.orders(nope)", "olga"),
        ("changes", "propose", "create index on app.orders(nope)", "olga", "--reason", "x"),
    ):
        ran = indexpilot(*args, "--config", site.config())
        assert ran.status == 64, ran.err
        assert "nope" in ran.err


def test_a_missing_control_schema(site: Site) -> None:
    with site.admin() as conn:
        conn.execute("drop schema indexpilot cascade")
    ran = indexpilot(
        "changes", "propose", "create index on app.orders(note)", "olga", "--reason", "x", "--config", site.config()
    )
    assert ran.status == 3
    assert "setup-sql" in ran.err


def test_a_role_without_rights(site: Site) -> None:
    site.server.add_login("nobody_much", "nobody-secret")
    target = site.server.conninfo("nobody_much", site.dbname)
    ran = indexpilot("simulate", "create index on app.orders(note)", target)
    assert ran.status in (0, 3), ran.err
    assert "GRANT" in (ran.err + ran.out) or "grant" in (ran.err + ran.out)
    ran = indexpilot("changes", "propose", "create index on app.orders(note)", target, "--reason", "x")
    assert ran.status == 3, ran.err
    assert "indexpilot_operator" in ran.err


def in_terminal(cols: int, rows: int, term: str) -> tuple[int, str]:
    """Start the demo console in a terminal of this size and kind, and see it refuse."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")} | {"TERM": term}
    process = subprocess.Popen(
        [sys.executable, "-m", "indexpilot_tui", "--demo"], stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env=env
    )
    os.close(slave)
    said, end = b"", time.monotonic() + 20
    while time.monotonic() < end:
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        if not data:
            break
        said += data
    os.close(master)
    return process.wait(20), said.decode()


@pytest.mark.parametrize(("cols", "rows", "term"), [(60, 15, "xterm-256color"), (120, 40, "dumb")])
def test_a_terminal_that_cannot_show_it(cols: int, rows: int, term: str) -> None:
    status, said = in_terminal(cols, rows, term)
    assert status == 64
    assert "--check" in said
    assert "Traceback" not in said
    assert "\x1b[?1049h" not in said

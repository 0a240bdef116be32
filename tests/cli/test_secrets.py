"""A canary in every place that a secret can stand in, and none of them in any place that is written, shown or printed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import yaml

from tests.cli.conftest import Site
from tests.cli.console_line import ROOT, indexpilot

DDL = "CREATE INDEX ON app.orders (customer_id)"
CANARY = {
    "command": "kanari-command-4711", "noise": "kanari-stderr-4712", "pgpass": "kanari-pgpass-4713", "env": "kanari-env-4714",
    "named": "kanari-named-4715", "service": "kanari-service-4716", "uri": "kanari-uri-4717", "yaml": "kanari-yaml-4718",
    "sql": "kanari-sql-4719",
}  # fmt: skip
_written = pytest.mark.family(24, no_oracle="what is written is searched, no fault is injected into a change")


@contextlib.contextmanager
def seen_by_ps() -> Iterator[set[str]]:
    """Every command line of every process while the block runs."""
    found: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    found.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            over.wait(0.02)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def canaries_in(text: str) -> list[str]:
    return [name for name, word in CANARY.items() if word in text]


@pytest.fixture
def login(site: Site) -> Iterator[str]:
    """An operator whose password is a canary; the roles of the site are the server's, so it goes with the site."""
    name = "kanari"
    with site.admin() as conn:
        conn.execute(f"create role {name} login password '{CANARY['command']}'".encode())
        conn.execute(f"grant indexpilot_operator, app_owner to {name}".encode())
    yield name
    with site.admin() as conn:
        conn.execute(f"drop role {name}".encode())


@pytest.fixture
def places(site: Site, login: str, tmp_path: Path) -> tuple[str, dict[str, str], Path]:
    """A configuration whose password comes from a command, with canaries in all other sources; its environment, its home."""
    home = tmp_path / "home"
    home.mkdir()
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    (inputs / "pgpass").touch(mode=0o600)
    (inputs / "pgpass").write_text(f"*:*:*:*:{CANARY['pgpass']}\n")
    (inputs / "service").write_text(f"[kanari]\nuser={login}\npassword={CANARY['service']}\n")
    (inputs / "token").write_text(CANARY["command"])
    command = inputs / "command"
    command.write_text(f"#!/bin/sh\necho {CANARY['noise']} >&2\ncat {inputs}/token\n")
    command.chmod(0o700)
    data = yaml.safe_load(Path(site.config()).read_text())
    target = data["targets"].pop("olga")
    data["targets"] = {
        "kanari": target | {
            "user": login, "passfile": str(inputs / "pgpass"), "service": "kanari", "password_command": [str(command)],
            "password_env": "KANARI_NAMED",
        }
    }  # fmt: skip
    data["operational"] = {"structured_logging": {"log_level": "DEBUG", "file": str(home / "log.jsonl")}}
    config = tmp_path / "kanari.yaml"
    config.write_text(yaml.safe_dump(data))
    env = {
        "PGPASSWORD": CANARY["env"], "KANARI_NAMED": CANARY["named"], "PGSERVICEFILE": str(inputs / "service"),
        "DB_PASSWORD": CANARY["env"], "API_SECRET_KEY": CANARY["env"], "HOME": str(home), "XDG_STATE_HOME": str(home / "state"),
    }  # fmt: skip
    return str(config), env, home


@_written
def test_no_canary_in_anything_that_is_written(site: Site, places: tuple[str, dict[str, str], Path], tmp_path: Path) -> None:
    config, env, home = places
    with site.admin() as conn:
        for _ in range(5):
            conn.execute(f"alter role kanari password '{CANARY['command']}'".encode())
            conn.execute("select count(*) from app.orders where customer_id = 17")

    def run(*args: str) -> str:
        ran = indexpilot(*args, "--config", config, env=env)
        assert ran.status in (0, 1, 2), ran.err  # a check may warn
        return ran.out + ran.err

    with seen_by_ps() as commands:
        said = [
            run("config", "show"), run("config", "show", "--json"), run("--check", "kanari", "--format", "json"),
            run("changes", "propose", DDL, "kanari", "--reason", "slow", "--json"),
        ]  # fmt: skip
        assert indexpilot("changes", "approve", "1", "anna", "--config", site.config()).status == 0
        said += [
            run("changes", "apply", "1", "kanari", "--json"), run("audit", "show", "kanari", "--json"),
            run("audit", "export", "kanari", "-o", str(home / "export")), run("backup", "kanari", "-o", str(home / "backup")),
            run("capture", "kanari", "-o", str(home / "bundle")), run("simulate", DDL, "kanari", "--json"),
        ]  # fmt: skip
    assert any("changes.executor" in line for line in commands), "the executor was not seen, so ps was not really looked at"
    assert '"observing"' in said[4] or '"done"' in said[4], said[4]
    kept = {path: path.read_text(errors="replace") for path in home.rglob("*") if path.is_file()}
    assert {home / "export", home / "backup", home / "bundle", home / "log.jsonl"} <= set(kept)
    assert any(path.is_relative_to(home / "state") and text for path, text in kept.items()), "no state file"
    with site.admin() as conn:
        tables = [row[0] for row in conn.execute("select relname from pg_class where relkind = 'r' and relnamespace ="
                                                 " 'indexpilot'::regnamespace")]  # fmt: skip
        rows = {name: str(conn.execute(f"select * from indexpilot.{name}".encode()).fetchall()) for name in tables}
    assert "ddl.intent" in rows["mutation_log"]
    # another test gives a URI with a password on purpose, perhaps at the same time
    seen = "\n".join(command for command in commands if CANARY["uri"] not in command)
    everything = {"what it said": "".join(said), "ps": seen} | {str(k): v for k, v in kept.items()} | rows
    for what, text in everything.items():
        assert canaries_in(text) == [], what


@_written
@pytest.mark.parametrize("source", ["command", "named", "env", "pgpass", "service"])
def test_a_wrong_password_is_not_repeated(source: str, places: tuple[str, dict[str, str], Path], tmp_path: Path) -> None:
    """Each source in turn gives the password, and it is the wrong one."""
    config, env, _ = places
    data = yaml.safe_load(Path(config).read_text())
    target = data["targets"]["kanari"]
    (tmp_path / "inputs" / "token").write_text(CANARY["uri"])
    if source != "command":
        del target["password_command"]
    if source not in ("command", "named"):
        del target["password_env"]
    if source != "service":
        target.pop("service")
    if source != "env":
        env = {name: value for name, value in env.items() if name != "PGPASSWORD"}
    if source != "pgpass":
        target["passfile"] = str(tmp_path / "none")
    Path(config).write_text(yaml.safe_dump(data))
    ran = indexpilot("changes", "list", "kanari", "--config", config, env=env | {"INDEXPILOT_TRACEBACK": "1"})
    assert ran.status == 3
    assert "password authentication failed" in ran.err
    assert canaries_in(ran.out + ran.err) == []


@_written
def test_a_secret_where_none_may_stand_is_refused_unread(tmp_path: Path) -> None:
    word = CANARY["uri"]
    texts = [
        f"postgresql://olga:{word}@db/shop", f"postgresql://olga:{word}%zz@db/shop", f"host=db password={word}",
        f"host=db password='{word}", f"postgresql://olga@db/shop?password={word}", f"postgresql://olga:x {word}@db/shop",
    ]  # fmt: skip
    for text in texts:
        ran = indexpilot("changes", "list", text)
        assert (ran.status, canaries_in(ran.out + ran.err)) == (64, []), text
    word = CANARY["yaml"]
    for name, content in {
        "dsn": {"targets": {"a": {"dsn": f"postgresql://olga:{word}@db/shop"}}},
        "password": {"targets": {"a": {"host": "db", "password": word}}},
        "control": {"control": {"dsn": f"host=db password={word}"}},
    }.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content))
        for verb in (("config", "show"), ("config", "validate")):
            ran = indexpilot(*verb, "--config", str(path))
            assert (ran.status, canaries_in(ran.out + ran.err)) == (64, []), (name, verb)


# -- defects, dumps -----------------------------------------------------------------------------------------------------------

BROKEN = """
import psycopg
from indexpilot_tui.engine import engine
from indexpilot_tui.engine.postgres import login
async def broken(cls, conninfo="", **kwargs):
    raise KeyError("broken on purpose")
async def observe(self):
    params = await login.parameters(self.target)
    password = params["password"]
    raise KeyError("broken on purpose")
if {headless}:
    psycopg.AsyncConnection.connect = classmethod(broken)
engine.Engine.observe = observe
"""


def broken(tmp_path: Path, env: dict[str, str], *, headless: bool) -> dict[str, str]:
    """An environment in which a defect happens where a password is in a local variable."""
    (tmp_path / "sitecustomize.py").write_text(BROKEN.format(headless=headless))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "DB_", "INDEXPILOT__"))}
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT)])
    return clean | env | {"PYTHONPATH": path, "INDEXPILOT_TRACEBACK": "1", "TERM": "xterm-256color"}


@_written
def test_the_traceback_of_a_defect_shows_no_values(places: tuple[str, dict[str, str], Path], tmp_path: Path) -> None:
    config, env, _ = places
    ran = subprocess.run(
        [sys.executable, "-m", "indexpilot_tui", "changes", "list", "kanari", "--config", config],
        capture_output=True, text=True, timeout=60, check=False, env=broken(tmp_path, env, headless=True), cwd=ROOT,
    )  # fmt: skip
    assert ran.returncode == 3
    assert "Traceback" in ran.stderr
    assert "broken on purpose" in ran.stderr
    assert canaries_in(ran.stdout + ran.stderr) == []


@_written
def test_a_console_that_breaks_shows_no_values(places: tuple[str, dict[str, str], Path], tmp_path: Path) -> None:
    """Textual's own message has the local variables of each frame in it."""
    config, env, home = places
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        os.chdir(ROOT)
        command = [sys.executable, "-m", "indexpilot_tui", "kanari", "--config", config]
        os.execve(sys.executable, command, broken(tmp_path, env, headless=False))
    seen, end = b"", time.monotonic() + 30
    while time.monotonic() < end:
        if not select.select([fd], [], [], 0.5)[0]:
            continue
        try:
            seen += os.read(fd, 65536)
        except OSError:  # Linux: EIO when the child has closed its side
            break
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    told = seen.decode(errors="replace")
    assert "defect of IndexPilot: KeyError" in told, told[-2000:]
    assert status == 3
    assert canaries_in(told + "".join(p.read_text(errors="replace") for p in home.rglob("*") if p.is_file())) == []


def _crash(code: str, folder: Path) -> bool:
    """Whether a process that runs this and then aborts leaves a core behind."""
    raised = "import os, resource\nhard = resource.getrlimit(resource.RLIMIT_CORE)[1]\n"
    raised += "resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))\n"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{raised}{code}\nos.abort()"], cwd=folder, stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT)])},
    )  # fmt: skip
    status = os.waitpid(process.pid, 0)[1]
    process.returncode = os.waitstatus_to_exitcode(status)
    return os.WCOREDUMP(status)


@_written
def test_no_core_is_dumped(tmp_path: Path) -> None:
    deed = "from indexpilot_tui.engine.dumps import forbid_core_dumps; forbid_core_dumps()"
    if _crash("", tmp_path):  # this machine does dump cores, so the difference shows
        for core in tmp_path.glob("core*"):
            core.unlink()
    assert not _crash(deed, tmp_path)
    assert list(tmp_path.glob("core*")) == []
    # the limit alone is no answer to a program that takes cores: memory must not be readable at all
    told = subprocess.run(
        [sys.executable, "-c", f"{deed}; import ctypes, resource; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),"
         " resource.getrlimit(resource.RLIMIT_CORE))"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    ).stdout  # fmt: skip
    assert told == "0 (0, 0)\n"


@_written
@pytest.mark.parametrize("start", [("-m", "indexpilot_tui", "kanari"), ("-m", "indexpilot_tui.engine.changes.executor")])
def test_console_and_executor_forbid_it(start: tuple[str, ...], places: tuple[str, dict[str, str], Path]) -> None:
    config, env, _ = places
    arguments = [*start, "--config", config] if "kanari" in start else [*start]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "DB_", "INDEXPILOT__"))}
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(sys.executable, [sys.executable, *arguments], clean | env | {"TERM": "xterm-256color"})
    try:
        end, limit = time.monotonic() + 20, ""
        while time.monotonic() < end and limit.split()[4:6] != ["0", "0"]:
            lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
            limit = next(line for line in lines if line.startswith("Max core file size"))
            if select.select([fd], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    os.read(fd, 65536)
        assert limit.split()[4:6] == ["0", "0"], limit
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(fd)


# -- tokens that live for minutes ---------------------------------------------------------------------------------------------


@_written
async def test_a_token_is_asked_for_at_every_reconnect(site: Site, places: tuple[str, dict[str, str], Path], tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """The password changes between two connections of each kind: what looks, what is asked beside it, what writes the log."""
    from indexpilot_tui.engine.engine import Engine
    from indexpilot_tui.errors import IndexPilotError
    from indexpilot_tui.settings.load import load_settings

    config, env, _ = places
    for name in set(env) - {"PGPASSWORD"}:  # which the test's own connections would take
        monkeypatch.setenv(name, env[name])
    settings = load_settings(Path(config))
    token = tmp_path / "inputs" / "token"

    def renew(word: str, *, told: bool = True) -> None:
        with site.admin() as conn:
            conn.execute(f"alter role kanari password '{word}'".encode())
            conn.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'kanari'")
            while conn.execute("select 1 from pg_stat_activity where usename = 'kanari'").fetchone():
                time.sleep(0.02)
        if told:
            token.write_text(word)

    async def all_kinds(engine: Engine) -> None:
        for _ in range(2):  # the first after a cut learns of it
            seen = await engine.observe()
        assert not seen.error, seen.error
        async with engine.monitor() as session:
            assert await session.value("select 1") == 1
        with contextlib.suppress(IndexPilotError):  # the same
            await (await engine.control.require()).rate_status(5, 60)
        assert (await (await engine.control.require()).rate_status(5, 60)).used == 0

    engine = await Engine.open(settings.targets["kanari"], settings, operate=True)
    try:
        await all_kinds(engine)
        renew("kanari-second-token")
        await all_kinds(engine)
        renew("kanari-third-token", told=False)  # the command still gives the old one
        for _ in range(2):
            seen = await engine.observe()
        assert "password authentication failed" in seen.error
        assert "kanari-second" not in seen.error
        with pytest.raises(IndexPilotError):
            await (await engine.control.require()).rate_status(5, 60)
        with pytest.raises(IndexPilotError, match="password authentication failed") as caught:
            await engine.control.require()
        assert "kanari-second" not in str(caught.value)
        token.write_text("kanari-third-token")
        await all_kinds(engine)
    finally:
        await engine.close()


# -- what others wrote --------------------------------------------------------------------------------------------------------


@_written
async def test_no_canary_on_any_screen(site: Site, places: tuple[str, dict[str, str], Path],
                                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from indexpilot_tui.engine.engine import Engine
    from indexpilot_tui.settings.load import load_settings
    from indexpilot_tui.tui.app import ConsoleApp

    config, env, _ = places
    for name in set(env) - {"PGPASSWORD"}:  # which the test's own connections would take
        monkeypatch.setenv(name, env[name])
    settings = load_settings(Path(config))

    async def open_engine(_: Callable[[str], None]) -> Engine:
        return await Engine.open(settings.targets["kanari"], settings, operate=True)

    app = ConsoleApp(open_engine, settings=settings, target_label="kanari")
    shots: list[str] = []
    async with app.run_test(size=(120, 40)) as pilot:
        with psycopg.connect(site.server.conninfo("admin", site.dbname)) as held:
            held.execute(f"alter role kanari password '{CANARY['sql']}'".encode())  # idle in transaction, shown as such
            for _ in range(40):
                with site.admin() as conn:
                    conn.execute("create table if not exists app.k (password text)")
                    for n in range(30):
                        conn.execute(f"create role kanari_{n} password '{CANARY['sql']}'".encode())
                        conn.execute(f"drop role kanari_{n}".encode())
                await pilot.pause(0.3)
                shots.append(app.export_screenshot())
                if "create&#160;role" in shots[-1].lower():
                    break
            held.rollback()
        for key in ("f1", "escape", "c", "escape", "s", "escape", "enter"):
            await pilot.press(key)
            await pilot.pause(0.2)
            shots.append(app.export_screenshot())
    await app.shut()
    assert "create&#160;role" in shots[-8].lower() or any("create&#160;role" in shot.lower() for shot in shots), shots[-1][
        :3000
    ]
    assert len(set(shots)) > 3
    assert [canaries_in(shot) for shot in shots if canaries_in(shot)] == []

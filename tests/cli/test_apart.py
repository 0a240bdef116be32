"""What a console reads once is read in a process of its own: its result, its errors, its end."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from indexpilot_tui.cli.apart import apart
from indexpilot_tui.errors import TRACEBACK, ConfigError, DefectError, defect

# the console as the command line starts it, up to its first frame; then what is in memory
CONSOLE = """
import sys
import indexpilot_tui.tui.app as app
import indexpilot_tui.tui.terminal as terminal

def run_console(opener, *, settings, themes, target_label):
    print(settings.observe.interval_seconds, settings.tui.theme, sorted(themes.themes), themes.refused, target_label)
    print(*sys.modules)
    return 0

app.run_console, terminal.check_terminal = run_console, lambda **_: None
from indexpilot_tui.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def console(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CONSOLE, *arguments],
        env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_result_comes_back() -> None:
    wait = apart(lambda: {"pid": os.getpid(), "path": Path("/x")})
    result = wait()
    assert result["path"] == Path("/x")
    assert result["pid"] != os.getpid()


def test_several_at_once_do_not_mix() -> None:
    waits = [apart(lambda n=n: "x" * n) for n in (1, 200_000, 3)]
    assert [len(wait()) for wait in reversed(waits)] == [3, 200_000, 1]


def test_an_error_for_the_operator_comes_back_whole() -> None:
    def work() -> None:
        raise ConfigError("is wrong", field="a.b", value="7", remedy="write 8")

    with pytest.raises(ConfigError) as caught:
        apart(work)()
    assert str(caught.value) == "a.b = '7': is wrong\n  remedy: write 8"
    assert caught.value.exit_status == 64


def test_a_defect_is_told_and_where_it_was_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        raise ZeroDivisionError("so")

    with pytest.raises(DefectError) as caught:
        apart(work)()
    assert "a defect of IndexPilot: ZeroDivisionError: so\n" in defect(caught.value)
    assert "in work" not in defect(caught.value)
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(DefectError, match=r"in work"):
        apart(work)()


class OddError(ConfigError):
    """One that cannot be made again from its message."""

    def __init__(self) -> None:
        super().__init__("odd")


def test_what_cannot_come_back_is_a_defect() -> None:
    def work() -> None:
        raise OddError

    with pytest.raises(DefectError, match="pickle|lambda"):
        apart(lambda: lambda: 1)()
    with pytest.raises(DefectError, match="TypeError"):
        apart(work)()


class Short(bytes):
    """Says that it has one byte more than there are."""

    def __len__(self) -> int:
        return super().__len__() + 1


def test_an_answer_that_was_cut_off_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexpilot_tui.cli.apart._answer", lambda _: Short(pickle.dumps((5, None))))
    with pytest.raises(DefectError, match="exit status 0"):
        apart(lambda: 5)()


@pytest.mark.parametrize(("end", "how"), [
    (lambda: os.kill(os.getpid(), signal.SIGKILL), "by SIGKILL"), (lambda: os._exit(7), "exit status 7"),
    (lambda: sys.exit(0), "exit status 1"), (lambda: os.kill(os.getpid(), signal.SIGINT), "by SIGINT"),
])  # fmt: skip
def test_an_end_before_the_answer_is_never_taken_for_one(end: Callable[[], None], how: str) -> None:
    with pytest.raises(DefectError, match=how):
        apart(end)()


def test_where_the_end_of_a_process_is_not_told_the_answer_still_counts() -> None:
    """A supervisor may hand SIGCHLD on as ignored: then the system removes what has ended."""
    code = (
        "import os, signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nfrom indexpilot_tui.cli.apart import apart\n"
        "print(apart(lambda: 5)())\n"
        "try: apart(lambda: os._exit(0))()\nexcept Exception as exc: print(exc)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "5\na process of ours ended before it was done (how, is not known)\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_what_waits_for_a_file_ends_with_the_console(tmp_path: Path, number: signal.Signals) -> None:
    os.mkfifo(tmp_path / "c.yaml")
    code = (
        "import sys\nfrom indexpilot_tui.cli.apart import apart\n"
        "def read():\n    print('here', flush=True)\n    open(sys.argv[1]).read()\napart(read)()"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "c.yaml"], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "here\n"
        parent.send_signal(number)
        assert parent.wait(10) == -number
        assert parent.stdout.read() == "", "the other one holds its standard output"


def test_nothing_is_written_twice_and_no_process_is_left() -> None:
    code = (
        "import os, sys\nfrom indexpilot_tui.cli.apart import apart\n"
        "sys.stdout.write('once ')\nprint(apart(lambda: 5)())\n"
        "try: os.waitpid(-1, os.WNOHANG)\nexcept ChildProcessError: print('alone')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("once 5\nalone\n", "")


def test_a_console_keeps_the_settings_and_not_what_checked_them(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("observe: {interval_seconds: 3}\ntui: {theme: indexpilot-light}\ntargets: {orders: {host: h}}\n")
    done = console("--config", str(config), "--interval", "7", "orders")
    assert done.returncode == 0, done.stderr
    told, modules = done.stdout.splitlines()
    assert told == "7.0 indexpilot-light ['indexpilot-dark', 'indexpilot-light'] () orders"
    assert "textual" in modules.split()
    assert not {name for name in modules.split() if name.split(".")[0] in ("pydantic", "pydantic_core", "yaml")}


def test_a_wrong_configuration_ends_a_console_as_it_ends_any_verb(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("observe: {interval_seconds: 0}\ntargets: {a: {port: no}}\n")
    done = console("--config", str(config), INDEXPILOT__TUI__MOUSE="perhaps")
    assert (done.returncode, done.stdout) == (64, "")
    other = subprocess.run(
        [sys.executable, "-m", "indexpilot_tui", "config", "validate", "--config", str(config)],
        env=os.environ | {"INDEXPILOT__TUI__MOUSE": "perhaps"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == other.stderr
    for key in ("observe.interval_seconds", "targets.a.port", "tui.mouse"):
        assert key in done.stderr

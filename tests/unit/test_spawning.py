"""How an executor is told and started, and the copy of the log on this machine; no server is needed for that."""

from __future__ import annotations

import errno
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from indexpilot_tui.engine.changes import job
from indexpilot_tui.engine.changes.book import Book, state_dir
from indexpilot_tui.errors import NotInstalledError, ServerError
from indexpilot_tui.settings.model import Observe, Settings, Target
from indexpilot_tui.settings.validated import validated, validated_json
from tests.unit.desk import Desk

TARGET = validated(Target, {
    "name": "shop", "environment": "production", "dsn": "host=h", "password_env": "SECRET",
    "allow_unix_socket_changes": True,
})  # fmt: skip
ELSEWHERE = validated(
    Settings, {
        "control": {"dsn": "host=control", "anchor": {"file": "/var/lib/heads"}}, "themes_dir": "thémes",
        "metrics": {"cpu": {"command": ["cat", "x"]}}, "production_safeguards": {"disk": {"tablespace_metrics": {"fast": "cpu"}}},
    },
)  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "indexpilot" / "changes"


def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """What is started in the interpreter's place."""
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setattr(job, "sys", SimpleNamespace(executable=str(program)))


async def test_an_executor_is_told_on_its_stdin_and_has_a_session_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    process(
        tmp_path,
        monkeypatch,
        f"""echo "$*" > {told}; cut -d" " -f6 /proc/$$/stat >> {told}; cat >> {told}; echo '{{"pid": 77}}'""",
    )
    assert await job.spawn(TARGET, ELSEWHERE, 5, resume=True) == 77
    command, session, order = told.read_text().split("\n", 2)
    assert (command, int(session) != os.getsid(0)) == (f"-m {job.MODULE}", True)
    assert validated_json(job.Job, order) == job.Job(target=TARGET, settings=ELSEWHERE, change_id=5, resume=True)


def test_an_order_with_a_figure_that_is_none_is_not_written() -> None:
    endless = Settings(observe=Observe(interval_seconds=float("inf")))
    with pytest.raises(ValueError, match="not JSON compliant"):
        job.Job(target=TARGET, settings=endless, change_id=5).to_json()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("""echo '{"error": "another one is at work"}'""", "did not start: another one is at work"),
        ("echo first >&2; echo last >&2", "did not start: last"), ("true", "did not start: it said nothing"),
        ("printf '%0400d' 0 >&2", f"did not start: {'0' * 300}$"), ("echo '{}'", "did not start: None"),
    ],
)  # fmt: skip
async def test_why_an_executor_did_not_start_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    process(tmp_path, monkeypatch, script)
    with pytest.raises(ServerError, match=why):
        await job.spawn(TARGET, Settings(), 5)


async def test_an_executor_that_says_nothing_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = tmp_path / "pid"
    process(tmp_path, monkeypatch, f"echo $$ > {pid}; exec sleep 30")
    monkeypatch.setattr(job, "START_S", 0.2)
    with pytest.raises(ServerError, match="did not start within"):
        await job.spawn(TARGET, Settings(), 5)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_the_control_schema_is_on_the_target_unless_the_settings_say_where() -> None:
    assert job.control_target(TARGET, Settings()) is TARGET
    there = job.control_target(TARGET, ELSEWHERE)
    assert (there.name, there.dsn) == ("shop.control", "host=control")
    kept = ("environment", "password_command", "password_env", "allow_unix_socket_changes")
    assert [getattr(there, name) for name in kept] == [getattr(TARGET, name) for name in kept]


async def test_a_session_without_a_journal_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, asked = Desk({}), SimpleNamespace()

    async def connect(target: Any, purpose: Any, settings: Any, **_: Any) -> Any:
        vars(asked).update(dsn=target.dsn, purpose=purpose)
        return desk

    async def opened(session: Any, control: Any) -> Any:
        if asked.fails:
            raise NotInstalledError("no control schema")
        return session, control

    monkeypatch.setattr(job, "connect", connect)
    monkeypatch.setattr(job, "Journal", SimpleNamespace(open=opened))
    asked.fails = False
    assert await job.open_journal(TARGET, ELSEWHERE) == (desk, ELSEWHERE.control)
    assert (asked.dsn, asked.purpose, desk.closed) == ("host=control", job.Purpose.CONTROL, False)
    asked.fails = True
    with pytest.raises(NotInstalledError):
        await job.open_journal(TARGET, ELSEWHERE)
    assert desk.closed


def test_a_book_is_of_one_change_and_nobody_else_reads_it(place: Path) -> None:
    book = Book.of("77", "a/../b c", 5)
    assert book.path == place / "77-a____b_c-5.jsonl"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (place, book.path)] == [0o700, 0o600]
    assert len(Book.of("77", "ä" * 60, 5).path.name) == len("77--5.jsonl") + 40
    assert state_dir() == place


def test_lines_stand_in_their_order_each_with_when_and_by_whom(place: Path) -> None:
    book = Book.of("77", "shop", 5)
    when = datetime(2026, 6, 10, 3, tzinfo=UTC)
    book.write("ddl.intent", {"ddl": "create index", "at": when}, when)
    first, second = list(book.lines())
    assert (first["action"], first["detail"], first["pid"]) == ("opened", {}, os.getpid())
    assert abs((datetime.now(UTC) - datetime.fromisoformat(first["at"])).total_seconds()) < 60
    assert second == {"at": when.isoformat(), "pid": os.getpid(), "action": "ddl.intent",
                      "detail": {"ddl": "create index", "at": str(when)}}  # fmt: skip
    again = Book.of("77", "shop", 5)
    assert [line["action"] for line in again.lines()] == ["opened", "ddl.intent", "opened"]


def test_what_a_full_disk_cut_short_is_no_line_and_the_next_one_stands_alone(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = Book.of("77", "shop", 5)
    whole = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, data[:20]))
    with pytest.raises(ServerError, match=f"cannot be written .{os.strerror(errno.ENOSPC)}.") as caught:
        book.write("ddl.intent", {})
    assert (caught.value.value, "XDG_STATE_HOME" in str(caught.value)) == (str(place), True)
    monkeypatch.setattr(os, "write", whole)
    book.write("ddl.outcome", {})
    lines = list(book.lines())
    assert [line["action"] for line in lines] == ["opened", "torn", "ddl.outcome"]
    assert lines[1]["detail"]["text"].startswith('{"at": "')


def test_a_line_that_is_not_on_the_disk_is_not_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = Book.of("77", "shop", 5)

    def fails(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fails)
    open_files = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ServerError, match=os.strerror(errno.EIO)):
        book.write("ddl.intent", {})
    book.jot("beat", {})  # nothing rests on it
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_without_a_place_for_the_copies_nothing_is_opened(place: Path) -> None:
    place.parent.touch()
    with pytest.raises(ServerError, match="without a log there is no deed"):
        Book.of("77", "shop", 5)

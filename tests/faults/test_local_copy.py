"""Family 19: the local copy of the log cannot be written: no room, no directory. Nothing begins then; what was begun is seen to
its end, and the log in the database says which rows have no copy."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexpilot_tui.engine.changes.book import Book
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.errors import ServerError
from tests.faults import oracle
from tests.faults.hooked import Hook
from tests.faults.scenes import CREATE, END, OLD_SNAPSHOT, building, ended
from tests.faults.workshop import Workshop, actions, check_intents, story
from tests.servers import require

PAGE = 4096  # what a tmpfs gives at once


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A volume of 64 kB where the copies go."""
    require(os.geteuid() == 0, "root, to mount a small volume,")
    folder = tmp_path / "volume"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", folder], check=True)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, *, left: int = 0) -> None:
    """No room for a line more: the last page of each copy is filled up (`left`: bytes that stay free there), then the rest."""
    for book in folder.rglob("*.jsonl"):
        with book.open("a") as file:
            missing = -book.stat().st_size % PAGE - left
            file.write(" " * (missing - 1) + "\n" if missing > 0 else "")
    with (folder / "ballast").open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 1024):
                pass
        except OSError:
            return


def written(folder: Path) -> list[str]:
    return [str(line["action"]) for book in folder.rglob("*.jsonl") for line in Book(book).lines()]


@pytest.mark.family(19)
async def test_no_room_before_anything_begins(workshop: Workshop, small: Path) -> None:
    change_id = await workshop.approved(CREATE)
    (small / "indexpilot" / "changes").mkdir(parents=True)
    fill(small)
    with pytest.raises(ServerError, match=r"state directory = .*volume.*cannot be written \(No space left") as caught:
        await workshop.spawn(change_id)
    assert "XDG_STATE_HOME" in str(caught.value)
    assert (await workshop.journal.change(change_id)).state is State.APPROVED
    assert oracle.deeds(workshop) == []


@pytest.mark.family(19)
@pytest.mark.parametrize("how", ["a file in its place", "a directory in the way of the file"])
async def test_no_directory_before_anything_begins(workshop: Workshop, tmp_path: Path, how: str) -> None:
    change_id = await workshop.approved(CREATE)
    state = tmp_path / "state"
    if how == "a file in its place":
        state.touch()
    else:
        cluster = workshop.monitor.facts.system_identifier
        (state / "indexpilot" / "changes" / f"{cluster}-{workshop.dbname}-{change_id}.jsonl").mkdir(parents=True)
    with pytest.raises(ServerError, match=r"state directory = .* cannot be written"):
        await workshop.spawn(change_id)
    assert (await workshop.journal.change(change_id)).state is State.APPROVED
    assert oracle.deeds(workshop) == []


@pytest.mark.family(19)
async def test_no_room_right_before_the_intent(workshop: Workshop, small: Path, tmp_path: Path) -> None:
    """The one row without whose copy there is no deed; its half line stands alone."""
    change_id = await workshop.approved(CREATE)
    hook = Hook(at="backend", when="after", flag=str(tmp_path / "backend"))
    pid = await workshop.spawn(change_id, hook=hook)
    while not hook.here:
        await asyncio.sleep(0.03)
    fill(small, left=50)
    hook.release()
    change = await workshop.until(change_id, State.FAILED)
    assert "the local copy of the log cannot be written (No space left" in change.outcome, story(change)
    assert "t_v_idx" not in workshop.indexes()
    assert oracle.deeds(workshop) == []
    assert "ddl.intent" not in actions(change)
    await ended(pid)


@pytest.mark.family(19)
@pytest.mark.parametrize("what", ["full", "gone"])
async def test_no_copy_in_mid_build(workshop: Workshop, small: Path, what: str) -> None:
    """A build that is at work is not broken off for it: each row in the database says that its copy is missing."""
    change_id, _, held = await building(workshop, CREATE, *OLD_SNAPSHOT)
    if what == "full":
        fill(small)
    else:
        shutil.rmtree(small / "indexpilot")
        (small / "indexpilot").touch()
    held.close()
    change = await workshop.until(change_id, *END)
    check_intents(change)
    outcome = next(e for e in change.events if e.action == "ddl.outcome")
    assert "cannot be written" in outcome.detail["local_copy"], story(change)


@pytest.mark.family(19)
async def test_a_leftover_is_removed_without_a_copy(workshop: Workshop, small: Path) -> None:
    change_id, pid, held = await building(workshop, CREATE, *OLD_SNAPSHOT)
    fill(small)
    await workshop.journal.request_abort(change_id, "wrong night")
    await workshop.until_event(change_id, "clean.intent")
    held.close()
    change = await workshop.until(change_id, State.FAILED)
    intent = next(e for e in change.events if e.action == "clean.intent")
    assert "local_copy" in intent.detail, story(change)
    assert workshop.invalid() == []
    await ended(pid)


@pytest.mark.family(19)
async def test_the_journal_and_the_copy_away_together(workshop: Workshop, small: Path) -> None:
    """Nothing that this process knows can be written anywhere: it waits all the same, and the catalog tells the rest."""
    change_id, _, held = await building(workshop, CREATE, *OLD_SNAPSHOT)
    fill(small)
    workshop.sql("alter schema indexpilot rename to elsewhere")
    held.close()
    valid = "select 1 from pg_index where indexrelid = 'app.t_v_idx'::regclass and indisvalid"
    while not workshop.sql(valid):
        await asyncio.sleep(0.05)
    await asyncio.sleep(1)
    workshop.sql("alter schema elsewhere rename to indexpilot")
    change = await workshop.until(change_id, *END)
    check_intents(change)


@pytest.mark.family(19, no_oracle="no change is made")
def test_a_half_line_is_no_line(small: Path) -> None:
    book = Book(small / "x.jsonl")
    book.write("opened", {})
    fill(small, left=50)
    with pytest.raises(ServerError, match="No space left"):
        book.write("ddl.intent", {"ddl": "create index"})
    (small / "ballast").unlink()
    book.write("ddl.outcome", {})
    lines = [line["action"] for line in book.lines()]
    assert lines[0] == "opened"
    assert lines[-2:] == ["torn", "ddl.outcome"], lines

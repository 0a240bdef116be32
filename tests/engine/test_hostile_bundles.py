"""Bundles from somewhere else, each with one hostile field: nothing of them runs, and each ends with a forecast or one error."""

from __future__ import annotations

import gzip
import resource
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.engine.whatif.bundle.capture import CaptureOptions, capture
from indexpilot_tui.engine.whatif.bundle.file import write_bundle
from indexpilot_tui.engine.whatif.bundle.model import Bundle
from indexpilot_tui.engine.whatif.model import Forecast, Statement
from indexpilot_tui.errors import IndexPilotError
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from tests.conftest import socket_target
from tests.engine.hostile_bundle import MAKE, MARK, QUERIES, SCHEMA, Trial, Watch, hostile

MEMORY = 500_000_000
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def good(cluster18: LocalCluster) -> Bundle:
    name = f"hostile_{secrets.token_hex(4)}"
    with psycopg.connect(cluster18.conninfo(), autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
        try:
            with psycopg.connect(cluster18.conninfo(name), autocommit=True) as owner:
                owner.execute(SCHEMA.encode())
                owner.execute("vacuum analyze")
            session = await connect(socket_target(cluster18, name), Purpose.MONITOR, Settings())
            try:
                return await capture(session, CaptureOptions(statements=[Statement(q, q, 1.0) for q in QUERIES]))
            finally:
                await session.close()
        finally:
            admin.execute(f"drop database {name} with (force)".encode())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trial(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Trial]:
    made = Trial(tmp_path_factory.mktemp("hostile"))
    yield made
    await made.simulator.close()


async def test_the_good_one_is_forecast(trial: Trial, good: Bundle) -> None:
    found = await trial.of(good, lambda _: None)
    assert isinstance(found, Forecast), found
    assert found.left_out == ()
    assert any("only stand in here for the target's: app.code" in r for r in found.confidence.reasons)
    assert any("are made as they are: app.norm" in r for r in found.confidence.reasons)
    assert trial.marks() == []


async def test_no_hostile_field_runs_hangs_or_fills_the_memory(trial: Trial, good: Bundle) -> None:
    cases = list(hostile())
    assert len(cases) >= 40
    assert len({name for name, _ in cases}) == len(cases)
    wrong: dict[str, object] = {}
    for name, change in cases:
        watch = Watch()
        try:
            found: object = await trial.of(good, change)
        except TimeoutError:
            found = "it took more than 30 s"
        except Exception as exc:  # noqa: BLE001 - anything but an error for the operator is a defect
            found = repr(exc)
        marks, most = trial.marks(), trial.memory()
        if marks or most > MEMORY or watch.seconds > 30 or not isinstance(found, Forecast | IndexPilotError):
            wrong[name] = (found, marks, most, watch.seconds)
        if isinstance(found, IndexPilotError) and len(str(found)) > 2000:
            wrong[name] = "the error repeats the field"
    assert not wrong, "\n".join(f"{name}: {told}" for name, told in wrong.items())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < 2 * MEMORY  # of all tests of this process so far
    again = await trial.of(good, lambda _: None)  # the shadow is none the worse
    assert isinstance(again, Forecast), again


async def test_what_was_refused_is_told(trial: Trial, good: Bundle) -> None:
    told = {
        "index: second statement": "index app.t_word: left out (it is 2 statements)", "view that writes": "view app.v: left out",
        "constraint with a second command": "t_p_check of app.t: left out", "domain": "type app.percent: left out",
        "setting work_mem": "setting work_mem: its value is none",
        "bound": "partition app.part_a: left out", "statistics": "statistics app.st: left out",
    }  # fmt: skip
    for name, change in hostile():
        if name in told:
            found = await trial.of(good, change)
            reasons = found.confidence.reasons if isinstance(found, Forecast) else (str(found),)
            assert any(told[name] in r for r in reasons), (name, reasons)


@pytest.mark.parametrize("text", [
    MAKE, f"select 1; {MAKE}", f"explain analyze {MAKE}", f"select * into public.{MARK} from app.t",
    f"with x as (insert into app.child values (1) returning 1) select pg_notify('{MARK}', 'x') from x", "select " + "(" * 5000 + "1" + ")" * 5000,
    "select repeat('x', 1000000000)", f"copy app.t to program 'touch {MARK}'", "select pg_sleep(100)", "execute indexpilot_generic", "\0",
])  # fmt: skip
async def test_a_hostile_statement_of_the_workload(trial: Trial, good: Bundle, text: str) -> None:
    write_bundle(good, trial.folder / "good")
    watch = Watch()
    found = await trial.forecast(trial.folder / "good", (QUERIES[0], text))
    assert isinstance(found, Forecast | IndexPilotError), found
    assert trial.marks() == []
    assert trial.memory() < MEMORY
    assert watch.seconds < 30


@pytest.mark.parametrize("content", [
    b"\0" * 100_000_000, b'{"format": "indexpilot-bundle"}\n' + b"[" * 1_000_000, b"{" * 100_000 + b"\n", b"9" * 50_000_000,
    b'{"a":' * 50_000, b"\xff\xfe" * 1000,
], ids=["zeros", "brackets", "braces", "digits", "nested", "no text"])  # fmt: skip
async def test_a_file_that_is_none(trial: Trial, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(content, 1))
    watch = Watch()
    found = await trial.forecast(path)
    assert isinstance(found, IndexPilotError), found
    assert watch.seconds < 30
    assert len(str(found)) < 1000

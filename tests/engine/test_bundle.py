"""Bundles: the same forecast from the file as from the server, a file that takes no harm and does none, and no values in it
where it is redacted."""

from __future__ import annotations

import gzip
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from indexpilot_tui.engine.postgres.session import Purpose, SentStatement, Session, connect
from indexpilot_tui.engine.whatif.advise.advisor import Options, advise, read_case
from indexpilot_tui.engine.whatif.bundle.capture import CaptureOptions, capture
from indexpilot_tui.engine.whatif.bundle.file import read_bundle, write_bundle
from indexpilot_tui.engine.whatif.bundle.model import Bundle
from indexpilot_tui.engine.whatif.bundle.redact import KNOWN, redacted
from indexpilot_tui.engine.whatif.bundle.session import BundleSession
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.points import array_items
from indexpilot_tui.engine.whatif.read import Reader, read_snapshot, server_traits
from indexpilot_tui.engine.whatif.shadow import ShadowServer
from indexpilot_tui.engine.whatif.simulate import Simulator
from indexpilot_tui.errors import ConnectError, UsageError
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from tests.bench.capture import footprint
from tests.conftest import socket_target
from tests.engine.bundle_room import FORECASTS, lines, make, write_lines

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Place:
    """A server, what was captured from it, and the file of that."""

    session: Session
    sent: list[SentStatement]
    simulator: Simulator
    bundle: Bundle
    file: Path


@pytest.fixture(scope="module")
def database(cluster18: LocalCluster) -> Iterator[str]:
    name = f"bundle_{secrets.token_hex(4)}"
    with psycopg.connect(cluster18.conninfo(), autocommit=True) as conn:
        conn.execute(f"create database {name}".encode())
    make(cluster18.conninfo(name))
    yield name
    with psycopg.connect(cluster18.conninfo(), autocommit=True) as conn:
        conn.execute(f"drop database {name} with (force)".encode())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(cluster18: LocalCluster, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    sent: list[SentStatement] = []
    session = await connect(socket_target(cluster18, database), Purpose.MONITOR, Settings(), sink=sent.append)
    simulator = Simulator()
    bundle = await capture(session)
    file = tmp_path_factory.mktemp("bundles") / "one.bundle"
    write_bundle(bundle, file)
    yield Place(session, sent, simulator, bundle, file)
    await simulator.close()
    await session.close()


def comparable(forecast: dict[str, Any]) -> dict[str, Any]:
    """Without what is of the moment: times, the cost of reading, and counters that go on."""
    forecast["read"] = forecast["elapsed_ms"] = None
    forecast.get("drop", {}).pop("usage", None)
    return forecast


@pytest.mark.parametrize(("ddl", "query"), FORECASTS, ids=[d[:60] for d, _ in FORECASTS])
async def test_a_forecast_from_the_file_is_the_one_from_the_server(place: Place, ddl: str, query: str) -> None:
    statements = [Statement("1", query, 2.0)]
    live = await place.simulator.simulate(place.session, ddl, statements)
    offline = await place.simulator.simulate(BundleSession(read_bundle(place.file)), ddl, statements)
    assert live.queries
    assert comparable(offline.to_json()) == comparable(live.to_json())


async def test_its_workload_is_the_servers(place: Place) -> None:
    offline = await place.simulator.simulate(BundleSession(read_bundle(place.file)), "create index on child (parent_id)")
    texts = {q.query: q for q in offline.queries}
    found = next(q for text, q in texts.items() if "parent_id" in text)
    assert found.calls == 3
    assert found.uses_index
    assert found.cost_after < found.cost_before / 5


async def test_advice_from_the_file_is_the_one_from_the_server(place: Place) -> None:
    shadow = ShadowServer()
    statements = [
        Statement("1", "select * from child where parent_id = $1", 10.0),
        Statement("2", "select * from part where v = $1", 5.0),
        Statement("3", "delete from parent where id = $1", 5.0),
    ]
    try:
        found = []
        for source in (place.session, BundleSession(read_bundle(place.file))):
            case = await read_case(source, statements)
            found.append((await advise(shadow, case, Options())).to_json())
    finally:
        await shadow.close()
    for one in found:
        one["elapsed_ms"] = one["read"] = None
    assert found[0]["indexes"]
    assert found[0] == found[1]


async def test_neither_a_capture_nor_a_forecast_writes_on_the_target(
    place: Place, cluster18: LocalCluster, database: str
) -> None:
    with psycopg.connect(cluster18.conninfo(database), autocommit=True, prepare_threshold=None) as watcher:
        watcher.execute("select pg_stat_force_next_flush()")
        before = footprint(watcher)
        place.sent.clear()
        await capture(place.session)
        await place.simulator.simulate(place.session, "create index on child (parent_id)")
        await place.simulator.simulate(place.session, "drop index child_extra")
        await place.session.rows("select pg_catalog.pg_stat_force_next_flush()")
        assert footprint(watcher) == before  # no transaction id was taken, so nothing can have been written
        holds = watcher.execute(
            "select l.mode from pg_locks l join pg_class c on c.oid = l.relation and c.oid > 16384 where l.pid = %s",
            (place.session.conn.info.backend_pid,),
        ).fetchall()
    assert holds == []
    texts = [s.text.lower().removeprefix("/* indexpilot */").lstrip() for s in place.sent]
    assert len(texts) > 30
    assert {t.split()[0] for t in texts} <= {"select", "with"}


async def test_the_file_is_the_owners_alone_and_is_replaced_at_once(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "b"
    old = os.umask(0)
    try:
        write_bundle(place.bundle, file)
    finally:
        os.umask(old)
    assert file.stat().st_mode & 0o777 == 0o600
    first = file.read_bytes()
    broken = Bundle(place.bundle.header, {**place.bundle.answers, "whatif/sizes": [{"oid": object()}]})
    with pytest.raises(TypeError):
        write_bundle(broken, file)
    assert file.read_bytes() == first  # what was there is there
    assert [p.name for p in tmp_path.iterdir()] == ["b"]  # and nothing half-made beside it
    write_bundle(place.bundle, file)
    assert file.read_bytes() == first  # the same capture, the same bytes


async def test_what_is_written_is_read_again(place: Place) -> None:
    again = read_bundle(place.file)
    assert again.header == place.bundle.header
    for name, rows in place.bundle.answers.items():
        if name != "whatif/settings":
            assert again.answers[name] == rows, name
    head = lines(place.file)[0]
    assert (head["format"], head["version"]) == ("indexpilot-bundle", 1)
    assert head["server_version"] >= 180000
    assert head["relations"] == 9  # with the two views of pg_stat_statements


def replaced(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


DAMAGE = {
    "not there": lambda f: f.with_name("none"),
    "not a bundle": lambda f: write_lines(f, [{"hello": 1}]),
    "plain text": lambda f: replaced(f, b"select 1"),
    "empty": lambda f: replaced(f, b""),
    "of format version 99": lambda f: write_lines(f, [{"format": "indexpilot-bundle", "version": 99}]),
    "cut short": lambda f: replaced(f, f.read_bytes()[:5000]),
    "last line is missing": lambda f: write_lines(f, lines(f)[:-1]),
    "a line is missing": lambda f: write_lines(f, [x for n, x in enumerate(lines(f)) if n != 4]),
    "one byte differs": lambda f: replaced(f, flipped(f.read_bytes())),
    "a list where a header was": lambda f: replaced(f, b"[]\n"),
    "rows of another length": lambda f: write_lines(f, edited(f, "whatif/columns", lambda r: r.append(1))),
    "a size that no table has": lambda f: write_lines(f, edited(f, "whatif/sizes", lambda r: r.__setitem__(1, 2**40))),
    "text where a number was": lambda f: write_lines(f, edited(f, "whatif/columns", lambda r: r.__setitem__(0, "1; x"))),
    "no number in the statistics": lambda f: write_lines(f, edited(f, "whatif/stats", broken_frequencies)),
}


def flipped(raw: bytes) -> bytes:
    middle = len(raw) // 2
    return raw[:middle] + bytes([raw[middle] ^ 0xFF]) + raw[middle + 1 :]


def edited(file: Path, question: str, change: Any) -> list[dict[str, Any]]:
    content = lines(file)
    for line in content:
        if line.get("question") == question:
            change(line["rows"][0])
    return content


def broken_frequencies(row: list[Any]) -> None:
    row[:] = ["{x}" if isinstance(v, str) and v.startswith("{0.") else v for v in row]
    if "{x}" not in row:
        row[4] = "x"  # null_frac


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_file_is_refused_in_one_message(place: Place, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "b"
    file.write_bytes(place.file.read_bytes())
    with pytest.raises(UsageError) as caught:
        read_bundle(DAMAGE[damage](file))
    assert caught.value.exit_status == 64
    assert caught.value.field == "bundle"
    assert caught.value.remedy


async def test_any_byte_that_differs_is_noticed(place: Place, tmp_path: Path) -> None:
    """Wherever it is: also where what comes out is a bundle with another number in it."""
    raw = place.file.read_bytes()
    file = tmp_path / "b"
    accepted = []
    for at in range(10, len(raw), len(raw) // 97):
        file.write_bytes(raw[:at] + bytes([raw[at] ^ 0x10]) + raw[at + 1 :])
        try:
            read_bundle(file)
        except UsageError:
            continue
        accepted.append(at)
    assert accepted == []
    file.write_bytes(raw + raw)
    with pytest.raises(UsageError, match="not whole"):
        read_bundle(file)


async def test_a_small_file_cannot_fill_the_memory(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexpilot_tui.engine.whatif.bundle.file.MAX_LINE_BYTES", 1_000_000)
    head = gzip.decompress(place.file.read_bytes()).split(b"\n")[0]
    file = tmp_path / "b"
    file.write_bytes(gzip.compress(head + b"\n" + b'{"question":"' + b"a" * 5_000_000 + b'"}\n'))
    assert file.stat().st_size < 10_000
    with pytest.raises(UsageError, match="too long a line"):
        read_bundle(file)


async def test_a_target_that_goes_away_in_the_middle_is_said_and_nothing_is_left(
    cluster18: LocalCluster, database: str
) -> None:
    seen: list[SentStatement] = []

    def cut(statement: SentStatement) -> None:
        seen.append(statement)
        if "a.attrelid::int8" in statement.text:  # one of the first questions
            with psycopg.connect(cluster18.conninfo(), autocommit=True) as conn:
                conn.execute("select pg_terminate_backend(%s)", (session.conn.info.backend_pid,))

    session = await connect(socket_target(cluster18, database), Purpose.MONITOR, Settings(), sink=cut)
    with pytest.raises(ConnectError):
        await capture(session)
    assert session.closed
    await session.close()


async def test_a_locked_table_holds_nobody_up(place: Place, cluster18: LocalCluster, database: str) -> None:
    with psycopg.connect(cluster18.conninfo(database)) as other:
        other.execute("lock table child in access exclusive mode")
        started = time.perf_counter()
        bundle = await capture(place.session)
        assert time.perf_counter() - started < 3
        other.rollback()
    assert any("locked exclusively" in note for note in bundle.header.notes)
    found = await place.simulator.simulate(
        BundleSession(bundle),
        "create index on child (parent_id)",
        [Statement("1", "select * from child where parent_id = 3", 1)],
    )
    assert found.queries[0].uses_index


async def test_a_file_sets_nothing_but_planner_settings(place: Place, tmp_path: Path) -> None:
    content = lines(place.file)
    for line in content:
        if line.get("question") == "whatif/settings":
            line["rows"][:3] = [["local_preload_libraries", "evil"], ["log_statement", "all"], ["work_mem", "4096"]]
    names = {r["name"] for r in read_bundle(write_lines(tmp_path / "b", content)).answers["whatif/settings"]}
    assert "work_mem" in names
    assert not names & {"local_preload_libraries", "log_statement"}


async def test_a_redacted_bundle_holds_no_value_and_plans_as_before(place: Place, tmp_path: Path) -> None:
    text = gzip.decompress(place.file.read_bytes())
    assert b"CANARY-alice" in text  # it is in the statistics, so the test can fail
    assert b"CANARY-mallory" in text
    file = tmp_path / "r"
    write_bundle(redacted(place.bundle), file)
    hidden = gzip.decompress(file.read_bytes())
    assert b"CANARY" not in hidden
    times = next(
        r["histogram"] for r in place.bundle.answers["whatif/stats"] if r["column"] == "at" and "x}" in r["relation"]
    )
    assert len(array_items(times)) == 101
    assert not [t for t in array_items(times)[1:-1] if t.encode() in hidden]
    again = read_bundle(file)
    assert again.header.redacted
    assert again.header.lost
    for ddl, query in (
        ("create index on child (parent_id)", "select * from child where parent_id = $1"),
        ("drop index child_extra", "select * from child where extra = $1"),
        ("create index on part (v)", "select * from part where v = $1"),
        ("create index on child (parent_id)", "select * from child join parent p on p.id = parent_id where p.code = $1"),
        (
            "create index new_ix on child (status)",
            "select * from child where status = 'pending'",
        ),  # kept: a predicate has it
    ):
        one, other = [
            await place.simulator.simulate(BundleSession(b), ddl, [Statement("1", query, 1.0)])
            for b in (place.bundle, again)
        ]
        assert other.cost_before == pytest.approx(one.cost_before, rel=0.001), query
        assert other.cost_after == pytest.approx(one.cost_after, rel=0.001), query
        assert other.index.size_bytes == pytest.approx(one.index.size_bytes, rel=0.001)


async def test_every_question_of_a_capture_is_one_that_the_redaction_knows(place: Place) -> None:
    """Whoever makes the reading ask something new has to say here whether its answer holds values of rows."""
    assert set(place.bundle.answers) <= KNOWN


async def test_a_question_that_was_not_captured_is_named(place: Place) -> None:
    session = BundleSession(place.bundle)
    with pytest.raises(UsageError, match="no answer"):
        await session.rows("select 1")
    with pytest.raises(UsageError, match="not a server"):
        session.conn.cursor()


async def test_statistics_that_the_role_may_not_see_are_named_in_it(cluster18: LocalCluster, database: str) -> None:
    role = f"blind_{secrets.token_hex(3)}"
    with psycopg.connect(cluster18.conninfo(database), autocommit=True) as conn:
        conn.execute(f"create role {role} login".encode())
        conn.execute(f"grant pg_monitor to {role}".encode())
    session = await connect(socket_target(cluster18, database, role), Purpose.MONITOR, Settings())
    bundle = await capture(session)
    await session.close()
    assert any("hidden from this role" in note and "pg_read_all_data" in note for note in bundle.header.notes)
    with psycopg.connect(cluster18.conninfo(database), autocommit=True) as conn:
        conn.execute(f"drop role {role}".encode())


async def test_one_schema_brings_what_it_needs_and_no_more(place: Place) -> None:
    part = await capture(place.session, CaptureOptions(schemas=('We"ird; schema',)))
    assert {r["name"] for r in part.answers["whatif/relations"]} == {"Ta'ble %s {x}", "happy"}
    with pytest.raises(UsageError, match="no table in nowhere"):
        await capture(place.session, CaptureOptions(schemas=("nowhere",)))


async def test_hundreds_of_tables_are_read_in_slices_and_give_the_same_snapshot(cluster18: LocalCluster) -> None:
    name = f"slices_{secrets.token_hex(4)}"
    with psycopg.connect(cluster18.conninfo(), autocommit=True) as conn:
        conn.execute(f"create database {name}".encode())
    try:
        with psycopg.connect(cluster18.conninfo(name), autocommit=True) as conn:
            conn.execute("do $$ begin for n in 1 .. 450 loop"
                         " execute format('create table t%s (id int primary key, v int)', n); end loop; end $$")  # fmt: skip
            conn.execute("insert into t7 select g, g % 7 from generate_series(1, 1000) g; analyze t7")
        sent: list[SentStatement] = []
        session = await connect(socket_target(cluster18, name), Purpose.MONITOR, Settings(), sink=sent.append)
        sent.clear()
        offline = BundleSession(await capture(session))
        assert len(sent) == offline.bundle.header.cost.statements
        assert len(sent) < 60
        pairs = []
        for source in (session, offline):
            server = await server_traits(Reader(source))
            pairs.append(await read_snapshot(source, [("", "t7"), ("", "t440")], server=server))
        assert pairs[0].structure() == pairs[1].structure()
        assert pairs[0].statistics() == pairs[1].statistics()
        assert pairs[0].sizes == pairs[1].sizes
        assert pairs[0].resolved == pairs[1].resolved
        await session.close()
    finally:
        with psycopg.connect(cluster18.conninfo(), autocommit=True) as conn:
            conn.execute(f"drop database {name} with (force)".encode())

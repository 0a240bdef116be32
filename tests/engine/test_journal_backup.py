"""The control schema in a file and back: nothing is lost on the way, and nothing that was altered gets in."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from indexpilot_tui.engine.journal.backup import TABLES, write_backup
from indexpilot_tui.engine.journal.backup_check import Checked, check_backup
from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.journal.restore import Restored, restore
from indexpilot_tui.engine.journal.setup import setup_sql
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.errors import IndexPilotError, PrivilegeError, RefusedError, UsageError
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import AnchorPolicy, Control, Settings
from tests.conftest import socket_target
from tests.engine.journal_room import Room, claim_terms, make_plan, make_room, refused, walk

pytest_plugins = ["tests.engine.journal_fixtures"]
ALTERED = pytest.mark.family(25, no_oracle="a file is read, no change is made")
REST = ("approvals", "rate_slots", "change_parts", "gate_verdicts", "change_stats", "query_stats", "index_health", "recordings",
        "tenants")  # fmt: skip


async def fill(room: Room) -> None:
    """Something in every table: 1 failed, 2 approved, 3 proposed, 4 in execution, a bypass in force."""
    alice, bob, both = [await room.journal(user) for user in ("j_alice", "j_bob", "j_both")]
    with room.admin() as conn:
        conn.execute("insert into indexpilot.tenants values ('j_alice', 7)")
        conn.execute("update indexpilot.policy set max_starts = 20, per_seconds = 60")
    first = await room.approved(alice, bob)
    await alice.record_gates(first, [Verdict("rate", Status.PASS, "1", "5", "", "free \u2713 'quoted' \x1b[2J\n")])
    now = await alice.session.value("select pg_catalog.clock_timestamp()")
    await alice.save_stats(first, 0, "proposed", now, None, [{"queryid": -1, "mean_ms": 0.1}])
    claim = await alice.claim(first, **claim_terms())
    await alice.set_part(first, 1, 0, "begun", 4_000_000_000)
    await walk(alice, claim, State.FAILED)
    await both.bypass_on(["rate", "window"], "incident", 600)
    await room.approved(alice, bob, make_plan('we"ird\nname'))
    await alice.propose(make_plan("third"), target="prod", reason="slow")
    await alice.claim(await room.approved(alice, bob, make_plan("fourth")), **claim_terms())
    row = {
        "queryid": 2**62,
        "user": "app",
        "query": "select $1",
        "calls": 1e17,
        "total_ms": 0.1 + 0.2,
        "rows": 3,
        "wal_bytes": 0,
    }
    assert await alice.record("query_stats", alice.session.facts, now, now + timedelta(minutes=5), [row]) == 1
    finding = {"kind": "unused", "severity": "info", "index_oid": 5, "index": "a.b", "table": "a.c", "size_bytes": None,
               "scans": 2**40, "evidence": "x"}  # fmt: skip
    assert await alice.record("index_health", alice.session.facts, now - timedelta(hours=1), now, [finding]) == 1


def content(room: Room, table: str) -> list[dict[str, Any]]:
    with room.admin() as conn:
        conn.execute("set timezone = 'UTC'")
        query = sql.SQL("select row_to_json(t) from indexpilot.{} t order by {}")
        return [row[0] for row in conn.execute(query.format(sql.Identifier(table), sql.SQL(TABLES[table])))]


async def saved(room: Room, path: Path, user: str = "j_mona") -> Checked:
    with path.open("wb") as file:
        await write_backup(await room.journal(user), file, {"tui.theme": {"value": "calm", "source": "default"}})
    return check_backup(path)


async def owner(room: Room) -> Journal:
    """The journal of the cluster's superuser."""
    session = await connect(socket_target(room.cluster, room.dbname), Purpose.CONTROL, Settings())
    opened = await Journal.open(session)
    room.opened.append(opened)
    return opened


@asynccontextmanager
async def put_back(room: Room, path: Path, *, multi_tenant: bool = False) -> AsyncIterator[tuple[Room, Journal, Restored]]:
    async with make_room(room.cluster) as empty:
        if multi_tenant:
            with empty.admin() as conn:
                conn.execute(setup_sql(multi_tenant=True).encode())
        journal = await owner(empty)
        yield empty, journal, await restore(journal, path, check_backup(path))


async def test_everything_comes_back_and_goes_on(room: Room, tmp_path: Path) -> None:
    await fill(room)
    checked = await saved(room, tmp_path / "b")
    assert set(checked.rows) == set(TABLES), "the test should fill every table"
    before = {table: content(room, table) for table in TABLES}
    async with put_back(room, tmp_path / "b") as (there, journal, restored):
        after = {table: content(there, table) for table in TABLES}
        for table in REST:
            assert after[table] == before[table], table
        assert after["mutation_log"][: len(before["mutation_log"])] == before["mutation_log"]
        assert (await journal.verify_chain()).ok
        for was, now in zip(before["changes"], after["changes"], strict=True):
            changed = {key for key in was if was[key] != now[key]}
            assert changed == ({"state", "state_since", "outcome"} if was["state"] == "approved" else set()), was["id"]
        # what happened since the backup is unknown, so nothing goes on by itself
        assert [c["state"] for c in after["changes"]] == ["failed", "expired", "proposed", "starting"]
        assert after["bypasses"][0]["end_reason"] == "restored from a backup"
        alice, bob = await there.journal("j_alice"), await there.journal("j_bob")
        assert await alice.bypass() is None
        assert (after["policy"][0]["max_starts"], after["policy"][0]["starts_stopped"]) == (20, True)
        told = [e.action for e in await alice.events(after=checked.header.seq)]
        assert told == ["restored", "starts.stopped", "bypass.off", "expired"]
        fifth = await there.approved(alice, bob, make_plan("fifth"))
        assert fifth == 5  # ids continue
        await refused(alice.claim(fifth, **claim_terms()), "kill_switch")
        await bob.allow_starts("looked at")
        await refused(alice.claim(fifth, **claim_terms()), "busy")  # the one that was in execution is still for reconcile
        assert await alice.takeover(4, 30) is None  # its lease holds; after that it is taken over by the catalog
        assert restored.chain_id != checked.header.chain_id
        with pytest.raises(RefusedError, match="in use: policy|in use: tenants|in use"):
            await restore(journal, tmp_path / "b", checked)


async def test_one_moment_whatever_is_written_meanwhile(room: Room, tmp_path: Path) -> None:
    await fill(room)

    class Busy(io.BytesIO):
        def write(self, data: Any) -> int:
            with room.admin() as conn:
                conn.execute("select indexpilot.stop_starts('meanwhile')")
            return super().write(data)

    file = Busy()
    written = await write_backup(await room.journal("j_mona"), file, {})
    (tmp_path / "b").write_bytes(file.getvalue())
    checked = check_backup(tmp_path / "b", sha256=written.sha256)
    assert checked.header.seq == checked.rows["mutation_log"] < (await (await room.journal("j_mona")).head()).seq


async def test_what_is_not_empty_or_of_another_kind_is_refused(room: Room, tmp_path: Path) -> None:
    await fill(room)
    checked = await saved(room, tmp_path / "b")
    uses: list[tuple[str, str]] = [
        ("select indexpilot.stop_starts('x')", "policy"), ("insert into indexpilot.tenants values ('x', 1)", "tenants"),
        ("update indexpilot.policy set max_starts = 1, per_seconds = 1", "mutation_log"),
        (setup_sql(multi_tenant=True), "has row-level security"),
    ]  # fmt: skip
    for deed, why in uses:
        async with make_room(room.cluster) as used:
            with used.admin() as conn:
                conn.execute(deed.encode())
            error = await refused(restore(await owner(used), tmp_path / "b", checked), "restore")
            assert why in str(error)
            assert content(used, "changes") == []
    async with make_room(room.cluster) as empty:
        for user in ("j_alice", "j_bob", "j_both", "j_mona"):
            with pytest.raises(PrivilegeError, match="superuser"):
                await restore(await empty.journal(user), tmp_path / "b", checked)
        with empty.admin() as conn:
            conn.execute("set role j_eve")
            for call in ("_restore_begin(false)", "_restore_rows('policy', '[]')", "_restore_end('{}')"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    conn.execute(f"select indexpilot.{call}".encode())
        assert (await (await empty.journal("j_mona")).head()).seq == 0


@pytest.mark.parametrize("multi_tenant", [False, True])
async def test_an_administrator_who_is_no_superuser_restores(room: Room, tmp_path: Path, multi_tenant: bool) -> None:
    """As the remedy says: a member of indexpilot_owner for as long as it takes."""
    if multi_tenant:
        with room.admin() as conn:
            conn.execute(setup_sql(multi_tenant=True).encode())
            conn.execute("insert into indexpilot.tenants values ('j_alice', 7)")
    session = await connect(socket_target(room.cluster, room.dbname, "j_alice"), Purpose.CONTROL, Settings())
    room.opened.append(alice := await Journal.open(session, Control(tenant_id=7)))
    await alice.propose(make_plan(), target="prod", reason="slow")
    with (tmp_path / "b").open("wb") as file:
        await write_backup(await owner(room), file, {})
    async with make_room(room.cluster) as empty:
        with empty.admin() as conn:
            conn.execute(setup_sql(multi_tenant=multi_tenant).encode())
            conn.execute("grant indexpilot_owner to j_mona")
            try:
                await restore(await empty.journal("j_mona"), tmp_path / "b", check_backup(tmp_path / "b"))
            finally:
                conn.execute("revoke indexpilot_owner from j_mona")
        assert len(content(empty, "changes")) == 1
        assert (await (await owner(empty)).verify_chain()).ok


async def test_with_tenants(room: Room, tmp_path: Path) -> None:
    with room.admin() as conn:
        conn.execute(setup_sql(multi_tenant=True).encode())
        conn.execute("grant indexpilot_all_tenants to j_both")
        conn.execute("insert into indexpilot.tenants values ('j_alice', 7)")
    try:
        session = await connect(socket_target(room.cluster, room.dbname, "j_alice"), Purpose.CONTROL, Settings())
        alice = await Journal.open(session, Control(tenant_id=7))
        room.opened.append(alice)
        await alice.propose(make_plan(), target="prod", reason="slow")
        with pytest.raises(PrivilegeError, match="indexpilot_all_tenants"):
            await write_backup(alice, io.BytesIO(), {})
        checked = await saved(room, tmp_path / "b", "j_both")
        async with make_room(room.cluster) as plain:
            error = await refused(restore(await owner(plain), tmp_path / "b", checked), "restore")
            assert "--multi-tenant" in str(error)
        async with put_back(room, tmp_path / "b", multi_tenant=True) as (there, journal, _):
            assert (await journal.verify_chain()).ok
            assert content(there, "changes")[0]["tenant_id"] == 7
            mona = await there.journal("j_mona")  # acts for nobody
            assert await mona.changes() == []
    finally:
        with room.admin() as conn:
            conn.execute("revoke indexpilot_all_tenants from j_both")


def test_every_table_is_in_it(cluster18: LocalCluster, journal_server: LocalCluster) -> None:
    """A table that is added has to be added here, and to the function that puts it back."""
    with psycopg.connect(journal_server.conninfo(), autocommit=True) as conn, conn.transaction(force_rollback=True):
        conn.execute(setup_sql().replace("\nBEGIN;", "\n").replace("\nCOMMIT;", "\n").encode())
        found = {row[0] for row in conn.execute("select relname from pg_class where relkind = 'r' and relnamespace ="
                                                " 'indexpilot'::regnamespace")}  # fmt: skip
        order = conn.execute("select indexpilot._restore_tables()").fetchone()
    # what setup-sql makes, and what an administrator says of the target: it is no history
    assert found - {"schema_version", "transitions", "statistics_tables"} == set(TABLES)
    assert order == (list(TABLES),)


# -- a file that was altered --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory, cluster18: LocalCluster) -> list[dict[str, Any]]:
    import asyncio

    path = tmp_path_factory.mktemp("backup") / "b"

    async def make() -> None:
        async with make_room(cluster18) as room:
            await fill(room)
            await saved(room, path)

    asyncio.run(make())
    return [json.loads(line) for line in path.read_text().splitlines()]


def sealed(lines: list[dict[str, Any]]) -> bytes:
    """A file of these lines whose last one fits, as whoever alters a file can make it."""
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines[:-1])
    counts = dict.fromkeys(TABLES, 0)
    for line in lines[1:-1]:
        counts[line["table"]] += 1
    return body + json.dumps({"rows": counts, "sha256": hashlib.sha256(body).hexdigest()}).encode() + b"\n"


def rows_of(lines: list[dict[str, Any]], table: str) -> list[dict[str, Any]]:
    return [line["row"] for line in lines[1:-1] if line["table"] == table]


def forge_approval(lines: list[dict[str, Any]]) -> None:
    proposed = next(c for c in rows_of(lines, "changes") if c["state"] == "proposed")
    proposed["state"] = "approved"
    approval = next(line for line in lines[1:-1] if line["table"] == "approvals")
    forged = approval["row"] | {"change_id": proposed["id"], "plan_sha256": proposed["plan_sha256"]}
    lines.insert(lines.index(approval), {"table": "approvals", "row": forged})


def other_plan(lines: list[dict[str, Any]]) -> None:
    change = rows_of(lines, "changes")[1]
    change["plan"] = change["plan"].replace("customer_id", "secret")
    change["plan_sha256"] = hashlib.sha256(change["plan"].encode()).hexdigest()


def drop(table: str, which: int) -> Callable[[list[dict[str, Any]]], None]:
    def deed(lines: list[dict[str, Any]]) -> None:
        lines.remove([line for line in lines[1:-1] if line["table"] == table][which])

    return deed


ALTERATIONS: dict[str, tuple[Callable[[list[dict[str, Any]]], None], str]] = {
    "a row of the log edited": (lambda ls: rows_of(ls, "mutation_log")[2].update(actor="j_eve"), "was changed after"),
    "a row of the log removed": (drop("mutation_log", 2), "row 3 is missing"),
    "the log's tail removed": (drop("mutation_log", -1), "the log ends at row"),
    "a log row without a time": (lambda ls: rows_of(ls, "mutation_log")[2].update(at=None), "row 3 of the log is damaged"),
    "another plan under an old approval": (other_plan, "is not the one that was proposed"),
    "a plan without its hash": (lambda ls: rows_of(ls, "changes")[1].update(plan="{}"), "is not the one that was proposed"),
    "an approval nobody gave": (forge_approval, "the log does not tell that j_bob approved"),
    "a change nobody proposed": (lambda ls: rows_of(ls, "changes")[0].update(id=77), "who proposed change 77"),
    "a limit lifted": (lambda ls: rows_of(ls, "policy")[0].update(max_starts=1000), "policy.max_starts is 1000"),
    "no policy": (drop("policy", 0), "a table of one row has none"),
    "another chain": (lambda ls: rows_of(ls, "chain_head")[0].update(seq=1), "is not where its first line says"),
    "a row without a column": (lambda ls: rows_of(ls, "changes")[0].pop("plan"), "lacks a column"),
}  # fmt: skip


@ALTERED
@pytest.mark.parametrize("name", ALTERATIONS)
def test_a_file_that_was_altered_with_care(name: str, lines: list[dict[str, Any]], tmp_path: Path) -> None:
    copy = json.loads(json.dumps(lines))
    (tmp_path / "b").write_bytes(sealed(copy))
    check_backup(tmp_path / "b")  # unaltered it passes
    deed, why = ALTERATIONS[name]
    deed(copy)
    (tmp_path / "b").write_bytes(sealed(copy))
    with pytest.raises(RefusedError, match=why) as caught:
        check_backup(tmp_path / "b")
    assert caught.value.exit_status == 2


@ALTERED
def test_a_file_that_is_not_whole(lines: list[dict[str, Any]], tmp_path: Path) -> None:
    whole, path = sealed(lines), tmp_path / "b"
    cases: list[tuple[bytes, str]] = [
        (whole[: len(whole) // 2], "line .* is damaged"),
        (b"".join(whole.splitlines(keepends=True)[:-1]), "is cut off"),
        (whole.replace(b'"j_alice"', b'"j_alicf"', 1), "was altered after it was written"),
        (whole + b"{}\n", "was altered after it was written"),
        (whole.replace(b'"table": "approvals"', b'"table": "pg_authid"', 1), "no row of a control schema"),
        (whole.replace(b"control schema 1", b"control schema 9", 1), "is not a backup"),
        (b"", "is not a backup"),
        (b"\x00\xff", "line 1 is damaged"),
    ]
    for data, why in cases:
        path.write_bytes(data)
        with pytest.raises(UsageError, match=why):
            check_backup(path)
    with pytest.raises(UsageError, match="cannot be read"):
        check_backup(tmp_path / "none")


@ALTERED
async def test_a_log_that_was_written_anew_is_found_by_what_was_kept_outside(
    cluster18: LocalCluster, tmp_path: Path
) -> None:
    heads, path = tmp_path / "heads", tmp_path / "b"
    async with make_room(cluster18) as room:
        session = await connect(socket_target(cluster18, room.dbname, "j_alice"), Purpose.CONTROL, Settings())
        alice = await Journal.open(session, Control(anchor=AnchorPolicy(file=heads)))
        room.opened.append(alice)
        await alice.withdraw(await alice.propose(make_plan(), target="prod", reason="slow"), "no")
        await saved(room, path)
        assert check_backup(path, heads).lost == 0
        await alice.withdraw(await alice.propose(make_plan(), target="prod", reason="slow"), "no")
        assert check_backup(path, heads).lost == 2  # the rows that came after it
        kept = heads.read_text().splitlines()
        heads.write_text(kept[0].replace(json.loads(kept[0])["hash"], "0" * 64) + "\n")
        with pytest.raises(RefusedError, match="the chain was written anew"):
            check_backup(path, heads)
        heads.write_text("\n".join(kept) + "\n")
        with pytest.raises(RefusedError, match="its SHA-256 is"):
            check_backup(path, sha256="0" * 64)
        async with put_back(room, path) as (there, journal, _):
            journal.anchor = None
            opened = await Journal.open(journal.session, Control(anchor=AnchorPolicy(file=heads, required=True)))
            bob, olga = await there.journal("j_bob"), await there.journal("j_olga")
            await bob.allow_starts("looked at")
            assert await opened.keep_head(None, "restored")  # the lost log's younger heads do not stop the new one
            assert (await opened.verify_chain(heads)).ok
            assert await olga.propose(make_plan(), target="prod", reason="slow") == 2


@ALTERED
async def test_a_file_that_changes_while_it_is_restored(cluster18: LocalCluster, lines: list[dict[str, Any]],
                                                        tmp_path: Path) -> None:  # fmt: skip
    path, copy = tmp_path / "b", json.loads(json.dumps(lines))
    path.write_bytes(sealed(copy))
    checked = check_backup(path)
    rows_of(copy, "policy")[0]["self_approval"] = "all"
    path.write_bytes(sealed(copy))
    async with make_room(cluster18) as empty:
        with pytest.raises(IndexPilotError, match="changed while it was read"):
            await restore(await owner(empty), path, checked)
        assert content(empty, "changes") == []
        assert content(empty, "policy")[0]["self_approval"] == "never"

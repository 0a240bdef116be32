"""Families 10 and 11: the server crashes, restarts, fails over, or waits for a synchronous standby that is silent."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from indexpilot_tui.engine.model.change import State
from indexpilot_tui.errors import IndexPilotError
from indexpilot_tui.localpg import LocalCluster
from tests.faults.hooked import Hook
from tests.faults.proxy import Proxy
from tests.faults.scenes import CREATE, END, LAST_WAIT, OLD_SNAPSHOT, UNIQUE, ended, phase, to_the_end, until
from tests.faults.workshop import OverTls, Workshop, actions, check_intents, make_workshop, story
from tests.servers import TlsServer, start_tls_server


@pytest.fixture(scope="module")
def solo() -> Iterator[TlsServer]:
    """A server of our own, to be mistreated. Each test leaves it running."""
    server = start_tls_server(settings={"fsync": "on", "max_wal_senders": "4", "wal_level": "replica"})
    yield server
    server.remove()


@pytest.fixture
async def shop(solo: TlsServer) -> AsyncIterator[Workshop]:
    async with make_workshop(OverTls(solo)) as made:
        yield made


async def building(workshop: Workshop, ddl: str = UNIQUE) -> tuple[int, int, psycopg.Connection[tuple[object, ...]]]:
    change_id = await workshop.approved(ddl)
    held = workshop.blocker(*OLD_SNAPSHOT)
    pid = await workshop.spawn(change_id)
    await workshop.until_event(change_id, "index")
    await phase(workshop, LAST_WAIT, change_id)
    return change_id, pid, held


@pytest.mark.family(10)
@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_stop_and_a_start_in_mid_build(shop: Workshop, solo: TlsServer, mode: str) -> None:
    """The journal lives on the same server, so it is away as well. Flags of the index are as they were."""
    change_id, pid, held = await building(shop)
    solo.stop(mode)
    held.close()
    await asyncio.sleep(1.5)
    await asyncio.to_thread(solo.start_again)
    change = await to_the_end(shop, change_id)
    assert change.state is State.FAILED, story(change)
    assert shop.invalid() == []
    assert "clean.intent" in actions(change)
    check_intents(change)
    await ended(pid)


@pytest.mark.family(10)
@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restart_in_the_middle_of_a_cancel(shop: Workshop, solo: TlsServer, mode: str, tmp_path: Path) -> None:
    """The intent to cancel is written and the server goes away before the cancel is sent."""
    change_id = await shop.approved(UNIQUE)
    held = shop.blocker(*OLD_SNAPSHOT)
    hook = Hook(at="cancel.intent", flag=str(tmp_path / "cancel"))
    pid = await shop.spawn(change_id, hook=hook)
    await phase(shop, LAST_WAIT, change_id)
    await shop.journal.request_abort(change_id, "not tonight")
    await until(lambda: hook.here, 15, "the intent to cancel")
    solo.stop(mode)
    held.close()
    hook.release()
    await asyncio.sleep(0.5)
    await asyncio.to_thread(solo.start_again)
    change = await to_the_end(shop, change_id)
    assert change.state is State.FAILED, story(change)
    assert "not tonight" in change.outcome
    assert shop.invalid() == []
    check_intents(change)
    await ended(pid)


@pytest.mark.family(10)
async def test_a_backend_that_is_killed_takes_the_server_down_for_a_moment(shop: Workshop) -> None:
    change_id, pid, held = await building(shop)
    backend = shop.sql("select pid from pg_stat_activity where application_name like 'ixp:%'")[0][0]
    os.kill(int(backend), signal.SIGKILL)
    held.close()
    change = await to_the_end(shop, change_id)
    assert change.state is State.FAILED, story(change)
    assert shop.invalid() == []
    check_intents(change)
    await ended(pid)


# -- a standby -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def standby(solo: TlsServer) -> Iterator[TlsServer]:
    made = solo.standby()
    yield made
    made.remove()


def caught_up(solo: TlsServer) -> None:
    """What is written now is on the standby."""
    with solo.connect() as conn:
        row = conn.execute("select pg_current_wal_lsn()").fetchone()
        assert row is not None
        for _ in range(200):
            if conn.execute("select 1 from pg_stat_replication where replay_lsn >= %s::pg_lsn", row).fetchone():
                return
            time.sleep(0.05)
    raise AssertionError("the standby never caught up")


@pytest.mark.family(10)
async def test_a_promotion_in_mid_build_and_the_old_primary_that_says_success(solo: TlsServer, standby: TlsServer) -> None:
    """The address moves to the new primary; the old one goes on and finishes the build. Its success is not ours."""
    with Proxy(solo.port) as proxy:
        async with make_workshop(OverTls(solo, proxy.port)) as workshop:
            change_id, pid, held = await building(workshop, CREATE)
            caught_up(solo)
            with standby.connect() as conn:
                conn.execute("select pg_promote()")
            proxy.to = standby.port
            proxy.swallow(port for port in _ports(workshop, "ixp:%"))  # its answer is still to come
            proxy.reset(port for port in _ports(workshop, "ixp-eye:%") + _ports(workshop, "indexpilot-control"))
            held.close()
            await until(lambda: workshop.sql("select indisvalid from pg_index where indexrelid = to_regclass('app.t_v_idx')") == [(True,)],
                        15, "the old primary's success")  # fmt: skip
            workshop.cluster = OverTls(standby)
            workshop.log_from = 0
            change = await to_the_end(workshop, change_id)
            assert change.state is State.NEEDS_OPERATOR, story(change)
            assert "failover" in change.outcome
            assert workshop.sql("select indisvalid from pg_index where indexrelid = to_regclass('app.t_v_idx')") != [(True,)]
            assert "verified" not in actions(change)
            await ended(pid)
            workshop.theirs.add("app.t_v_idx")  # the half-built copy on the new primary is a person's to judge
    solo.stop("immediate")
    solo.start_again()


def _ports(workshop: Workshop, application_name: str) -> list[int]:
    return [
        int(r[0])
        for r in workshop.sql("select client_port from pg_stat_activity where application_name like %s", application_name)
    ]


@contextmanager
def stalled(solo: TlsServer, standby: TlsServer) -> Iterator[None]:
    """Every commit waits for a standby that is there and says nothing."""
    with solo.connect() as conn:
        conn.execute("alter system set synchronous_standby_names = '*'")
        conn.execute("select pg_reload_conf()")
    receiver = _walreceiver(standby)
    os.kill(receiver, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(receiver, signal.SIGCONT)
        with solo.connect() as conn:
            conn.execute("alter system reset synchronous_standby_names")
            conn.execute("select pg_reload_conf()")


def _walreceiver(standby: TlsServer) -> int:
    for _ in range(100):
        with standby.connect() as conn:
            row = conn.execute("select pid from pg_stat_wal_receiver where status = 'streaming'").fetchone()
        if row:
            return int(str(row[0]))
        time.sleep(0.05)
    raise AssertionError("the standby does not stream")


@pytest.mark.family(11)
@pytest.mark.parametrize("home", ["here", "elsewhere"])
async def test_nothing_is_called_cancelled_while_its_backend_lives(
    solo: TlsServer, standby: TlsServer, cluster18: LocalCluster, home: str
) -> None:
    """A cancel ends only the wait for the standby (measured): the build goes on behind it. With the control schema on the
    same server its commits wait as well; elsewhere it can be written, and could say what is not so."""
    async with AsyncExitStack() as stack:
        control = await stack.enter_async_context(make_workshop(cluster18)) if home == "elsewhere" else None
        workshop = await stack.enter_async_context(make_workshop(OverTls(solo), control=control))
        change_id, pid, held = await building(workshop, CREATE)
        caught_up(solo)
        claims: list[str] = []
        with stalled(solo, standby):
            stop = threading.Event()
            watching = threading.Thread(target=_watch_claims, args=(workshop, change_id, stop, claims))
            watching.start()
            held.close()  # the build goes on into its commits, which wait
            await asyncio.sleep(1.0)
            with suppress(IndexPilotError, TimeoutError):
                await asyncio.wait_for(workshop.journal.request_abort(change_id, "not tonight"), 3)
            await asyncio.sleep(5)
            stop.set()
            watching.join(10)
        assert claims == []
        change = await to_the_end(workshop, change_id, *END)
        assert workshop.invalid() == []
        assert ("t_v_idx" in workshop.indexes()) == (change.state in END), story(change)
        if home == "elsewhere":  # the cancel was sent and ended a wait, no more: what stands is told as standing
            assert "cancel.sent" in actions(change), story(change)
            assert change.index_valid
        check_intents(change)
        if change.ended:
            await ended(pid, 30)


def _watch_claims(workshop: Workshop, change_id: int, stop: threading.Event, claims: list[str]) -> None:
    """Note every moment in which the change is called ended while its backend is there."""
    here, home = workshop.superuser(), workshop.control_superuser()
    with psycopg.connect(here, autocommit=True) as conn, psycopg.connect(home, autocommit=True) as control:
        while not stop.wait(0.05):
            row = control.execute(
                "select state, backend_pid, backend_start from indexpilot.changes where id = %s", (change_id,)
            ).fetchone()
            if row is None or row[0] not in ("failed", "cleaning", "done", "queued"):
                continue
            alive = conn.execute(
                "select 1 from pg_stat_activity where pid = %s and backend_start = %s and state <> 'idle'", row[1:]
            ).fetchone()
            if alive:
                claims.append(f"{row[0]} while backend {row[1]} runs")

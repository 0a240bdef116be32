"""Family 7: the network between the engine and the server breaks, falls silent or gets slow, on all sessions or on one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from indexpilot_tui.engine.model.change import State
from tests.faults import oracle
from tests.faults.proxy import Proxy
from tests.faults.scenes import CREATE, END, LAST_WAIT, OLD_SNAPSHOT, ended, nobody_builds, phase
from tests.faults.workshop import OverTls, Workshop, actions, check_intents, make_workshop, story
from tests.servers import TlsServer

SESSIONS = {"executor": "ixp:%", "observer": "ixp-eye:%", "control": "indexpilot-control", "all": "%"}


@dataclass
class Wired:
    """A workshop whose engine talks through the proxy; the test itself does not."""

    workshop: Workshop
    proxy: Proxy

    def ports(self, which: str) -> list[int]:
        """The connections of the executor process: its executor, observer or control session, or all."""
        rows = self.workshop.sql(
            "select client_port from pg_stat_activity where application_name like %s and usename = 'w_operator'"
            " and application_name <> 'indexpilot'",
            SESSIONS[which],
        )
        return [int(row[0]) for row in rows]

    async def building(self) -> tuple[int, int]:
        """A build that waits for an old snapshot: (change, executor)."""
        self.held = self.workshop.blocker(*OLD_SNAPSHOT)
        change_id = await self.workshop.approved(CREATE)
        pid = await self.workshop.spawn(change_id)
        await self.workshop.until_event(change_id, "ddl.intent", 30)
        await phase(self.workshop, LAST_WAIT, change_id)
        return change_id, pid


@pytest.fixture
async def wired(tls_server: TlsServer) -> AsyncIterator[Wired]:
    with Proxy(tls_server.port) as proxy:
        async with make_workshop(OverTls(tls_server, proxy.port)) as workshop:
            yield Wired(workshop, proxy)


@pytest.mark.family(7)
@pytest.mark.parametrize("how", ["reset", "swallow"])
@pytest.mark.parametrize("which", ["executor", "observer", "control", "all"])
async def test_a_session_is_lost_in_mid_build(wired: Wired, which: str, how: str) -> None:
    """Reset, or silent: in either case the change comes to an end that the catalog confirms, by itself."""
    workshop = wired.workshop
    change_id, pid = await wired.building()
    ports = wired.ports(which)
    assert ports
    assert (wired.proxy.reset if how == "reset" else wired.proxy.swallow)(ports) == len(ports)
    await asyncio.sleep(3)
    wired.held.close()
    change = await workshop.until(change_id, State.FAILED, *END, seconds=60)
    assert workshop.invalid() == []
    made = "t_v_idx" in workshop.indexes()
    assert made == (change.state in END)
    if which == "control":
        assert made, story(change)  # it has nothing to do with the build
        assert "cancel.intent" not in actions(change)
    check_intents(change)
    if change.state is State.FAILED:
        await ended(pid, 20)


@pytest.mark.family(7)
async def test_the_network_is_away_for_a_while(wired: Wired) -> None:
    """Everything is cut and nothing can be opened; when it is back, the change comes to its end."""
    workshop = wired.workshop
    change_id, _ = await wired.building()
    wired.proxy.refusing = True
    wired.proxy.reset()
    await nobody_builds(workshop)  # the server notices that its client is gone: no build goes on that nobody watches
    await asyncio.sleep(2)
    wired.proxy.refusing = False
    wired.held.close()
    change = await workshop.until(change_id, State.FAILED, *END, seconds=60)
    assert workshop.invalid() == []
    check_intents(change)


@pytest.mark.family(7)
async def test_the_network_falls_silent_and_another_console_takes_over(wired: Wired, tls_server: TlsServer) -> None:
    """The first executor hears nothing any more, and cannot be told; the second one has a way of its own."""
    workshop = wired.workshop
    change_id, first = await wired.building()
    wired.proxy.silent = True
    wired.proxy.swallow()
    workshop.cluster = OverTls(tls_server)
    await workshop.spawn(change_id, resume=True)
    change = await workshop.until_event(change_id, "takeover", 30)
    epoch = change.epoch
    await asyncio.sleep(1)
    wired.held.close()
    change = await workshop.until(change_id, *END, seconds=40)
    assert change.index_valid
    assert oracle.deeds(workshop)[0].sql.startswith("CREATE INDEX CONCURRENTLY")
    assert len(oracle.deeds(workshop)) == 1
    wired.proxy.silent = False
    await ended(first, 40)
    after = await workshop.until(change_id, State.DONE)
    assert after.epoch == epoch, story(after)


@pytest.mark.family(7)
async def test_a_network_that_gets_slow_does_not_blind_the_guards(wired: Wired) -> None:
    """2 s for a question and its answer: who cannot watch in time does not go on building."""
    workshop = wired.workshop
    change_id, _ = await wired.building()
    wired.proxy.delay_s = 1.0
    start = time.monotonic()
    await nobody_builds(workshop, 30)
    print(f"the build was given up after {time.monotonic() - start:.1f} s")
    wired.proxy.delay_s = 0.0
    wired.held.close()
    change = await workshop.until(change_id, State.FAILED, *END, seconds=60)
    assert workshop.invalid() == []
    assert any(e.action == "cancel.intent" and e.detail["guard"] == "observer" for e in change.events), story(change)
    check_intents(change)

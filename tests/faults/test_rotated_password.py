"""A password that is rotated while a build runs: a password_command supplies the new one, and until it does the log says
what is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from indexpilot_tui.engine.model.change import State
from indexpilot_tui.settings.model import Target
from tests.faults.workshop import OPERATOR, OverTls, Workshop, actions, make_workshop, story
from tests.servers import TlsServer


class ByCommand(OverTls):
    """The engine's logins get their password from a command only."""

    def __init__(self, server: TlsServer, vault: Path) -> None:
        super().__init__(server)
        self.vault = vault

    def target(self, dbname: str, user: str, *, engine: bool = False, **fields: object) -> Target:
        made = super().target(dbname, user, engine=engine, **fields)
        if not engine:
            return made
        dsn = self.server.conninfo(user, dbname, passfile="")
        return replace(made, dsn=dsn, password_command=("/bin/cat", str(self.vault)))


@pytest.fixture
async def place(tls_server: TlsServer, tmp_path: Path) -> AsyncIterator[Workshop]:
    vault = tmp_path / "vault"
    async with make_workshop(ByCommand(tls_server, vault)) as made:
        vault.write_text(tls_server.passwords[OPERATOR] + "\n")
        before = tls_server.passwords[OPERATOR]
        try:
            yield made
        finally:
            tls_server.set_password(OPERATOR, before)


async def _built_with_a_new_password(place: Workshop, seconds_late: float) -> int:
    """A build that waits for an old transaction, a rotation, and every session but the build's own lost."""
    server, vault = place.cluster.server, place.cluster.vault  # type: ignore[union-attr]
    old = place.blocker("set transaction isolation level repeatable read", "select 1", "insert into app.other values (1)")
    change_id = await place.approved("create index on app.t (v)")
    await place.spawn(change_id)
    await place.until(change_id, State.RUNNING)
    server.set_password(OPERATOR, "rotated-by-night")
    if not seconds_late:
        vault.write_text("rotated-by-night\n")
    place.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'ixp-eye:%' and datname = current_database()"
    )
    await asyncio.sleep(seconds_late)
    if seconds_late:
        await place.until_event(change_id, "waiting", 30)
        vault.write_text("rotated-by-night\n")
    await asyncio.sleep(1)
    old.rollback()
    return change_id


@pytest.mark.family(8)
async def test_a_command_that_has_the_new_password_ends_the_build_right(place: Workshop) -> None:
    change_id = await _built_with_a_new_password(place, 0)
    change = await place.until(change_id, State.DONE)
    assert "cancel.intent" not in actions(change), story(change)
    assert "rotated" not in story(change)


@pytest.mark.family(8)
async def test_until_then_the_log_says_what_is_waited_for(place: Workshop) -> None:
    change_id = await _built_with_a_new_password(place, 5)
    change = await place.until(change_id, State.DONE, seconds=60)
    told = next(e.detail for e in change.events if e.action == "waiting")
    assert "password authentication failed" in told["for"]
    assert "password_command" in told["remedy"]
    guards = [e.detail["guard"] for e in change.events if e.action == "cancel.intent"]
    assert guards == ["observer"], story(change)  # nobody watched it, so it was stopped and made again
    assert place.invalid() == []
    assert "rotated" not in story(change)


def test_the_old_password_is_refused_by_the_server(tls_server: TlsServer) -> None:
    """What the cases above rest on: libpq has no other source for a password here."""
    with pytest.raises(psycopg.OperationalError, match="password|fe_sendauth"):
        psycopg.connect(tls_server.conninfo("admin", passfile="/dev/null"))

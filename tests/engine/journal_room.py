"""A control schema in a database of its own with its logins, for the tests of the journal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

import psycopg
import pytest
from psycopg import sql

from indexpilot_tui.engine.journal.journal import Claim, Journal, JournalRefusedError
from indexpilot_tui.engine.journal.setup import setup_sql
from indexpilot_tui.engine.model.change import Plan, State
from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from tests.conftest import socket_target

CLUSTER = "7300000000000000001"
LOGINS = {
    "j_alice": ("indexpilot_operator",),
    "j_olga": ("indexpilot_operator",),
    "j_bob": ("indexpilot_approver",),
    "j_zoe": ("indexpilot_approver",),
    "j_both": ("indexpilot_operator", "indexpilot_approver"),
    "j_mona": ("indexpilot_monitor",),
    "j_eve": (),
}
_numbers = count(1)


def make_plan(index: str = "orders_customer_idx", **changed: Any) -> Plan:
    values: dict[str, Any] = {
        "kind": "create", "ddl": f'CREATE INDEX CONCURRENTLY "{index}" ON public.orders USING btree (customer_id)',
        "schema": "public", "table": "orders", "table_oid": 16384, "index": index, "index_oid": None, "method": "btree",
        "unique": False, "owner": "shop", "system_identifier": CLUSTER, "database": "shop",
        "saved": {"note": "ein Größenmaß ✓ \u202e", "list": [1, 2.5, None]},
    }  # fmt: skip
    return Plan(**(values | changed))


@dataclass
class Room:
    """One database with the control schema."""

    cluster: LocalCluster
    dbname: str
    opened: list[Journal]

    def admin(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.cluster.conninfo(self.dbname), autocommit=True)

    async def journal(self, user: str) -> Journal:
        session = await connect(socket_target(self.cluster, self.dbname, user), Purpose.CONTROL, Settings())
        try:
            journal = await Journal.open(session)
        except BaseException:
            await session.close()
            raise
        self.opened.append(journal)
        return journal

    async def approved(self, journal: Journal, approver: Journal, plan: Plan | None = None, hours: float = 1) -> int:
        plan = plan or make_plan()
        change_id = await journal.propose(plan, target="prod", reason="the orders page is slow")
        await approver.approve(change_id, plan.sha256, timedelta(hours=hours))
        return change_id


@asynccontextmanager
async def make_room(cluster: LocalCluster) -> AsyncIterator[Room]:
    dbname = f"journal_{next(_numbers)}"
    with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
        conn.execute(sql.SQL("create database {}").format(sql.Identifier(dbname)))
    room = Room(cluster, dbname, [])
    with room.admin() as conn:
        conn.execute(setup_sql().encode())
        for login, groups in LOGINS.items():
            if not conn.execute("select 1 from pg_roles where rolname = %s", (login,)).fetchone():
                conn.execute(sql.SQL("create role {} login").format(sql.Identifier(login)))
            for group in groups:
                conn.execute(sql.SQL("grant {} to {}").format(sql.Identifier(group), sql.Identifier(login)))
    try:
        yield room
    finally:
        for journal in room.opened:
            await journal.close()
        with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
            conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(dbname)))


async def refused(awaitable: Awaitable[object], code: str) -> JournalRefusedError:
    """The refusal, which must have this code."""
    with pytest.raises(JournalRefusedError) as caught:
        await awaitable
    assert caught.value.code == code, caught.value
    return caught.value


def claim_terms(**changed: Any) -> dict[str, Any]:
    terms = {"system_identifier": CLUSTER, "timeline": 1, "rate_max": 5, "rate_window_s": 3600, "lease_s": 30}
    return terms | changed


async def walk(journal: Journal, claim: Claim, *states: State) -> None:
    """Advance a claimed change through these states."""
    here = State.STARTING
    for state in states:
        await journal.advance(claim.change_id, claim.epoch, here, state, "phase", {})
        here = state

"""Fill the sample shop: generated rows, keys, and the planted troubles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import psycopg
from psycopg import AsyncConnection

from indexpilot_tui.demo.scenarios import Scenario
from indexpilot_tui.engine.postgres.queries import load

DATABASE = "shop"
OWNER_ROLE = "shop_owner"
_PACKAGE = "indexpilot_tui.demo"
_SEED = 0.42  # setseed takes -1..1; the same rows in every demo
Connection = AsyncConnection[tuple[object, ...]]


async def _session(conninfo: str, *, owner: bool) -> Connection:
    connection = await AsyncConnection.connect(conninfo, autocommit=True)
    if owner:
        await connection.execute(f"SET ROLE {OWNER_ROLE}".encode())
    return connection


async def _script(connection: Connection, name: str) -> None:
    """Run a file of several statements without parameters, each in a transaction of its own."""
    for statement in load(_PACKAGE, name).split(";\n"):
        if statement.strip():
            await connection.execute(statement.encode())


async def _chain(conninfo: str, scenario: Scenario, steps: Sequence[str], progress: Callable[[str], None]) -> None:
    """Load and index some tables, one after the other, on a connection of their own."""
    connection = await _session(conninfo, owner=True)
    async with connection:
        await connection.execute(b"SET maintenance_work_mem = '128MB'")
        for table in steps:
            progress(f"demo: generating {table.replace('_', ' ')}")
            await connection.execute("SELECT setseed(%s)", (_SEED,))
            await connection.execute(load(_PACKAGE, f"load_{table}").encode(), scenario.sizes())
            if table != "products":  # indexed with the customers
                await _script(connection, f"index_{table}")


async def create(conninfo: str, scenario: Scenario, progress: Callable[[str], None]) -> None:
    """Make roles, tables, rows, indexes and troubles in the empty database of `conninfo` (a superuser's).

    The planner's statistics are fresh afterwards.
    Raises psycopg.Error.
    """
    superuser = await _session(conninfo, owner=False)
    async with superuser:
        await _script(superuser, "roles")
        owner = await _session(conninfo, owner=True)
        async with owner:
            await _script(owner, "schema")
            async with asyncio.TaskGroup() as group:  # two cores: the items take about as long as the rest
                group.create_task(_chain(conninfo, scenario, ("order_items", "payments"), progress))
                group.create_task(_chain(conninfo, scenario, ("products", "customers", "orders", "events"), progress))
            progress("demo: checking foreign keys, planting troubles")
            await _script(owner, "foreign_keys")
            await _plant_invalid_index(owner)
        progress("demo: collecting statistics")
        await superuser.execute(b"VACUUM (ANALYZE)")


async def _plant_invalid_index(owner: Connection) -> None:
    """A concurrent unique build that meets duplicates leaves an INVALID index, as it does in production."""
    try:
        await owner.execute(load(_PACKAGE, "invalid_leftover").encode())
    except psycopg.errors.UniqueViolation:
        return
    raise RuntimeError("the sample customers have no duplicate address: the unique index was built")

"""The live workload of the demo, a process of its own: `python -m indexpilot_tui.demo.workload`.

Standard input carries one line of JSON, {"conninfo", "scenario"}; its end is the end of this process, and so is that
of the server. What goes wrong in a statement is written to standard error, and the client goes on.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence

import psycopg
from psycopg import AsyncConnection

from indexpilot_tui.demo.scenarios import find
from indexpilot_tui.demo.shoppers import Action, Connection, Shop

_RECONNECTS = 5
_RECONNECT_SECONDS = 1.0
_ERRORS_TOLD = 50  # then silence: a log must not fill the disk
_END_SECONDS = 2.0
# What a careful application sets: nothing of it may stand in the way of an index build for long.
_SESSION = "-c statement_timeout=10s -c idle_in_transaction_session_timeout=5s"


class Client:
    """One connection of the shop, which does its share of the actions at a steady pace."""

    told = 0

    def __init__(self, shop: Shop, conninfo: str, name: str, actions: Sequence[Action], clients: int) -> None:
        self.shop, self.conninfo, self.name, self.actions = shop, conninfo, name, actions
        self.rate = sum(action.rate for action in actions) / clients
        self.weights = [action.rate for action in actions]

    async def run(self) -> None:
        """Work until the server is gone for good (after some attempts to reconnect)."""
        attempts = 0
        while attempts < _RECONNECTS:
            try:
                connection = await AsyncConnection.connect(
                    self.conninfo, autocommit=True, application_name=self.name, options=_SESSION
                )
            except psycopg.OperationalError as error:
                attempts += 1
                self.tell(error)
                await asyncio.sleep(_RECONNECT_SECONDS)
                continue
            attempts = 0
            async with connection:
                await self.shopping(connection)

    async def shopping(self, connection: Connection) -> None:
        """Do one action after the other until the connection breaks."""
        due = time.monotonic()
        while not connection.closed:
            # Pauses count from when an action was due, so a slow server does not slow the pace before it must;
            # what could not be done in time is dropped, not piled up.
            due = max(due + self.shop.dice.expovariate(self.rate), time.monotonic() - 1 / self.rate)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            action = self.shop.dice.choices(self.actions, self.weights)[0]
            try:
                await action.run(connection)
            except psycopg.Error as error:
                self.tell(error, action.name)

    def tell(self, error: Exception, action: str = "connect") -> None:
        """Write the first few errors to standard error."""
        Client.told += 1
        if Client.told <= _ERRORS_TOLD:
            print(f"{self.name}: {action}: {str(error).strip()}", file=sys.stderr, flush=True)


def clients(conninfo: str, scenario_name: str) -> list[Client]:
    """All clients of a scenario: the web shop's and the batch jobs'."""
    size = find(scenario_name)
    shop = Shop(size)
    web, batch = shop.web_actions(), shop.batch_actions()
    return [
        *(Client(shop, conninfo, "shop-web", web, size.web_clients) for _ in range(size.web_clients)),
        *(Client(shop, conninfo, "shop-batch", batch, size.batch_clients) for _ in range(size.batch_clients)),
    ]


async def _serve() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    order = json.loads(await reader.readline())
    tasks = [asyncio.create_task(one.run()) for one in clients(order["conninfo"], order["scenario"])]
    owner_gone = asyncio.create_task(reader.read())
    # All clients end when the server is gone for good; one that fails otherwise is a defect, and ends the rest.
    await asyncio.wait({owner_gone, asyncio.create_task(_all(tasks))}, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=_END_SECONDS)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()  # a traceback in the log


async def _all(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)


def main() -> int:
    """Run until standard input ends or the server is gone."""
    asyncio.run(_serve())
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # nothing is left to finish, and a connection that hangs must not hold this process

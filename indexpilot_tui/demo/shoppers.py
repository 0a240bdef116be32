"""What the clients of the shop do: the statements of one action each, never a long transaction."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg.types.numeric import Int4, Int8

from indexpilot_tui.demo.scenarios import Scenario
from indexpilot_tui.engine.postgres.queries import load

Connection = AsyncConnection[tuple[object, ...]]
Row = tuple[object, ...]
_GUESTS_KEPT = 5  # a guest is forgotten when so many newer ones have come


@dataclass(frozen=True)
class Action:
    """Something that a client does: `rate` times a second over all clients of its kind."""

    name: str
    rate: float
    run: Callable[[Connection], Awaitable[None]]


class Shop:
    """The shared state of all clients: the dice, what they bought, the guests to forget."""

    def __init__(self, scenario: Scenario, seed: int = 7) -> None:
        self.scenario = scenario
        self.dice = random.Random(seed)  # noqa: S311 - a workload, not a secret
        self.new_orders = 0  # placed and not yet marked done, so the share of pending orders stays as it is
        self.guests: deque[int] = deque()
        self.guest_number = 0

    def web_actions(self) -> list[Action]:
        """What the web shop does. The sales figures of a product are the hot query that lacks an index."""
        pace, scan = self.scenario.pace, self.scenario.scan_pace
        return [
            Action("product_page", 15 * pace, self.product_page),
            Action("product_sales", 14 * scan, self.product_sales),
            Action("order_history", 8 * pace, self.order_history),
            Action("order_detail", 8 * pace, self.order_detail),
            Action("payment_state", 4 * pace, self.payment_state),
            Action("payment_total", 2 * pace, self.payment_total),
            Action("seen", 3 * pace, self.seen),
            Action("event", 3 * pace, self.event),
            Action("checkout", 2 * pace, self.checkout),
            Action("login", 1.5 * scan, self.login),
        ]

    def batch_actions(self) -> list[Action]:
        """What the jobs behind the shop do: work off pending orders, forget guests, sum up the day."""
        scan = self.scenario.scan_pace
        return [
            Action("pending", 2 * scan, self.pending),
            Action("guest", 1 * scan, self.guest),
            Action("revenue", 0.2 * scan, self.revenue),
        ]

    def customer(self) -> Int8:
        """Any registered customer."""
        return Int8(1 + self.dice.randrange(self.scenario.customers))

    def product(self) -> Int8:
        """A product, popular ones more often (the same bend as in load_order_items.sql)."""
        return Int8(1 + int(self.scenario.products * self.dice.random() ** 1.3))

    def order(self) -> Int8:
        """An order of the sample, recent ones more often."""
        return Int8(self.scenario.orders - int(self.scenario.orders * self.dice.random() ** 3))

    async def product_page(self, connection: Connection) -> None:
        """Look at a product."""
        await _run(connection, "web_product_page", {"product": self.product()})

    async def product_sales(self, connection: Connection) -> None:
        """How often was this sold: the hot query."""
        await _run(connection, "web_product_sales", {"product": self.product()})

    async def order_history(self, connection: Connection) -> None:
        """The last orders of a customer."""
        await _run(connection, "web_order_history", {"customer": self.customer()})

    async def order_detail(self, connection: Connection) -> None:
        """The items of an order."""
        await _run(connection, "web_order_detail", {"order": self.order()})

    async def payment_state(self, connection: Connection) -> None:
        """Has it been paid?"""
        await _run(connection, "web_payment_state", {"order": self.order()})

    async def payment_total(self, connection: Connection) -> None:
        """How much of it has been paid?"""
        await _run(connection, "web_payment_total", {"order": self.order()})

    async def seen(self, connection: Connection) -> None:
        """Note that a customer came by."""
        await _run(connection, "web_seen", {"customer": self.customer()})

    async def event(self, connection: Connection) -> None:
        """Note what a customer did."""
        kind = self.dice.choice(("view", "view", "search", "basket"))
        page = Int4(self.dice.randrange(113))
        await _run(connection, "web_event", {"customer": self.customer(), "kind": kind, "page": page})

    async def login(self, connection: Connection) -> None:
        """Find a customer by address, in any spelling."""
        await _run(connection, "web_login", {"email": f"Customer{self.customer()}@example.com"})

    async def checkout(self, connection: Connection) -> None:
        """Place an order with two items, in one short transaction."""
        # In ascending order, as every checkout does: two of them cannot deadlock.
        basket = sorted({self.product(), self.product()})
        total = Int4(500 + self.dice.randrange(30_000))
        async with connection.transaction():
            values: dict[str, object] = {"customer": self.customer(), "total": total, "ship_to": "Street 1, Town 1"}
            values["reference"] = f"SO-W{self.dice.randrange(10**8):08}"
            rows = await _run(connection, "web_checkout_order", values)
            order = rows[0][0]
            for product in basket:
                line = {"order": order, "product": product, "quantity": Int4(1), "price": total}
                await _run(connection, "web_checkout_item", line)
                await _run(connection, "web_checkout_stock", {"product": product, "quantity": Int4(1)})
            await _run(connection, "web_checkout_payment", {"order": order, "total": total})
        self.new_orders += 1

    async def pending(self, connection: Connection) -> None:
        """Look for the few orders that are not done, and finish as many as have come in."""
        status = "pending" if self.dice.random() < 0.9 else "failed"
        rows = await _run(connection, "batch_pending", {"status": status})
        if status == "pending" and self.new_orders:
            due = [row[0] for row in rows[: self.new_orders]]
            self.new_orders -= len(due)
            await _run(connection, "batch_done", {"orders": due})

    async def revenue(self, connection: Connection) -> None:
        """The day's revenue by the hour."""
        await _run(connection, "batch_revenue", {})

    async def guest(self, connection: Connection) -> None:
        """A guest comes, and the oldest one is forgotten: a delete on the parent of foreign keys."""
        self.guest_number += 1
        rows = await _run(connection, "batch_guest", {"email": f"guest{self.guest_number}@example.net"})
        newest = rows[0][0]
        if isinstance(newest, int):
            self.guests.append(newest)
        if len(self.guests) > _GUESTS_KEPT:
            await _run(connection, "batch_forget_guest", {"customer": Int8(self.guests.popleft())})


async def _run(connection: Connection, name: str, values: Mapping[str, object]) -> list[Row]:
    cursor = await connection.execute(load("indexpilot_tui.demo", name).encode(), values)
    return await cursor.fetchall() if cursor.description else []

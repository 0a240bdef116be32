"""How large the sample shop is and how busy."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from indexpilot_tui.errors import UsageError


@dataclass(frozen=True)
class Scenario:
    """Rows of each table, clients of the workload, and their pace.

    `pace` is a factor on the actions a second of the statements that use an index; `scan_pace` one on those that read
    a whole table, which cost more as the tables grow.
    """

    name: str
    customers: int
    products: int
    orders: int  # as many payments
    items: int
    events: int
    web_clients: int
    batch_clients: int
    pace: float
    scan_pace: float

    @property
    def rows(self) -> int:
        """Rows of all tables together."""
        return self.customers + self.products + 2 * self.orders + self.items + self.events

    def sizes(self) -> dict[str, int]:
        """The row counts by table, as parameters of the load statements."""
        counts = asdict(self)
        return {name: counts[name] for name in ("customers", "products", "orders", "items", "events")}


def _scenario(name: str, scale: int, *, web: int, batch: int, pace: float, scan_pace: float) -> Scenario:
    return Scenario(name=name, customers=20_000 * scale, products=2_000 * scale, orders=120_000 * scale,
                    items=300_000 * scale, events=80_000 * scale, web_clients=web, batch_clients=batch, pace=pace,
                    scan_pace=scan_pace)  # fmt: skip


SCENARIOS = {
    one.name: one
    for one in (
        _scenario("small", 1, web=4, batch=1, pace=1.0, scan_pace=1.0),
        _scenario("medium", 4, web=8, batch=2, pace=2.0, scan_pace=0.5),
        _scenario("stress", 16, web=16, batch=4, pace=8.0, scan_pace=0.15),
    )
}


def find(name: str) -> Scenario:
    """The scenario of that name. Raises UsageError for another."""
    try:
        return SCENARIOS[name]
    except KeyError:
        raise UsageError(
            "there is no such scenario", field="--scenario", value=name, remedy="one of " + ", ".join(SCENARIOS)
        ) from None

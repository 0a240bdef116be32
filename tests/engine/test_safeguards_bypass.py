"""An emergency bypass lifts window, rate and load for as long as it lasts, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from indexpilot_tui.engine.model.verdict import Status
from indexpilot_tui.engine.safeguards.context import Gate, GateContext
from indexpilot_tui.engine.safeguards.gates import GATES, evaluate
from indexpilot_tui.engine.safeguards.maintenance_window import opening
from indexpilot_tui.errors import ServerError
from indexpilot_tui.settings.model import Settings, Window
from indexpilot_tui.settings.validated import validated
from tests.engine.gates_room import approved, context, plan_of, verdict, workshop
from tests.faults.workshop import Workshop

__all__ = ["workshop"]

NOON = datetime(2026, 6, 10, 12, tzinfo=UTC)  # the window is at night


@dataclass(frozen=True)
class Bypass:
    until: datetime = NOON + timedelta(minutes=30)
    scope: frozenset[str] = frozenset({"window", "rate", "load"})
    by: str = "ann\x1b"
    reason: str = "incident 7"


@dataclass
class Row:
    """The workshop's journal, with one bypass in it that ends when the test says."""

    journal: Any
    answer: Bypass | Exception | None = field(default_factory=Bypass)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.journal, name)

    async def bypass(self) -> Bypass | None:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def at_noon(workshop: Workshop, answer: Bypass | Exception | None) -> GateContext:
    return await context(workshop, settings=Settings(), now=NOON, journal=Row(workshop.journal, answer))


async def test_what_it_covers_passes_and_says_so(workshop: Workshop) -> None:
    v = await verdict(await at_noon(workshop, Bypass()), "maintenance_window")
    assert v.status is Status.PASS
    assert v.evidence.startswith("lifted by bypass of ann\u241b until 2026-06-10 12:30 UTC: closed; opens")


@pytest.mark.parametrize(
    "answer",
    [
        None,
        Bypass(scope=frozenset({"rate", "load"})),
        Bypass(until=NOON),  # over: to the microsecond
        Bypass(until=NOON - timedelta(seconds=1)),
        ServerError("no answer"),
        TimeoutError(),
    ],
)
async def test_another_an_ended_or_an_unreadable_one_lifts_nothing(
    workshop: Workshop, answer: Bypass | Exception | None
) -> None:
    assert (await verdict(await at_noon(workshop, answer), "maintenance_window")).status is Status.WAIT


async def test_its_last_moment_still_counts(workshop: Workshop) -> None:
    ctx = await at_noon(workshop, Bypass(until=NOON + timedelta(microseconds=1)))
    assert (await verdict(ctx, "maintenance_window")).allows


def test_window_rate_and_load_can_be_lifted_and_nothing_else_ever() -> None:
    lifted = {gate.name: gate.lifted_by for gate in GATES if gate.lifted_by}
    assert lifted == {
        "maintenance_window": "window", "rate_limit": "rate", "query_rate": "rate", "load": "load", "cpu_throttle": "load"
    }  # fmt: skip
    with pytest.raises(ValueError, match="no bypass lifts 'tls'"):
        Gate("tls", "", GATES[0].read, lifted_by="tls")


async def test_the_other_gates_are_as_they_were(workshop: Workshop) -> None:
    await workshop.journal.stop_starts("stop")
    plan = replace(await plan_of(workshop), system_identifier="1")
    plain = await context(workshop, plan, settings=Settings(), now=NOON)
    lifted = replace(plain, journal=Row(workshop.journal))
    held = {v.guard for v in await evaluate(plain) if not v.allows}
    assert {v.guard for v in await evaluate(lifted) if not v.allows} == held - {"maintenance_window"}
    assert {"primary", "kill_switch", "approval", "maintenance_window"} <= held


async def test_a_load_that_cannot_be_read_is_lifted_with_its_reason(workshop: Workshop) -> None:
    ctx = replace(await approved(workshop), settings=Settings(), journal=Row(workshop.journal), now=NOON)
    await workshop.monitor.close()
    v = await verdict(ctx, "load")
    assert v.allows
    assert "could not be read" in v.evidence


async def test_the_row_in_the_control_schema_lifts_and_its_end_brings_back(workshop: Workshop) -> None:
    closed = {"production_safeguards": {"maintenance_window": {"timezone": far_away()}, "throttle": {"enabled": False}}}
    ctx = await context(workshop, settings=validated(Settings, closed))
    assert (await verdict(ctx, "maintenance_window")).status is Status.WAIT
    await workshop.journal.bypass_on(["window"], "incident 7", 60)
    v = await verdict(ctx, "maintenance_window")
    assert v.allows
    assert v.evidence.startswith("lifted by bypass of w_operator until ")
    await workshop.journal.bypass_off("over")
    assert (await verdict(ctx, "maintenance_window")).status is Status.WAIT


def far_away() -> str:
    """A zone in which the night's window is closed now."""
    return next(
        zone for zone in ("UTC", "Asia/Tokyo", "America/New_York")
        if not opening(Window(timezone=zone), datetime.now(UTC) + timedelta(seconds=5)).open
    )  # fmt: skip

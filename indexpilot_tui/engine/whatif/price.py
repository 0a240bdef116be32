"""Statements priced at several points: with constants in place of their parameters, before a change and after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from indexpilot_tui.engine.whatif import points
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.made import MadeIndex
from indexpilot_tui.engine.whatif.model import PricePoint
from indexpilot_tui.engine.whatif.plan import Planned, explain, indexes_used, path_of, set_path
from indexpilot_tui.engine.whatif.statements import Parsed

MOST = 40  # statements that are priced at points: those with the most time, or calls
Chosen = list[tuple[Parsed, list[points.Point]]]


def chosen(
    shadow: ShadowDatabase, parsed: Sequence[Parsed], planned: Collection[str],
    observed: Mapping[str, Sequence[Mapping[int, str]]] | None, made: Sequence[MadeIndex],
) -> Chosen:  # fmt: skip
    """The points of the statements that were planned after the change and have parameters, the heaviest first."""
    wanted = [p for p in parsed if p.parameters and p.statement.key in planned]
    wanted.sort(key=lambda p: (-(p.statement.total_ms or 0.0), -p.statement.calls, p.statement.key))
    found = [(p, points.choose(shadow.snapshot, p, made, (observed or {}).get(p.statement.key, ()))) for p in wanted[:MOST]]
    return [(p, at) for p, at in found if at]


async def plans(shadow: ShadowDatabase, wanted: Chosen) -> dict[str, Planned]:
    """Plans by text, as the shadow is now."""
    found: dict[str, Planned] = {}
    for p, at in wanted:
        await set_path(shadow, path_of(shadow, p))
        for point in at:
            found[point.parsed.sql] = await explain(shadow, point.parsed)
    return found


async def compared(
    shadow: ShadowDatabase, wanted: Chosen, after: Mapping[str, Planned], names: Collection[str],
    hide: Callable[[], Awaitable[None]] | None = None, show: Callable[[], Awaitable[None]] | None = None,
) -> dict[str, tuple[PricePoint, ...]]:  # fmt: skip
    """The prices by statement. The plans before the change are remembered as long as the target stays as it is; for those
    that are not yet known `hide` and `show` take the change away for a moment (None: it is not there now). `names` are
    the indexes whose use is told."""
    missing = [(p, [x for x in at if x.parsed.sql not in shadow.plans]) for p, at in wanted]
    missing = [(p, at) for p, at in missing if at]
    if missing:
        if hide is not None:
            await hide()
        try:
            shadow.plans.update(await plans(shadow, missing))
        finally:
            if show is not None:
                await show()
    found: dict[str, tuple[PricePoint, ...]] = {}
    for p, at in wanted:
        prices = []
        for point in at:
            before, then = shadow.plans[point.parsed.sql], after[point.parsed.sql]
            if before.plan and then.plan:
                used = bool((indexes_used(before.plan) | indexes_used(then.plan)) & set(names))
                prices.append(PricePoint(point.label, before.cost, then.cost, used, point.kind))
        if prices:
            found[p.statement.key] = tuple(prices)
    return found

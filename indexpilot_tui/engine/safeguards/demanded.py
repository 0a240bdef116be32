"""Safeguards that need something configured: what is said where nothing is."""

from __future__ import annotations

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.context import GateContext, answer

CHEAP_S = 60.0  # sizes of a whole cluster are read at most once in so many seconds by one console


def switched_off(name: str, setting: str) -> list[Verdict]:
    """The operator has switched it off: it passes, and says so."""
    return answer(name, Status.PASS, "switched off in the configuration", setting=f"{setting}.enabled")


def not_configured(ctx: GateContext, name: str, setting: str, enabled: bool | None, remedy: str) -> list[Verdict]:
    """What a target may do without it: production may not change, others may unless they demand it."""
    if enabled or (enabled is None and ctx.target.production):
        return answer(name, Status.UNKNOWN, remedy, measured="not measured", setting=setting)
    return answer(
        name, Status.PASS, f"not measured; production would be refused: {remedy}", measured="not measured", setting=setting
    )


def megabytes(size: float) -> str:
    """Bytes in MB, as the budgets are written; small ones in kB."""
    return (
        f"{size / 1e6:,.0f} MB"
        if abs(size) >= 1e7
        else f"{size / 1e6:.1f} MB"
        if abs(size) >= 1e5
        else f"{size / 1e3:.1f} kB"
    )

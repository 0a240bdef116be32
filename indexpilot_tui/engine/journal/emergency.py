"""The exceptional: the kill switch that stops all starts, and the bypass that lifts what only asks to wait."""

from __future__ import annotations

from collections.abc import Iterable

from indexpilot_tui.engine.journal.calls import Calls
from indexpilot_tui.engine.journal.records import Bypass, BypassRow, Policy, to_bypass, to_bypass_row
from indexpilot_tui.engine.postgres.text import clean_line


class Emergency(Calls):
    """Kill switch, bypass and the administrator's row of rules."""

    async def stop_starts(self, reason: str) -> None:
        """Throw the kill switch: no claim succeeds from now on. What runs goes on under its guards."""
        await self._call("stop_starts(%s)", (reason,))

    async def allow_starts(self, reason: str) -> None:
        """Release the kill switch; approvers only."""
        await self._call("allow_starts(%s)", (reason,))

    async def policy(self) -> Policy:
        """The kill switch and the administrator's rules."""
        row = (await self._read("policy"))[0]
        return Policy(
            row["starts_stopped"],
            clean_line(row["stopped_reason"] or ""),
            clean_line(row["stopped_by"] or ""),
            row["stopped_at"],
            row["max_starts"],
            row["per_seconds"],
            row["self_approval"],
            row["bypass_max_minutes"],
            row["keep_log_days"],
        )

    async def kill_switch(self) -> str | None:
        """Who stopped all starts and why; None while starts are allowed."""
        policy = await self.policy()
        return f"{policy.by}: {policy.reason}" if policy.starts_stopped else None

    async def alone(self, change_id: int) -> bool:
        """Whether the administrator lets one person propose and approve this change (`policy.self_approval`)."""
        rows = await self._read("alone", {"id": change_id})
        return bool(rows and rows[0]["alone"])

    # -- bypass --------------------------------------------------------------------------------------------------------

    async def bypass(self) -> Bypass | None:
        """What an emergency lifts now, by the database's clock; None when nothing is lifted. Ask again at each use: it ends
        without anybody doing anything."""
        return to_bypass([to_bypass_row(row) for row in await self._read("bypasses", {"in_force": True, "limit": None})])

    async def bypasses(self, limit: int = 20) -> list[BypassRow]:
        """The newest bypasses, whether they are in force or not."""
        return [to_bypass_row(row) for row in await self._read("bypasses", {"in_force": False, "limit": limit})]

    async def bypass_on(self, scope: Iterable[str], reason: str, seconds: float) -> int:
        """Lift `scope` (of window, rate, load) for so long; its id. RefusedError: anything else, longer than the policy has
        it, an earlier one without a review."""
        return int(await self._call("bypass_on(%s, %s, %s)", (sorted(scope), reason, seconds)))

    async def bypass_off(self, reason: str, bypass_id: int | None = None) -> int:
        """End one bypass, or all that are in force; how many."""
        return int(await self._call("bypass_off(%s::bigint, %s)", (bypass_id, reason)))

    async def review_bypass(self, bypass_id: int, note: str) -> None:
        """Be its second person: an approver, and not who switched it on."""
        await self._call("review_bypass(%s, %s)", (bypass_id, note))

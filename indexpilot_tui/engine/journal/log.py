"""The mutation log: its rows, and whether its chain holds."""

from __future__ import annotations

from typing import Any

from indexpilot_tui.engine.journal.calls import Calls
from indexpilot_tui.engine.journal.chain import ChainReport, Verifier
from indexpilot_tui.engine.journal.records import to_event
from indexpilot_tui.engine.model.change import Event
from indexpilot_tui.errors import NotInstalledError

PAGE = 1_000


class Log(Calls):
    """Reading the log; it is written by the functions that do what it tells of."""

    async def log_rows(self, after: int = 0, limit: int = PAGE, change_id: int | None = None) -> list[dict[str, Any]]:
        """Raw rows of the log with seq > `after`, as they were hashed: for export, not for showing."""
        return await self._read("log_rows", {"after": after, "limit": limit, "change": change_id})

    async def events(self, after: int = 0, limit: int = PAGE, change_id: int | None = None) -> list[Event]:
        """The same rows, cleaned, for showing."""
        return [to_event(row) for row in await self.log_rows(after, limit, change_id)]

    async def verify_chain(self) -> ChainReport:
        """Compute every hash of the log again, here; the end is compared with the head of the same snapshot."""
        verifier = Verifier()
        while True:
            page = await self._read("chain_page", {"after": verifier.seq, "limit": PAGE})
            rows = [row for row in page if row["seq"] is not None]
            for row in rows:
                verifier.feed(row)
            if len(rows) < PAGE:
                if not page:
                    raise NotInstalledError("the head of the log is missing from the control schema")
                return verifier.report((page[0]["head_seq"], page[0]["head_hash"]))

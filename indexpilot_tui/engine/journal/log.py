"""The mutation log: its rows, whether its chain holds, its head outside, and what retention removes."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from indexpilot_tui.engine.journal.anchor import Anchor, Head, read_anchors
from indexpilot_tui.engine.journal.builds import to_build
from indexpilot_tui.engine.journal.calls import Calls
from indexpilot_tui.engine.journal.chain import ChainReport, Verifier
from indexpilot_tui.engine.journal.records import dump, to_event
from indexpilot_tui.engine.journal.refusals import JournalRefusedError
from indexpilot_tui.engine.logs import log
from indexpilot_tui.engine.model.builds import MeasuredBuild
from indexpilot_tui.engine.model.change import Event
from indexpilot_tui.engine.postgres.session import Facts
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import IndexPilotError, NotInstalledError, PrivilegeError

PAGE = 1_000


class Log(Calls):
    """Reading and tending the log; it is written by the functions that do what it tells of. `anchor`: where its head is kept
    outside, at each end of a change."""

    anchor: Anchor | None = None

    async def log_rows(self, after: int = 0, limit: int = PAGE, change_id: int | None = None) -> list[dict[str, Any]]:
        """Raw rows of the log with seq > `after`, as they were hashed: for export, not for showing."""
        return await self._read("log_rows", {"after": after, "limit": limit, "change": change_id})

    async def events(self, after: int = 0, limit: int = PAGE, change_id: int | None = None) -> list[Event]:
        """The same rows, cleaned, for showing."""
        return [to_event(row) for row in await self.log_rows(after, limit, change_id)]

    async def builds(self, system_identifier: str, database: str, limit: int = 30) -> list[MeasuredBuild]:
        """What the newest builds on this database took, newest first."""
        params = {"system_identifier": system_identifier, "database": database, "limit": limit}
        return [b for row in await self._read("builds", params) if (b := to_build(row)) is not None]

    async def head(self) -> Head:
        """Where the chain ends now."""
        rows = await self._read("head")
        if not rows:
            raise NotInstalledError("the head of the log is missing from the control schema")
        facts = self.session.facts
        row = rows[0]
        return Head(row["chain_id"], facts.system_identifier, facts.database, row["seq"], row["hash"], row["whole"])

    async def verify_chain(self, anchors: Path | None = None) -> ChainReport:
        """Compute every hash of the log again, here; the end is compared with the head of the same snapshot, and all of it
        with the heads in the file `anchors`. Raises UsageError when that file cannot be used, or has none of this log."""
        if not (await self.head()).whole:
            user = clean_line(self.session.facts.session_user)
            raise PrivilegeError(
                f"{user} sees the rows of a tenant only, and a chain is verified whole",
                remedy=f"GRANT indexpilot_all_tenants TO {user}, or let somebody verify it who has that",
            )
        kept = read_anchors(anchors, await self.head()) if anchors is not None else None
        hashes = kept.hashes if kept is not None else {}
        watched = frozenset(other.seq for other in kept.others) if kept is not None else frozenset()
        for _ in range(3):
            began = (await self.head()).seq
            verifier = Verifier(hashes, watched=watched)
            report = await self.recompute(verifier)
            if report.ok or report.cut is None or report.cut.seq <= began:  # else retention cut the log while it was read
                break
        return report if kept is None else kept.judged(report, verifier.restored, verifier.hashes)

    async def recompute(self, verifier: Verifier) -> ChainReport:
        """Feed it every row of the log. Of a login that does not see all rows, `verify_chain` asks nothing."""
        while True:
            page = await self._read("chain_page", {"after": verifier.seq, "limit": PAGE})
            if not page:
                raise NotInstalledError("the head of the log is missing from the control schema")
            rows = [row for row in page if row["seq"] is not None]
            for row in rows:
                verifier.feed(row)
            if len(rows) < PAGE:
                return verifier.report((page[0]["head_seq"], page[0]["head_hash"]), page[0]["chain_id"])

    # -- the head outside ----------------------------------------------------------------------------------------------

    async def keep_head(self, change_id: int | None, state: str) -> bool:
        """Keep the head outside, if the settings name a place. False: it could not be, and the log says so."""
        if self.anchor is None:
            return True
        seq: int | None = None
        try:
            head = await self.head()
            seq = head.seq
            await self.anchor.write(head, change_id, state)
        except IndexPilotError as exc:
            log("anchor.failed", "error", change=change_id, why=exc.message, place=exc.value or "")
            try:
                await self._call("anchor_failed(%s::bigint, %s::bigint, %s)", (change_id, seq, exc.message))
            except IndexPilotError as unlogged:
                log("anchor.unlogged", "error", change=change_id, why=unlogged.message)
            return False
        return True

    async def must_keep_head(self, change_id: int) -> None:
        """Before a change starts, where the settings require an anchor: JournalRefusedError when it cannot be kept."""
        if self.anchor is not None and self.anchor.required and not await self.keep_head(change_id, "starting"):
            raise JournalRefusedError(
                "the head of the log cannot be kept outside, and control.anchor.required is set",
                code="anchor",
                remedy="make the place that control.anchor names writable",
            )

    # -- what was seen -------------------------------------------------------------------------------------------------

    async def record(self, what: str, facts: Facts, since: datetime, until: datetime, rows: list[dict[str, Any]]) -> int:
        """Keep what a console saw of a target between two times (`what`: query_stats or index_health); how many rows. 0:
        another console has kept it."""
        call = f"record_{what}(%s, %s, %s, %s, %s::jsonb)"
        return int(await self._call(call, (facts.system_identifier, facts.database, since, until, dump(rows))))

    async def restoring(self, call: str, args: tuple[Any, ...]) -> Any:
        """One step of putting a backup back; see restore.py."""
        return await self._call("_restore_" + call, args)

    # -- retention -----------------------------------------------------------------------------------------------------

    async def prune(self, what: str, days: int, batch: int = PAGE) -> int:
        """Remove one batch of what is older (mutation_log, bypasses and rate_slots from their beginning, gate_verdicts,
        change_stats, query_stats, index_health); how many rows. 0: no more. RefusedError where the administrator keeps it
        longer."""
        return int(await self._call("prune(%s, %s, %s)", (what, days, batch)))

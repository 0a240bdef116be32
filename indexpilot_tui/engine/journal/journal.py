"""The journal: every state of a change and every deed, in the control schema, written before it is done.

One CONTROL session, autocommit; each method is one short READ COMMITTED transaction in a SECURITY DEFINER function, which
knows the actor by session_user and the time by its own clock. SET ROLE is never used on this session.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from indexpilot_tui.engine.journal.anchor import Anchor
from indexpilot_tui.engine.journal.emergency import Emergency
from indexpilot_tui.engine.journal.log import Log
from indexpilot_tui.engine.journal.records import (
    Bypass,
    BypassRow,
    Claim,
    Part,
    PhaseStats,
    Policy,
    RateStatus,
    Run,
    canonical,
    dump,
    to_change,
    to_run,
)
from indexpilot_tui.engine.journal.refusals import JournalRefusedError, StaleEpochError
from indexpilot_tui.engine.journal.setup import SCHEMA_VERSION
from indexpilot_tui.engine.model.change import END_STATES, Change, Plan, State, Verification
from indexpilot_tui.engine.model.verdict import Verdict
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import NotInstalledError, UsageError
from indexpilot_tui.settings.model import Control

__all__ = [
    "Bypass",
    "BypassRow",
    "Claim",
    "Journal",
    "JournalRefusedError",
    "Part",
    "PhaseStats",
    "Policy",
    "RateStatus",
    "Run",
    "StaleEpochError",
]

_PACKAGE = __package__
_EVENTS = 2_000  # of one change, newest; more are in `audit export`


class Journal(Emergency, Log):
    """The control schema through one session.

    `may_operate` and `may_approve` tell what this login was granted; a call without the right raises PrivilegeError.
    """

    @classmethod
    async def open(cls, session: Session, terms: Control | None = None) -> Journal:
        """Check that the control schema is there, ours, readable and of our version. `terms`: where the head of
        the log is kept outside at each end of a change, and for which tenant this session acts.

        Raises NotInstalledError, with what to run or grant as the remedy.
        """
        found = await session.row(load(_PACKAGE, "installed"))
        database = clean_line(session.facts.database)
        if found is None or not found["present"]:
            raise NotInstalledError(
                f"database {database} has no control schema, so changes are not possible",
                remedy="review `indexpilot setup-sql` and run it there, or name another database in control.dsn",
            )
        if not found["ours"]:
            raise NotInstalledError(
                f"the schema indexpilot in {database} does not belong to indexpilot_owner and is not trusted",
                remedy="use another database for the control schema",
            )
        user = clean_line(session.facts.session_user)
        if not found["usable"] or not found["readable"]:
            raise NotInstalledError(
                f"{user} has no right to read the control schema in {database}",
                remedy=f"GRANT indexpilot_operator TO {user} (or indexpilot_monitor, indexpilot_approver)",
            )
        version = await session.value("SELECT pg_catalog.max(version) FROM indexpilot.schema_version")
        if version != SCHEMA_VERSION:
            raise NotInstalledError(
                f"the control schema in {database} has version {version}, this program needs {SCHEMA_VERSION}",
                remedy="run `indexpilot setup-sql` of the newer of the two programs",
            )
        await session.execute("SELECT pg_catalog.set_config('indexpilot.claimed', %s, false)", (_claimed(),))
        journal = cls(session, may_operate=found["may_operate"], may_approve=found["may_approve"])
        if terms is not None:
            journal.anchor = Anchor.of(terms.anchor)
            if terms.tenant_id is not None:
                tenant = str(terms.tenant_id)
                await session.execute("SELECT pg_catalog.set_config('app.tenant_id', %s, false)", (tenant,))
        return journal

    async def close(self) -> None:
        """Close the session."""
        await self.session.close()

    # -- deciding ------------------------------------------------------------------------------------------------------

    async def propose(
        self, plan: Plan, *, target: str, reason: str, parent_id: int | None = None, rollback: bool = False
    ) -> int:
        """Store a plan; returns the change's id. A rollback must be the opposite of its parent (RefusedError)."""
        args = (canonical(plan), target, reason, parent_id, rollback)
        return int(await self._call("propose(%s, %s, %s, %s::bigint, %s)", args))

    async def approve(self, change_id: int, plan_sha256: str, expires_after: timedelta) -> None:
        """Approve the plan with this hash. RefusedError: own proposal, other plan, not proposed, longer than a week."""
        await self._expire()
        await self._call("approve(%s, %s, %s)", (change_id, plan_sha256, expires_after))

    async def reject(self, change_id: int, reason: str) -> None:
        """End a change that has not started; also voids an approval."""
        await self._call("reject(%s, %s)", (change_id, reason))
        await self.keep_head(change_id, "rejected")

    async def withdraw(self, change_id: int, reason: str) -> None:
        """End one's own change that has not started."""
        await self._call("withdraw(%s, %s)", (change_id, reason))
        await self.keep_head(change_id, "withdrawn")

    async def resolve(self, change_id: int, choice: State | str, reason: str) -> None:
        """Settle a change that needs_operator: to verifying, cleaning, failed or done, or back into the queue to `finish` it
        or to `repair` its half-dropped index. An approver who neither proposed nor ran it; reconcile goes on from there."""
        await self._call("resolve(%s, %s, %s)", (change_id, str(choice), reason))
        if choice in END_STATES:
            await self.keep_head(change_id, str(choice))

    # -- carrying out --------------------------------------------------------------------------------------------------

    async def must_write(self) -> None:
        """Before anything begins: ServerError, PrivilegeError or NotInstalledError where the log cannot be written now."""
        await self._call("check_writable()", ())

    async def record_gates(self, change_id: int, verdicts: Sequence[Verdict]) -> None:
        """Keep the last verdicts; one log row `gates` with those whose status changed, none if none did."""
        await self._call("record_gates(%s, %s::jsonb)", (change_id, dump(list(verdicts))))

    async def claim(
        self, change_id: int, *, system_identifier: str, timeline: int, rate_max: int, rate_window_s: float, lease_s: float
    ) -> Claim:
        """Take a change into execution (state starting): one winner, one active change in a cluster, one rate slot.

        A change that was queued again keeps its slot while that is in the window. RefusedError with `.code` and `.retry_at`.
        """
        await self._expire()
        await self.must_keep_head(change_id)
        args = (change_id, system_identifier, timeline, rate_max, rate_window_s, lease_s)
        row = await self._row("* FROM indexpilot.claim(%s, %s, %s, %s, %s, %s)", args)
        return Claim(change_id, row["epoch"], Plan.from_json(json.loads(row["plan"])), row["slot"])

    async def advance(
        self,
        change_id: int,
        epoch: int,
        from_state: State,
        to_state: State,
        action: str,
        detail: dict[str, Any],
    ) -> None:
        """One move and its log row, in one transaction. The keys `outcome` (one sentence) and `observe_until` (datetime) of
        the detail are stored with the change, too.

        A rollback that becomes done makes its parent rolled_back in the same transaction and raises the parent's epoch.
        Raises StaleEpochError if the epoch or the state is not what the caller thinks; RefusedError for an illegal move.
        """
        args = (change_id, epoch, from_state.value, to_state.value, action, dump(detail))
        await self._call("advance(%s, %s, %s, %s, %s, %s::jsonb)", args)
        if to_state in END_STATES:
            await self.keep_head(change_id, to_state.value)

    async def append(self, change_id: int, epoch: int, action: str, detail: dict[str, Any]) -> int:
        """One log row (intent, outcome, phase); returns its seq. If this raises, the deed must not be done."""
        return int(await self._call("append(%s, %s, %s, %s::jsonb)", (change_id, epoch, action, dump(detail))))

    async def renew(self, change_id: int, epoch: int, lease_s: float) -> bool:
        """Hold on for another `lease_s` seconds. False: taken over or ended, stop."""
        return bool(await self._call("renew(%s, %s, %s)", (change_id, epoch, lease_s)))

    async def takeover(self, change_id: int, lease_s: float) -> int | None:
        """The new epoch, if the change is in execution or observation and its lease has ended; else None."""
        epoch = await self._call("takeover(%s, %s)", (change_id, lease_s))
        return None if epoch is None else int(epoch)

    async def request_abort(self, change_id: int, reason: str) -> None:
        """Ask the executor to stop; it cannot be taken back. RefusedError if there is nothing to stop."""
        await self._call("request_abort(%s, %s)", (change_id, reason))

    async def abort_requested(self, change_id: int) -> str | None:
        """Why the change shall stop, with who asked; None if nobody did."""
        run = await self.run(change_id)
        return None if run.abort_reason is None else f"{run.abort_by}: {run.abort_reason}"

    async def set_backend(self, change_id: int, epoch: int, pid: int, backend_start: datetime) -> None:
        """Record the backend that will get the DDL, before it gets it."""
        await self._call("set_backend(%s, %s, %s, %s)", (change_id, epoch, pid, backend_start))

    async def set_index(self, change_id: int, epoch: int, oid: int | None, valid: bool | None) -> None:
        """Record the index by OID as the catalog has it (None: not there). Writes only what changed."""
        await self._call("set_index(%s, %s, %s::bigint, %s)", (change_id, epoch, oid, valid))

    async def keep_way_back(self, change_id: int, epoch: int, plan: Plan) -> None:
        """Store the plan that takes this change back, as it was read from the catalog at the time of the deed. RefusedError
        at any other time."""
        await self._call("keep_way_back(%s, %s, %s)", (change_id, epoch, canonical(plan)))

    async def set_part(self, change_id: int, epoch: int, position: int, state: str, oid: int | None) -> None:
        """Record how far one step of a change on a partitioned table has come: begun, done or cleaned, and its index."""
        await self._call("set_part(%s, %s, %s, %s, %s::bigint)", (change_id, epoch, position, state, oid))

    async def save_stats(
        self,
        change_id: int,
        epoch: int,
        phase: str,
        taken_at: datetime,
        stats_reset: datetime | None,
        rows: Iterable[dict[str, Any]],
        context: dict[str, Any] | None = None,
    ) -> None:
        """Store the statistics of phase proposed, start, end or observed; a later call for the phase replaces them.
        `context`: counters of the table, fingerprints of plans."""
        args = (change_id, epoch, phase, taken_at, stats_reset, dump(list(rows)), dump(context or {}))
        await self._call("save_stats(%s, %s, %s, %s, %s::timestamptz, %s::jsonb, %s::jsonb)", args)

    async def save_verification(self, change_id: int, epoch: int, verification: Verification) -> None:
        """Store the verdict of before and after."""
        await self._call("save_verification(%s, %s, %s::jsonb)", (change_id, epoch, dump(verification)))

    # -- reading -------------------------------------------------------------------------------------------------------

    async def change(self, change_id: int) -> Change:
        """One change with its newest 2,000 events. UsageError if there is none."""
        found = await self._changes(change_id, 1, None, _EVENTS)
        if not found:
            raise UsageError(
                f"there is no change {change_id}", field="change", remedy="`indexpilot changes list` shows the changes"
            )
        return found[0]

    async def changes(self, limit: int = 50, states: Iterable[str] | None = None) -> list[Change]:
        """The newest changes, without their events."""
        return await self._changes(None, limit, states, 0)

    async def run(self, change_id: int) -> Run:
        """Who carries the change out, until when, and with which backend. UsageError if there is no such change."""
        row = await self._read("run", {"id": change_id})
        if not row:
            raise UsageError(f"there is no change {change_id}", field="change")
        return to_run(row[0])

    async def orphans(self) -> list[int]:
        """Ids of changes in execution or observation whose lease has ended."""
        return [row["id"] for row in await self._read("orphans")]

    async def stats(self, change_id: int) -> dict[str, PhaseStats]:
        """What `save_stats` stored, by phase."""
        return {
            row["phase"]: PhaseStats(
                row["phase"],
                row["taken_at"],
                row["stats_reset"],
                tuple(json.loads(row["rows"])),
                json.loads(row["context"]),
            )
            for row in await self._read("stats", {"id": change_id})
        }

    async def parts(self, change_id: int) -> dict[int, Part]:
        """The steps of a change on a partitioned table that were begun, by their position in the plan."""
        return {
            row["position"]: Part(row["state"], row["index_oid"]) for row in await self._read("parts", {"id": change_id})
        }

    async def rate_status(self, max_requests: int, window_s: float) -> RateStatus:
        """Starts of all consoles in the last `window_s` seconds; `free_at` is None while fewer than `max_requests`."""
        row = await self._row("* FROM indexpilot.rate_status(%s, %s)", (max_requests, window_s))
        return RateStatus(row["used"], row["free_at"])

    async def _expire(self) -> None:
        """Write down what is over by the clock, for logins that may."""
        if (self.may_operate or self.may_approve) and await self._call("expire()", ()):
            await self.keep_head(None, "expired")

    async def _changes(self, change_id: int | None, limit: int, states: Iterable[str] | None, events: int) -> list[Change]:
        wanted = None if states is None else [str(state) for state in states]
        rows = await self._read("changes", {"id": change_id, "limit": limit, "states": wanted, "events": events})
        return [to_change(row) for row in rows]


def _claimed() -> str:
    """Who the client says that it is: kept beside the actor that the server knows, never instead of it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a name
        user = f"uid {os.getuid()}"
    return json.dumps(
        {"os_user": user, "host": socket.gethostname(), "pid": os.getpid(), "program": Path(sys.argv[0]).name[:80]}
    )

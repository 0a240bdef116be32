"""Our hold on a change: its journal, its epoch, the lease that is renewed, and word of who wants us to stop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import psycopg

from indexpilot_tui.engine.changes.backlog import Backlog, Row, transient
from indexpilot_tui.engine.changes.book import Book
from indexpilot_tui.engine.journal.journal import Bypass, Journal, JournalRefusedError, StaleEpochError
from indexpilot_tui.engine.model.change import END_STATES, State
from indexpilot_tui.errors import ConnectError, IndexPilotError, NotInstalledError, ServerError

UNREACHABLE = (ConnectError, psycopg.OperationalError, TimeoutError, OSError)
_FAILED = (IndexPilotError, psycopg.Error, TimeoutError, OSError)
ABORT_POLL_S = 1.0
RECONNECT_S = 120.0  # how long a lost control database is waited for before the change is left to reconcile
PROTECTIVE_S = 1.0  # how long the log may hold up a cancel of our own work
NOTE_S = 3.0  # how long an outcome row is waited for; after that it follows when the journal answers again
_STRICT = ("ddl.intent",)  # the one row without whose local copy there is no deed


class Hold:
    """One change that this process carries out. `fenced` once somebody else took it over: then nothing more is done.

    Every write names the epoch, so a process that slept through a takeover is refused by the database (StaleEpochError).

    Two copies of the log: the journal and the local book. Rows that nothing waits for go through one ordered line
    (`Backlog`), which is written before the next row that something waits for; so no deed that was done is forgotten and
    the order stays, whichever copy failed meanwhile.
    """

    def __init__(
        self, journal: Journal, reopen: Callable[[], Awaitable[Journal]], book: Book, *, change_id: int, lease_s: float
    ) -> None:
        self._journal, self._reopen, self.book = journal, reopen, book
        self.change_id, self.lease_s = change_id, lease_s
        self.epoch = 0
        self.state = State.PROPOSED
        self.fenced = False
        self.failures = 0  # renewals that failed in a row
        self.abort: str | None = None  # who wants us to stop, and why
        self._bypass: Bypass | None = None  # as of the last beat
        self.terminated = False  # this process was told to end (SIGTERM)
        self._beat: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self.turn = asyncio.Lock()  # held where the epoch changes, so that no renewal and no late row names the old one
        self._line = asyncio.Lock()  # one writer of log rows at a time
        self._backlog = Backlog()
        self._pump: asyncio.Task[None] | None = None

    # -- the journal ---------------------------------------------------------------------------------------------------

    async def journal(self) -> Journal:
        """The journal on a session that is alive; a lost one is opened again. Raises ConnectError."""
        async with self._opening:
            if self._journal.session.closed:
                self._journal = await self._reopen()
            return self._journal

    async def patient_journal(self) -> Journal:
        """The same, waiting up to RECONNECT_S for a server that is away. Raises ConnectError after that."""
        end = time.monotonic() + RECONNECT_S
        while True:
            try:
                return await self.journal()
            except (ConnectError, NotInstalledError):
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(2)

    async def advance(self, to: State, action: str, detail: dict[str, Any]) -> None:
        """One move from the state we are in, with its log row; local copy first. A lost journal is waited for (ConnectError
        after RECONNECT_S), and asked whether the move was made before it is made again. StaleEpochError: we are fenced.
        ServerError, and no move, when the local copy of a `ddl.intent` cannot be written."""
        detail = self._copied(action, {"to": to.value, **detail})
        async with self._line:
            for last in (False, False, True):
                journal = await self.patient_journal()
                try:
                    await self._flush(journal)
                    await self._move(journal, to, action, detail)
                except ConnectError:
                    if last:
                        raise
                else:
                    return

    async def _move(self, journal: Journal, to: State, action: str, detail: dict[str, Any]) -> None:
        """The move, or its row alone where the state is already that one. StaleEpochError: fenced."""
        for _ in range(2):
            if self.state is to:
                await journal.append(self.change_id, self.epoch, action, detail)
                return
            try:
                await journal.advance(self.change_id, self.epoch, self.state, to, action, detail)
            except StaleEpochError:
                if not await self._caught_up(journal):
                    self.fenced = True
                    raise
                if self.state is to:
                    return
            else:
                self.state = to
                return
        self.fenced = True
        raise StaleEpochError(f"change {self.change_id} is moved by somebody else")

    async def _caught_up(self, journal: Journal) -> bool:
        """Whether the state differs only by a move of our own whose answer was lost; then that is our state now."""
        run = await journal.run(self.change_id)
        if run.epoch != self.epoch or run.state is self.state or run.state in END_STATES:
            return False
        self.state = run.state
        return True

    async def append(self, action: str, detail: dict[str, Any]) -> None:
        """One log row, local copy first. If this raises there must be no deed."""
        detail = self._copied(action, detail)
        await self._in_line(lambda journal: journal.append(self.change_id, self.epoch, action, detail))

    async def set_part(self, position: int, state: str, oid: int | None) -> None:
        """How far a step has come, after every row that waits. If this raises there must be no deed."""
        self._copied("part", {"position": position, "state": state, "oid": oid})
        await self._in_line(lambda journal: journal.set_part(self.change_id, self.epoch, position, state, oid))

    async def _in_line(self, write: Callable[[Journal], Awaitable[Any]]) -> None:
        async with self._line:
            for last in (False, True):
                journal = await self.journal()
                try:
                    await self._flush(journal)
                    await write(journal)
                except StaleEpochError:
                    self.fenced = True
                    raise
                except ConnectError:  # the session had died unnoticed: once more on a new one
                    if last:
                        raise
                else:
                    return

    def _copied(self, action: str, detail: dict[str, Any]) -> dict[str, Any]:
        """The detail, once the local copy has it. A full disk here must not keep us from cleaning up what we left there:
        the row then says that its local copy is missing."""
        try:
            self.book.write(action, detail)
        except ServerError as exc:
            if action in _STRICT:
                raise
            return {**detail, "local_copy": f"missing: {exc.message}"}
        return detail

    # -- rows that nothing waits for -----------------------------------------------------------------------------------

    def later(self, action: str, detail: dict[str, Any]) -> None:
        """A log row from inside a guard loop: returns at once. Both copies are written behind, in the order of the calls;
        a row that waited says so (`late`, with the time it is of)."""
        self._put(Row(action, detail))

    def later_index(self, oid: int, valid: bool) -> None:
        """The same for the index's OID, which goes to the change's row in the journal (`Journal.set_index`)."""
        self._put(Row("index.oid", {"oid": oid, "valid": valid}, index=True))

    def later_part(self, position: int, oid: int) -> None:
        """The same for the index that a step of a change on a partitioned table is making (`Journal.set_part`)."""
        self._put(Row("part.oid", {"position": position, "state": "begun", "oid": oid}, part=True))

    async def note(self, action: str, detail: dict[str, Any]) -> None:
        """A log row that nothing depends on (an outcome, a phase). Each copy gets it that can be written; the journal,
        when it does not answer within NOTE_S, later. StaleEpochError: we are fenced."""
        await self._soon(Row(action, self._copied(action, detail), booked=True), NOTE_S)

    async def protective(self, action: str, detail: dict[str, Any], to: State | None = None) -> None:
        """The intent row of a cancel, with the move to `to`. Stopping our own work is the safe side, so neither copy holds
        it up for more than PROTECTIVE_S: what could not be written follows, in order. A fenced holder stops nothing
        (StaleEpochError)."""
        await self._soon(Row(action, self._copied(action, detail), to=to, booked=True), PROTECTIVE_S)

    async def _soon(self, row: Row, seconds: float) -> None:
        self._put(row)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await row.done.wait()
        if self.fenced:
            raise StaleEpochError("another executor has taken this change over")

    def _put(self, row: Row) -> None:
        self._backlog.add(row)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._write_behind())

    async def _write_behind(self) -> None:
        """Write what is in the line; a journal that is away is tried again with every new row, and every second."""
        while self._backlog.rows and not self.fenced:
            self._backlog.news.clear()
            try:
                async with self._line:
                    await self._copy_behind()
                    async with self.turn:
                        await self._flush(await self.journal())
            except StaleEpochError:
                self.fenced = True
            except _FAILED:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ABORT_POLL_S):
                        await self._backlog.news.wait()
        if self.fenced:
            self._give_up("fenced")

    async def _copy_behind(self) -> None:
        for row in [r for r in self._backlog.rows if not r.booked]:
            row.booked = True
            try:
                await asyncio.to_thread(self.book.write, row.action, row.detail, row.at)
            except ServerError as exc:
                row.detail = {**row.detail, "local_copy": f"missing: {exc.message}"}

    async def _flush(self, journal: Journal) -> None:
        """Everything in the line to the journal, in order; a row leaves the line when it is written. One that the journal
        will never take (it is in the local copy) does not hold up the others."""
        while self._backlog.rows:
            row = self._backlog.rows[0]
            try:
                await self._write(journal, row)
            except StaleEpochError:
                self.fenced = True
                raise
            except IndexPilotError as exc:
                if transient(exc):
                    row.failed = True
                    raise
                self.book.jot(f"{row.action}.unlogged", {**row.detail, "not_logged": exc.message})
            except (TypeError, ValueError) as exc:  # no JSON
                self.book.jot(f"{row.action}.unlogged", {"not_logged": str(exc)})
            self._backlog.first_is_done()

    async def _write(self, journal: Journal, row: Row) -> None:
        if row.index:
            await journal.set_index(self.change_id, self.epoch, row.detail["oid"], row.detail["valid"])
            return
        if row.part:
            detail = row.detail
            await journal.set_part(self.change_id, self.epoch, detail["position"], detail["state"], detail["oid"])
            return
        if row.to is not None:
            try:
                await self._move(journal, row.to, row.action, row.told())
            except JournalRefusedError as exc:  # the move came too late; that it was meant belongs into the log all the same
                row.to, row.detail = None, {**row.detail, "not_moved": exc.message}
            else:
                return
        await journal.append(self.change_id, self.epoch, row.action, row.told())

    def _give_up(self, why: str) -> None:
        for row in self._backlog.rows:
            self.book.jot(f"{row.action}.unlogged", {**row.detail, "not_logged": why, "was_at": row.at.isoformat()})
            row.done.set()
        self._backlog.rows.clear()

    # -- the lease -----------------------------------------------------------------------------------------------------

    def start_beat(self) -> None:
        """Renew the lease three times in its length, and ask once a second whether somebody wants us to stop."""
        if self._beat is None:
            self._beat = asyncio.create_task(self._beats())

    async def stop_beat(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._beat
            self._beat = None

    async def _beats(self) -> None:
        renewed = 0.0
        while not self.fenced:
            try:
                async with asyncio.timeout(self.lease_s / 3), self.turn:
                    journal = await self.journal()
                    if time.monotonic() - renewed >= self.lease_s / 3:
                        if not await journal.renew(self.change_id, self.epoch, self.lease_s):
                            self.fenced = True
                            return
                        renewed, self.failures = time.monotonic(), 0
                    self.abort = self.abort or await journal.abort_requested(self.change_id)
                    self._bypass = await journal.bypass()
            except _FAILED:
                self.failures += 1
                await asyncio.sleep(self.lease_s / 3 - ABORT_POLL_S if self.lease_s > 3 * ABORT_POLL_S else 0)
            await asyncio.sleep(min(ABORT_POLL_S, self.lease_s / 6))

    def lifts(self, scope: str, now: datetime) -> bool:
        """Whether an emergency bypass lifts `scope` at `now` (the server's clock). One whose end has come lifts nothing,
        also when the journal cannot be asked any more."""
        return self._bypass is not None and scope in self._bypass.scope and now < self._bypass.until

    async def close(self) -> None:
        """End the lease's renewal and the session; rows that still wait get NOTE_S, then they stay in the local copy."""
        await self.stop_beat()
        if self._pump is not None:
            await asyncio.wait({self._pump}, timeout=NOTE_S)
            self._pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pump
            self._give_up("the journal could not be reached")
        await self._journal.close()

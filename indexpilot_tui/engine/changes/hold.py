"""Our hold on a change: its journal, its epoch, the lease that is renewed, and word of who wants us to stop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from indexpilot_tui.engine.changes.book import Book
from indexpilot_tui.engine.journal.journal import Journal, StaleEpochError
from indexpilot_tui.engine.model.change import END_STATES, State
from indexpilot_tui.errors import ConnectError, IndexPilotError, ServerError

UNREACHABLE = (ConnectError, psycopg.OperationalError, TimeoutError, OSError)
_FAILED = (IndexPilotError, psycopg.Error, TimeoutError, OSError)
ABORT_POLL_S = 1.0
RECONNECT_S = 120.0  # how long a lost control database is waited for before the change is left to reconcile


class Hold:
    """One change that this process carries out. `fenced` once somebody else took it over: then nothing more is done.

    Every write names the epoch, so a process that slept through a takeover is refused by the database (StaleEpochError).
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
        self.terminated = False  # this process was told to end (SIGTERM)
        self._beat: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self.turn = asyncio.Lock()  # held where the epoch changes, so that no renewal names the old one

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
            except ConnectError:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(2)

    async def advance(self, to: State, action: str, detail: dict[str, Any]) -> None:
        """One move from the state we are in, with its log row; local copy first. A lost journal is waited for (ConnectError
        after RECONNECT_S), and asked whether the move was made before it is made again. StaleEpochError: we are fenced."""
        self.book.write(action, {"to": to.value, **detail})
        for last in (False, False, True):
            journal = await self.patient_journal()
            try:
                await journal.advance(self.change_id, self.epoch, self.state, to, action, detail)
            except StaleEpochError:
                if not await self._caught_up(journal):
                    self.fenced = True
                    raise
                if self.state is to:
                    return
            except ConnectError:
                if last:
                    raise
            else:
                self.state = to
                return

    async def _caught_up(self, journal: Journal) -> bool:
        """Whether the state differs only by a move of our own whose answer was lost; then that is our state now."""
        run = await journal.run(self.change_id)
        if run.epoch != self.epoch or run.state is self.state or run.state in END_STATES:
            return False
        self.state = run.state
        return True

    async def append(self, action: str, detail: dict[str, Any]) -> None:
        """One log row, local copy first. If this raises there must be no deed."""
        self.book.write(action, detail)
        journal = await self.journal()
        try:
            await journal.append(self.change_id, self.epoch, action, detail)
        except StaleEpochError:
            self.fenced = True
            raise
        except ConnectError:  # the session had died unnoticed: once more on a new one
            await (await self.journal()).append(self.change_id, self.epoch, action, detail)

    async def note(self, action: str, detail: dict[str, Any]) -> None:
        """A log row that nothing depends on (an outcome, a phase): an unreachable journal leaves it in the local copy."""
        with contextlib.suppress(*UNREACHABLE, ServerError):
            await self.append(action, detail)

    async def protective(self, action: str, detail: dict[str, Any], to: State | None = None) -> None:
        """The intent row of a cancel. Stopping our own work is the safe side, so it is not held up by an unreachable
        journal as long as the local copy has it; a fenced holder stops nothing (StaleEpochError)."""
        try:
            async with asyncio.timeout(1.0):
                if to is None or to is self.state:
                    await self.append(action, detail)
                else:
                    await self.advance(to, action, detail)
        except StaleEpochError:
            raise
        except (*UNREACHABLE, ServerError) as exc:
            with contextlib.suppress(ServerError):
                self.book.write(f"{action}.unlogged", {"why": str(exc)[:200]})

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
            except _FAILED:
                self.failures += 1
                await asyncio.sleep(self.lease_s / 3 - ABORT_POLL_S if self.lease_s > 3 * ABORT_POLL_S else 0)
            await asyncio.sleep(min(ABORT_POLL_S, self.lease_s / 6))

    async def close(self) -> None:
        await self.stop_beat()
        await self._journal.close()

"""What the rules look at: one monitor session, the journal and the forecaster where there are any, each reading once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from indexpilot_tui.check.model import Outcome, RuleStatus
from indexpilot_tui.engine.observe.health import read_health
from indexpilot_tui.engine.observe.model import IndexHealth, Observation
from indexpilot_tui.engine.observe.observer import Watcher
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.whatif.model import Forecast, Statement
from indexpilot_tui.errors import IndexPilotError, ServerError
from indexpilot_tui.settings.model import Settings, Target

PACKAGE = "indexpilot_tui.check"
T = TypeVar("T")


class Forecaster(Protocol):
    """The what-if room, as far as a rule needs it."""

    async def candidates(self, session: Session, sql: str) -> list[str]: ...
    async def simulate(self, session: Session, ddl: str, statements: Sequence[Statement]) -> Forecast: ...


class PolicyRow(Protocol):
    @property
    def starts_stopped(self) -> bool: ...
    @property
    def reason(self) -> str: ...
    @property
    def by(self) -> str: ...


class ChainRow(Protocol):
    @property
    def ok(self) -> bool: ...
    @property
    def rows(self) -> int: ...
    @property
    def first_bad_seq(self) -> int | None: ...
    @property
    def reason(self) -> str: ...


class ChangeRow(Protocol):
    @property
    def id(self) -> int: ...
    @property
    def state(self) -> Any: ...
    @property
    def outcome(self) -> str: ...
    @property
    def state_since(self) -> Any: ...


class JournalReader(Protocol):
    """What the rules read of the control schema (the journal room's `Journal`)."""

    async def verify_chain(self) -> ChainRow: ...
    async def orphans(self) -> list[int]: ...
    async def policy(self) -> PolicyRow: ...
    async def changes(self, limit: int, states: Any, /) -> Sequence[ChangeRow]: ...


@dataclass(slots=True)
class CheckContext:
    """One run on one target. `journal_missing`: there is no control schema; `journal_error`: there is one, but it could
    not be opened. Both empty: `journal` is there. Without `forecaster` the reason is in `forecaster_error`."""

    target: Target
    settings: Settings
    session: Session
    journal: JournalReader | None = None
    journal_missing: str = ""
    journal_error: IndexPilotError | None = None
    forecaster: Forecaster | None = None
    forecaster_error: str = ""
    captured_health: IndexHealth | None = None  # of a bundle, in place of reading it now
    _kept: dict[str, Any] = field(default_factory=dict)

    async def _once(self, name: str, read: Callable[[], Awaitable[T]]) -> T:
        """Several rules, one reading; its error is each one's error."""
        if name not in self._kept:
            try:
                self._kept[name] = await read()
            except IndexPilotError as exc:
                self._kept[name] = exc
        kept = self._kept[name]
        if isinstance(kept, IndexPilotError):
            raise kept
        return kept  # type: ignore[no-any-return]

    async def health(self) -> IndexHealth:
        if self.captured_health is not None:
            return self.captured_health
        return await self._once("health", lambda: read_health(self.session, self.settings, target=self.target))

    async def observation(self) -> Observation:
        return await self._once("observation", self._observe)

    async def _observe(self) -> Observation:
        observation = await Watcher(self.settings).refresh(self.session)
        if observation.error:
            raise ServerError(observation.error)
        return observation

    async def rows(self, name: str, **params: Any) -> list[dict[str, Any]]:
        """The rows of the check's own question `sql/NAME.sql`."""
        text = load(PACKAGE, name, self.session.facts.server_version)
        return await self.session.rows(text, params or None)

    async def row(self, name: str, **params: Any) -> dict[str, Any]:
        """Its one row. Raises ServerError when there is none: no answer is not an answer."""
        found = await self.rows(name, **params)
        if not found:
            raise ServerError(f"the server gave no answer to {name}")
        return found[0]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `needs_control`: it has no object where there is no control schema, and is left out there, saying so."""

    id: str
    title: str
    run: Callable[[CheckContext], Awaitable[Outcome]]
    needs_control: bool = False
    timeout_s: float = 15.0


def ok(summary: str, *evidence: dict[str, Any]) -> Outcome:
    return Outcome(RuleStatus.OK, summary, evidence)


def warning(summary: str, *evidence: dict[str, Any], fix: str = "") -> Outcome:
    return Outcome(RuleStatus.WARNING, summary, evidence, fix)


def critical(summary: str, *evidence: dict[str, Any], fix: str = "") -> Outcome:
    return Outcome(RuleStatus.CRITICAL, summary, evidence, fix)


def unknown(summary: str, *evidence: dict[str, Any], fix: str = "") -> Outcome:
    return Outcome(RuleStatus.UNKNOWN, summary, evidence, fix)

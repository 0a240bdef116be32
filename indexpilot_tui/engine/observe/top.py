"""The statements that took most of the execution time since the statistics began: for advice, where a total is wanted."""

from __future__ import annotations

from dataclasses import dataclass

from indexpilot_tui.engine.observe.ask import Asker, Refusal, question
from indexpilot_tui.engine.observe.source import source_of, statements_question
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.errors import ServerError


@dataclass(frozen=True, slots=True)
class TopStatement:
    """`sql` is raw: to plan, not to show. `share` (0..1) of the execution time of all statements of this database since
    pg_stat_statements was reset; `total_ms` and `calls` of the same time."""

    queryid: int
    sql: str
    calls: float
    total_ms: float
    share: float

    @property
    def mean_ms(self) -> float:
        return self.total_ms / self.calls if self.calls else 0.0


async def top_statements(session: Session, limit: int) -> list[TopStatement]:
    """The first `limit` statements by execution time, without ours and without utility statements.

    Raises ServerError where pg_stat_statements cannot be read, with the remedy in the message.
    """
    asker = Asker()
    probe = (await asker.ask(session, [question("probe", session.facts.server_version)]))["probe"]
    if isinstance(probe, Refusal):
        raise ServerError(str(probe))
    source = source_of(probe[0])
    if source.unavailable:
        raise ServerError(source.unavailable)
    rows = (await asker.ask(session, [statements_question("top_statements", source, "", limit=limit)]))["top_statements"]
    if isinstance(rows, Refusal):
        raise ServerError(str(rows))
    return [
        TopStatement(r["queryid"], r["query"], r["calls"], r["total_ms"], r["share"] or 0.0)
        for r in rows
        if r["query"] is not None
    ]

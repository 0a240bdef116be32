"""Which indexes the standbys use: each is asked over a session of its own, and one that cannot be asked says why."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from indexpilot_tui.engine.observe.ask import Asker, Refusal, question
from indexpilot_tui.engine.observe.indexes.reader import State
from indexpilot_tui.engine.observe.indexes.situation import StandbyUse
from indexpilot_tui.engine.postgres.session import Facts, Purpose, connect
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import IndexPilotError, ServerError
from indexpilot_tui.settings.model import Settings, Target

LOOK_S = 15.0  # for one standby, connecting included


async def ask_standbys(target: Target, settings: Settings, primary: Facts) -> tuple[StandbyUse, ...] | None:
    """What each standby that the target names says of its scans, all at once; None where the target names none."""
    if not target.standbys:
        return None
    return tuple(await asyncio.gather(*(_ask(settings.targets[name], name, settings, primary) for name in target.standbys)))


async def _ask(target: Target, name: str, settings: Settings, primary: Facts) -> StandbyUse:
    try:
        async with asyncio.timeout(LOOK_S):
            session = await connect(target, Purpose.MONITOR, settings)
            try:
                _must_be_ours(session.facts, primary)
                version = session.facts.server_version
                wanted = [question("health_facts", version), question("index_state", version, bulk=True)]
                answers = await Asker().ask(session, wanted)
            finally:
                await session.close()
    except TimeoutError:
        return StandbyUse(name, f"no answer within {LOOK_S:g} s")
    except IndexPilotError as exc:
        return StandbyUse(name, clean_line(exc.message, 200))
    facts, rows = answers["health_facts"], answers["index_state"]
    if isinstance(facts, Refusal) or isinstance(rows, Refusal):
        return StandbyUse(name, str(facts if isinstance(facts, Refusal) else rows))
    states: Sequence[State] = [State._make(row) for row in rows[0]["rows"]]
    return StandbyUse(
        name,
        since=facts[0]["stats_since"],
        scans={s.oid: s.scans for s in states if s.scans},
        last_scans={s.oid: s.last_scan for s in states if s.last_scan},
    )


def _must_be_ours(facts: Facts, primary: Facts) -> None:
    """Raises ServerError where its oids mean something else."""
    if facts.system_identifier != primary.system_identifier or not facts.in_recovery:
        raise ServerError("it is no standby of this server")
    if facts.database_oid != primary.database_oid:
        raise ServerError(f"it was opened on database {clean_line(facts.database, 80)}")

"""At every start of something that may operate: find changes whose executor is gone, and see them to their end."""

from __future__ import annotations

from collections.abc import Sequence

from indexpilot_tui.engine.changes.job import Job, spawn
from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.model.change import ACTIVE_STATES, Change, State
from indexpilot_tui.engine.postgres.session import Purpose, session
from indexpilot_tui.settings.model import Settings, Target

WATCHED = (*sorted(ACTIVE_STATES), State.OBSERVING, State.QUEUED)


async def unfinished(journal: Journal, *, system_identifier: str, database: str) -> Sequence[Change]:
    """Changes of this database in execution, observation or queue.

    A lease that has not ended does not tell whether its executor lives: whoever takes over waits for it.
    """
    return [
        change
        for change in await journal.changes(200, WATCHED)
        if change.plan.system_identifier == system_identifier and change.plan.database == database
    ]


async def reconcile(target: Target, settings: Settings, journal: Journal, *, detach: bool = True) -> list[str]:
    """See every orphaned change of this target to its end; one line each of what was found.

    With `detach` each is taken over by an executor process of its own (a live build can take hours) and this returns at
    once; without, this waits for the end of each. A change whose executor lives is left alone: its lease is renewed.
    Raises ConnectError when the target cannot be reached, ServerError when no executor could be started.
    """
    if not await journal.changes(1, WATCHED):
        return []
    async with session(target, Purpose.MONITOR, settings) as monitor:
        facts = monitor.facts
    lines = []
    for change in await unfinished(journal, system_identifier=facts.system_identifier, database=facts.database):
        run = await journal.run(change.id)
        what = f"change {change.id} ({change.state.value})"
        if change.state is State.QUEUED and not run.lease_ended:
            continue
        if detach:
            pid = await spawn(target, settings, change.id, resume=True)
            if run.lease_ended:
                lines.append(f"{what}: its executor is gone; process {pid} takes it over")
            continue
        from indexpilot_tui.engine.changes.drive import carry_out  # an executor's business: no console needs all of it

        await carry_out(Job(target=target, settings=settings, change_id=change.id, resume=True))
        after = await journal.change(change.id)
        if after.epoch != change.epoch:
            lines.append(f"{what}: {after.state.value}. {after.outcome}")
    return lines

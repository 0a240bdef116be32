"""Standbys and slots: none too far behind, those that commits wait for are there, and nobody reads there what a drop locks.

A drop or a rebuild stops replay on a standby while somebody reads the table there, and ends that reader after
max_standby_streaming_delay (measured: safe-index-changes, fact 9); a build has no such effect, but its WAL goes everywhere.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.observe.replication import Replication, Slot, Standby
from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.safeguards.blockers import settled
from indexpilot_tui.engine.safeguards.context import Gate, GateContext
from indexpilot_tui.engine.safeguards.demanded import megabytes, switched_off
from indexpilot_tui.engine.safeguards.maintenance_window import duration
from indexpilot_tui.engine.safeguards.signals import replication
from indexpilot_tui.errors import IndexPilotError, ServerError
from indexpilot_tui.settings.safeguards import Replicas

NAME = "replicas"
SETTING = "production_safeguards.replicas"
LOOK_S = 2.0  # for one standby
MB = 1e6
_QUORUM = re.compile(r"^\s*(?:(?:first|any)\s+)?(\d+)\s*\(", re.I)


async def read(ctx: GateContext) -> list[Verdict]:
    """Lag, slots, synchronous standbys; for a drop or a rebuild also the sessions on standbys that can be reached."""
    limits = ctx.settings.production_safeguards.replicas
    if not limits.enabled:
        return switched_off(NAME, SETTING)
    found = await replication(ctx)
    row = await ctx.session.row(ctx.sql("synchronous"))
    if row is None or row["names"] is None:
        raise ValueError("the server does not tell which standbys a commit waits for")
    verdicts = [*judge_lag(found.standbys, limits), *judge_slots(found.slots, limits)]
    verdicts += judge_synchronous(str(row["names"]), found.standbys)
    if ctx.plan is not None and ctx.plan.kind != "create":
        verdicts += await _sessions(ctx, found)
    return verdicts or [Verdict(NAME, Status.PASS, "none", "", SETTING, "no standby is connected")]


def lag_of(standby: Standby) -> float:
    """Seconds behind. While something is to be replayed at least since its last word: of one that stops answering the
    server goes on to show the lag of before (measured). Raises ValueError when it cannot be told."""
    if not standby.visible:
        raise ValueError(f"how far {standby.name} is behind is hidden: GRANT pg_monitor to this login")
    replays = standby.replay_bytes is not None
    seconds, behind = (standby.replay_s, standby.replay_bytes) if replays else (standby.flush_s, standby.flush_bytes)
    if behind is not None and behind <= 0:
        return 0.0
    if standby.reply_s is None:
        raise ValueError(f"how far {standby.name} is behind is not known yet")
    return max(0.0, seconds or 0.0, standby.reply_s)


def judge_lag(standbys: tuple[Standby, ...], limits: Replicas) -> list[Verdict]:
    """The one that is furthest behind. A base backup that is being taken replays nothing."""
    following = [s for s in standbys if s.state != "backup"]
    if not following:
        return []
    worst = max(following, key=lag_of)
    lag, most = lag_of(worst), limits.max_replay_lag_seconds
    what = f"{worst.name} is {duration(lag)} behind, {worst.state}, of {len(following)} connected"
    status = Status.PASS if lag <= most else Status.WAIT
    return [Verdict(f"{NAME}.lag", status, duration(lag), duration(most), f"{SETTING}.max_replay_lag_seconds", what)]


def judge_slots(slots: tuple[Slot, ...], limits: Replicas) -> list[Verdict]:
    """A slot that nobody reads keeps WAL on the disk, and what a build writes comes on top."""
    most = limits.max_retained_wal_mb * MB
    bad = []
    for slot in slots:
        kept = slot.retained_bytes or 0.0
        if slot.wal_status in ("unreserved", "lost"):
            bad.append((kept, f"slot {slot.name} is {slot.wal_status}: its reader loses WAL"))
        elif not slot.active and kept > most:
            bad.append((kept, f"slot {slot.name}, which nobody reads, keeps {megabytes(kept)} of WAL"))
    if not slots:
        return []
    setting = f"{SETTING}.max_retained_wal_mb"
    if bad:
        kept, why = max(bad)
        return [Verdict(f"{NAME}.slots", Status.BLOCK, megabytes(kept), megabytes(most), setting, f"{why}: see to it first")]
    kept = max((s.retained_bytes or 0.0 for s in slots if not s.active), default=0.0)
    what = f"{len(slots)} slots, {sum(s.active for s in slots)} of them read"
    return [Verdict(f"{NAME}.slots", Status.PASS, megabytes(kept), megabytes(most), setting, what)]


def needed(names: str) -> int:
    """How many standbys a commit waits for, by synchronous_standby_names."""
    if not names.strip():
        return 0
    match = _QUORUM.match(names)
    return int(match[1]) if match else 1


def judge_synchronous(names: str, standbys: tuple[Standby, ...]) -> list[Verdict]:
    """Without those that it waits for every commit hangs, each of a build's among them, and a cancel is swallowed."""
    wanted = needed(names)
    if wanted == 0:
        return []
    there = sum(s.state == "streaming" and s.sync_state in ("sync", "quorum") for s in standbys)
    what = f"synchronous_standby_names is {clean_line(names, 80)}"
    status = Status.PASS if there >= wanted else Status.BLOCK
    why = what if status is Status.PASS else f"{what}: commits hang until one is back"
    return [Verdict(f"{NAME}.synchronous", status, f"{there} streaming", f"{wanted} needed", "", why)]


@dataclass(frozen=True, slots=True)
class Readers:
    """Who uses the table on one standby: `who` has the oldest transaction, of `age_s` seconds; `unseen` is why nobody
    could look."""

    standby: str
    sessions: int = 0
    age_s: float = 0.0
    who: str = ""
    unseen: str = ""


async def _sessions(ctx: GateContext, found: Replication) -> list[Verdict]:
    looks = await asyncio.gather(*(_readers(ctx, name) for name in ctx.target.standbys))
    if not looks and not found.standbys:
        return []
    more = len(found.standbys) - sum(not r.unseen for r in looks)
    others = [s.name for s in found.standbys] if not looks else [f"{more} more that are connected"] if more > 0 else []
    return [judge_readers(looks, others, ctx.settings.production_safeguards.blockers.max_writer_age_seconds)]


def judge_readers(looks: list[Readers], unknown: list[str], most: float) -> Verdict:
    """Wait for a reader on a standby that is older than a lock holder here may be; warn where nobody looks."""
    name, setting = f"{NAME}.sessions", "production_safeguards.blockers.max_writer_age_seconds"
    blind = [f"{r.standby} ({r.unseen})" for r in looks if r.unseen] + unknown
    warning = f"; NOT looked into: {', '.join(blind)}: readers there hold replay up, then are cancelled" if blind else ""
    oldest = max(looks, key=lambda r: r.age_s, default=None)
    total = sum(r.sessions for r in looks)
    if oldest is not None and oldest.age_s > most:
        why = f"{oldest.who} uses the table on {oldest.standby} for {oldest.age_s:.0f} s: replay would stop for it{warning}"
        return Verdict(name, Status.WAIT, f"{oldest.age_s:.0f} s", f"{most:.0f} s", setting, why)
    measured = f"{total} sessions" if len(blind) < len(looks) or not blind else "not measured"
    return Verdict(name, Status.PASS, measured, f"{most:.0f} s", setting, f"{total} sessions use the table there{warning}")


async def _readers(ctx: GateContext, name: str) -> Readers:
    """Look into one standby, by the name that its target has in the configuration."""
    target = ctx.settings.targets[name]
    try:
        async with asyncio.timeout(LOOK_S):
            session = await connect(target, Purpose.MONITOR, ctx.settings)
            try:
                facts = session.facts
                if facts.system_identifier != ctx.session.facts.system_identifier or not facts.in_recovery:
                    raise ServerError("it is no standby of this server")
                if facts.database != ctx.session.facts.database:
                    raise ServerError(f"it was opened on database {clean_line(facts.database, 80)}")
                params = {"own": [facts.server_pid], "table_oid": ctx.the_plan.table_oid, "any_lock": True}
                rows = await settled(replace(ctx, session=session), "lock_holders", params)
            finally:
                await session.close()
    except TimeoutError:
        return Readers(name, unseen=f"no answer within {LOOK_S:g} s")
    except IndexPilotError as exc:
        return Readers(name, unseen=clean_line(exc.message, 120))
    except ValueError as exc:
        return Readers(name, 1, float("inf"), f"a session of which {exc}")
    oldest = max(rows, key=lambda row: float(row["age_s"]), default=None)
    return Readers(name) if oldest is None else Readers(name, len(rows), float(oldest["age_s"]), str(oldest["who"]))


PARTS = ("lag", "slots", "synchronous", "sessions")
GATE = Gate(NAME, SETTING, read, target_wide=True, parts=PARTS)

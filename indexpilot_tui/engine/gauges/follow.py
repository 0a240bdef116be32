"""Who follows the server: standbys, slots, the archiver; and, of a standby, itself. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from indexpilot_tui.engine.model.gauge import Gauge
from indexpilot_tui.engine.observe.replication import Archiver, Replication, Slot, Standby
from indexpilot_tui.engine.observe.signals import Signals
from indexpilot_tui.engine.safeguards.demanded import megabytes
from indexpilot_tui.engine.safeguards.replicas import MB, SETTING, lag_of
from indexpilot_tui.settings.model import Settings

FOLLOW = "followers"
_QUESTIONS = (("standbys", "standbys"), ("slots", "slots"), ("wal_keeping", "archiver"))


def follow_gauges(signals: Signals, settings: Settings) -> Iterator[Gauge]:
    """One for each standby and each slot, one for the archiver; "none" is told as such, and what was refused is not."""
    found, at = signals.replication, signals.replication_at
    if found is None:
        for key, name in _QUESTIONS:
            yield Gauge(key, FOLLOW, name, why="it was not read yet")
        return
    # a refusal begins with the name of its question
    refused = {key: text for text in found.unread for key, _ in _QUESTIONS if text.startswith(key)}
    if signals.pulse.in_recovery:
        yield _own(found, settings, at)
    if why := refused.get("standbys"):
        yield Gauge("standbys", FOLLOW, "standbys", at=at, why=why)
    elif not found.standbys:
        yield Gauge("standbys", FOLLOW, "standbys", words="none", at=at)
    for standby in found.standbys:
        yield _lag(standby, settings, at, signals.grant)
    if why := refused.get("slots"):
        yield Gauge("slots", FOLLOW, "slots", at=at, why=why)
    elif not found.slots:
        yield Gauge("slots", FOLLOW, "slots", words="none", at=at)
    for slot in found.slots:
        yield _slot(slot, settings, at)
    yield _archiver(found.archiver, settings, at, refused.get("wal_keeping", "it was not read"))


def _own(found: Replication, settings: Settings, at: datetime | None) -> Gauge:
    """How far this standby is behind. One that has replayed all that came is not behind, however long ago that was."""
    policy = settings.production_safeguards.replicas
    most = policy.max_replay_lag_seconds if policy.enabled else None
    behind, ago = found.replay_bytes, found.replayed_s_ago
    lag = 0.0 if behind is not None and behind <= 0 else ago
    told = f"{megabytes(behind)} received and not replayed" if behind is not None else "no WAL receiver"
    why = "" if lag is not None else "nothing was replayed since the start"
    return Gauge("own_lag", FOLLOW, "this standby's lag", lag, "s", most, f"{SETTING}.max_replay_lag_seconds", at, why, told)


def _lag(standby: Standby, settings: Settings, at: datetime | None, grant: str) -> Gauge:
    policy = settings.production_safeguards.replicas
    most = policy.max_replay_lag_seconds if policy.enabled else None
    lag, why = None, ""
    try:
        lag = lag_of(standby)
    except ValueError as exc:
        why = str(exc) if standby.visible else f"how far {standby.name} is behind is hidden: {grant}"
    parts = [standby.state, standby.sync_state, standby.address]
    for name, value in (
        ("unsent", standby.send_bytes),
        ("unflushed", standby.flush_bytes),
        ("unreplayed", standby.replay_bytes),
    ):
        parts += [f"{name} {megabytes(value)}"] if value is not None else []
    told = " · ".join(part for part in parts if part)
    backup = standby.state == "backup"  # replays nothing, and is not behind for it
    return Gauge(
        f"lag {standby.name} {standby.address}", FOLLOW, f"lag {standby.name}", lag, "s", None if backup else most,
        f"{SETTING}.max_replay_lag_seconds", at, why, told,
    )  # fmt: skip


def _slot(slot: Slot, settings: Settings, at: datetime | None) -> Gauge:
    """The limit holds for a slot that nobody reads, as the gate has it."""
    policy = settings.production_safeguards.replicas
    most = policy.max_retained_wal_mb * MB if policy.enabled and not slot.active else None
    parts = [slot.kind, "read" if slot.active else "nobody reads it", slot.wal_status]
    parts += [f"{megabytes(slot.safe_bytes)} until the server gives it up"] if slot.safe_bytes is not None else []
    parts += [f"xmin {slot.xmin_age} transactions old"] if slot.xmin_age is not None else []
    lost = slot.wal_status in ("unreserved", "lost")
    reserved = slot.retained_bytes is not None
    return Gauge(
        f"slot {slot.name}", FOLLOW, f"slot {slot.name}", slot.retained_bytes, "B", most, f"{SETTING}.max_retained_wal_mb",
        at, "", " · ".join(p for p in parts if p), words="" if reserved else slot.wal_status or "keeps no WAL", bad=lost,
    )  # fmt: skip


def _archiver(archiver: Archiver | None, settings: Settings, at: datetime | None, refused: str) -> Gauge:
    if archiver is None:
        return Gauge("archiver", FOLLOW, "archiver", at=at, why=refused)
    if not archiver.enabled:
        return Gauge(
            "archiver", FOLLOW, "archiver", words="off", at=at, evidence="archive_mode is off: WAL is no backup here"
        )
    policy = settings.production_safeguards.backup
    counted = policy.enabled is not False and policy.metric is None
    most = policy.max_archive_age_seconds if counted else None
    failed = f"{archiver.failed_count} failures so far"
    if archiver.failing:
        told = f"{failed}: look into the server's log"
        return Gauge("archiver", FOLLOW, "archiver", words="failing", at=at, evidence=told, bad=True)
    if archiver.last_archived is None or at is None:
        return Gauge("archiver", FOLLOW, "archiver", words="nothing yet", at=at, evidence=failed)
    age = max(0.0, (at - archiver.last_archived).total_seconds())
    told = f"the newest archived WAL is so old; {failed}"
    setting = "production_safeguards.backup.max_archive_age_seconds"
    return Gauge("archiver", FOLLOW, "archiver", age, "s", most, setting, at, "", told)

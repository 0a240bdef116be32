"""Who follows this server and how far behind: standbys, slots, the archiver. Pure values from the rows of three
questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from indexpilot_tui.engine.observe.ask import Refusal, Rows
from indexpilot_tui.engine.postgres.text import clean_line

NAMES = ("standbys", "slots", "wal_keeping")


@dataclass(frozen=True, slots=True)
class Standby:
    """One connected standby. Bytes behind this server's newest WAL: not sent, not flushed there, not replayed there;
    seconds as the server measured them (None while nothing is written: then nothing is behind). `visible` False: the role
    may not see more."""

    name: str
    address: str
    state: str
    sync_state: str
    send_bytes: float | None
    flush_bytes: float | None
    replay_bytes: float | None
    flush_s: float | None
    replay_s: float | None
    reply_s: float | None
    visible: bool


@dataclass(frozen=True, slots=True)
class Slot:
    """A replication slot: `retained_bytes` of WAL wait for it; `safe_bytes` may still be written before it is given up."""

    name: str
    kind: str
    active: bool
    wal_status: str
    retained_bytes: float | None
    safe_bytes: float | None
    xmin_age: int | None


@dataclass(frozen=True, slots=True)
class Archiver:
    """`failing`: the newest try failed. `enabled` False: archive_mode is off, so nothing waits for it."""

    enabled: bool
    failing: bool
    failed_count: int
    last_archived: datetime | None
    last_failed: datetime | None


@dataclass(frozen=True, slots=True)
class Replication:
    """What one reading found. `unread` names the questions that were refused, with the GRANT; their parts are empty then and
    must not be taken for "none". `replayed_s_ago` and `replay_bytes` are a standby's own."""

    standbys: tuple[Standby, ...]
    slots: tuple[Slot, ...]
    archiver: Archiver | None
    max_wal_bytes: float | None
    replayed_s_ago: float | None
    replay_bytes: float | None
    unread: tuple[str, ...] = ()


def replication_of(answers: Mapping[str, Rows | Refusal]) -> Replication:
    """From the answers to `standbys`, `slots` and `wal_keeping`."""
    standbys, slots, keeping = (answers[name] for name in NAMES)
    unread = tuple(str(answer) for answer in (standbys, slots, keeping) if isinstance(answer, Refusal))
    row = None if isinstance(keeping, Refusal) or not keeping else keeping[0]
    return Replication(
        standbys=() if isinstance(standbys, Refusal) else tuple(_standby(r) for r in standbys),
        slots=() if isinstance(slots, Refusal) else tuple(_slot(r) for r in slots),
        archiver=None if row is None else _archiver(row),
        max_wal_bytes=None if row is None else row["max_wal_bytes"],
        replayed_s_ago=None if row is None else row["replayed_s_ago"],
        replay_bytes=None if row is None else row["replay_bytes"],
        unread=unread,
    )


def _standby(row: Mapping[str, Any]) -> Standby:
    return Standby(
        name=clean_line(row["name"], 128),
        address=clean_line(row["address"] or ""),
        state=clean_line(row["state"] or ""),
        sync_state=clean_line(row["sync_state"] or ""),
        send_bytes=row["send_bytes"],
        flush_bytes=row["flush_bytes"],
        replay_bytes=row["replay_bytes"],
        flush_s=row["flush_s"],
        replay_s=row["replay_s"],
        reply_s=row["reply_s"],
        visible=row["state"] is not None,
    )


def _slot(row: Mapping[str, Any]) -> Slot:
    ages = [age for age in (row["xmin_age"], row["catalog_xmin_age"]) if age is not None]
    return Slot(
        name=clean_line(row["name"], 128),
        kind=clean_line(row["kind"]),
        active=row["active"],
        wal_status=clean_line(row["wal_status"] or ""),
        retained_bytes=row["retained_bytes"],
        safe_bytes=row["safe_bytes"],
        xmin_age=max(ages, default=None),
    )


def _archiver(row: Mapping[str, Any]) -> Archiver:
    return Archiver(
        enabled=row["archive_mode"] != "off",
        failing=row["archive_failing"],
        failed_count=row["failed_count"],
        last_archived=row["last_archived_time"],
        last_failed=row["last_failed_time"],
    )

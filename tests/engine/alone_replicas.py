"""Scenes of what follows a server: a standby that is behind, is missing, or is read from, and a slot that nobody reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from indexpilot_tui.engine.model.verdict import Status
from tests.engine.alone import Place, tried, until
from tests.faults.workshop import OPERATOR, Workshop


@tried("replicas.slots", Status.BLOCK, {"replicas": {"max_retained_wal_mb": 0.1}})
@contextmanager
def slots(place: Place) -> Iterator[None]:
    place.workshop.sql("select pg_create_physical_replication_slot('alone', true)")
    try:
        place.workshop.sql("update app.t set v = v")
        yield
    finally:
        place.workshop.sql("select pg_drop_replication_slot('alone')")


@tried("replicas.lag", Status.WAIT, {"replicas": {"max_replay_lag_seconds": 0.5}}, followed=True)
@contextmanager
def lag(place: Place) -> Iterator[None]:
    workshop = place.workshop
    with place.the_standby.connect() as conn:
        conn.execute("select pg_wal_replay_pause()")
        try:
            workshop.sql("update app.t set v = v where id = 1")
            behind = "select coalesce(max(replay_lag), '0') > '0.5 s' and bool_and(replay_lsn < flush_lsn) from pg_stat_replication"
            until(lambda: workshop.sql(behind) == [(True,)])
            yield
        finally:
            conn.execute("select pg_wal_replay_resume()")


@tried("replicas.synchronous", Status.BLOCK, {}, followed=True)
@contextmanager
def synchronous(place: Place) -> Iterator[None]:
    _wait_for_standbys(place.workshop, "absent")
    try:
        yield
    finally:
        _wait_for_standbys(place.workshop, "")


def _wait_for_standbys(workshop: Workshop, names: str) -> None:
    with psycopg.connect(workshop.cluster.conninfo(), autocommit=True) as conn:
        conn.execute(f"alter system set synchronous_standby_names = '{names}'".encode())
        conn.execute("select pg_reload_conf()")
    until(lambda: workshop.sql("show synchronous_standby_names") == [(names,)])


def _looked_into(place: Place) -> dict[str, Any]:
    dsn = place.the_standby.conninfo(place.workshop.dbname, OPERATOR)
    standby = {"name": "standby", "environment": "development", "dsn": dsn}
    return {
        "targets": {"standby": standby},
        "target": {"standbys": ("standby",)},
        "blockers": {"max_writer_age_seconds": 0.5},
    }


@tried(
    "replicas.sessions", Status.WAIT, _looked_into, followed=True,
    ddl="drop index app.spare", furnish=("create index spare on app.t (w)",),
)  # fmt: skip
@contextmanager
def sessions(place: Place) -> Iterator[None]:
    """Somebody reads there what a drop would lock."""
    standby, dbname = place.the_standby, place.workshop.dbname
    standby.caught_up()
    with psycopg.connect(standby.conninfo(dbname)) as reader:
        reader.execute("select count(*) from app.t")
        reader.execute("select pg_sleep(0.6)")
        yield

"""Scenes of what an index costs the writers of its table, and of the room that it takes in a tablespace of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from indexpilot_tui.engine.model.verdict import Status
from tests.engine.alone import Place, busy, tried
from tests.engine.gates_room import printing
from tests.faults.workshop import OWNER

PRODUCTION: dict[str, Any] = {  # with all that it demands beside what it must know of writers
    "environment": "production", "target": {"cores": 64, "disk_capacity_mb": 1e9}, "backup": {"enabled": False},
    "write_performance": {},
}  # fmt: skip


@tried("write_performance.hot", Status.BLOCK, {})
@contextmanager
def hot(place: Place) -> Iterator[None]:
    """Updates that write no index today; all of them would write the planned one."""
    with place.workshop.admin() as writer:
        for _ in range(30):
            writer.execute("update app.t set v = v + 1 where id = 1")
        writer.execute("select pg_stat_force_next_flush()")
    yield
    place.workshop.sql("select pg_stat_reset_single_table_counters('app.t'::regclass)")


@tried("write_performance.latency", Status.WAIT, {"write_performance": {"max_write_latency_ms": 20}})
@contextmanager
def latency(place: Place) -> Iterator[None]:
    with busy(place.workshop, "update app.t set w = w where id = 1 and pg_sleep(0.05) is not null"):
        yield


@tried("write_performance.writes", Status.UNKNOWN, PRODUCTION)
@contextmanager
def writes(place: Place) -> Iterator[None]:
    place.workshop.sql("drop extension pg_stat_statements")
    yield
    place.workshop.sql("create extension pg_stat_statements")


def _volume(place: Place) -> Path:
    """The file in which the test writes how much is free on the volume of the tablespace."""
    return place.workshop.log.with_name("volume")


def _of_a_volume(place: Place) -> dict[str, Any]:
    _volume(place).write_text('{"free_bytes": 900e6, "total_bytes": 1e9}')
    metrics = {"host": printing('{"free_bytes": 900e6, "total_bytes": 1e9}'),
               "fast": {"command": ["cat", str(_volume(place))], "max_age_seconds": 0}}  # fmt: skip
    return {"metrics": metrics, "disk": {"metric": "host", "tablespace_metrics": {"ixp_alone": "fast"}}}


@tried(
    "disk.tablespace", Status.BLOCK, _of_a_volume,
    ddl="create index on app.t (v) tablespace ixp_alone",
    furnish=("set allow_in_place_tablespaces = on", "create tablespace ixp_alone location ''",
             f"grant create on tablespace ixp_alone to {OWNER}"),
    clear="drop tablespace ixp_alone",
)  # fmt: skip
@contextmanager
def tablespace(place: Place) -> Iterator[None]:
    volume = _volume(place)
    volume.write_text('{"free_bytes": 1, "total_bytes": 1e9}')
    yield
    volume.write_text('{"free_bytes": 900e6, "total_bytes": 1e9}')

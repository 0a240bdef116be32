"""Demo: a local server with the sample shop, the control schema, three logins and a live workload."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import psycopg
from psycopg import AsyncConnection

import indexpilot_tui
from indexpilot_tui.demo import sample
from indexpilot_tui.demo.scenarios import Scenario, find
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.errors import LocalServerError
from indexpilot_tui.localpg import LocalCluster

_STOP_SECONDS = 3.0
_SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track": "top",
    "track_io_timing": "on",
    "track_functions": "pl",
    "shared_buffers": "128MB",
    "max_connections": "80",
    "max_wal_size": "2GB",
    "autovacuum_naptime": "30s",
    # An OLTP server that keeps its cores for its clients; it also keeps the demo's load on a laptop predictable.
    "max_parallel_workers_per_gather": "0",
}


def _quiet(_text: str) -> None:
    """No progress wanted."""


class Demo:
    """A running demo. Everything in it is generated, and everything is gone with it.

    `operator_conninfo`, `approver_conninfo` and `monitor_conninfo` are the connection strings of the three logins;
    none has a password, because nobody else reaches the socket. `cluster` is the server, `scenario` its size.
    """

    def __init__(self, cluster: LocalCluster, size: Scenario, workload: subprocess.Popen[bytes]) -> None:
        self.cluster = cluster
        self.scenario = size
        self.operator_conninfo = cluster.conninfo(sample.DATABASE, "demo_operator")
        self.approver_conninfo = cluster.conninfo(sample.DATABASE, "demo_approver")
        self.monitor_conninfo = cluster.conninfo(sample.DATABASE, "demo_monitor")
        self._workload = workload

    @classmethod
    async def start(cls, scenario: str = "small", *, progress: Callable[[str], None] = _quiet) -> Demo:
        """Start the server, fill the shop, install the control schema, start the workload.

        `scenario` is small, medium or stress; `progress` gets one line of text a step.
        Raises UsageError for another scenario and LocalServerError when the server does not start or cannot be filled;
        nothing is left behind then.
        """
        size = find(scenario)
        progress("demo: starting a temporary PostgreSQL (this is a demo; all data in it is generated)")
        cluster = await LocalCluster.start("demo", settings=_SETTINGS)
        try:
            await _fill(cluster, size, progress)
            progress(f"demo: starting the live workload ({size.web_clients + size.batch_clients} clients)")
            workload = _start_workload(cluster, size)
            return cls(cluster, size, workload)
        except psycopg.Error as error:
            said = cluster.log_tail()
            await cluster.stop()
            raise LocalServerError(
                f"the demo's data could not be made: {error}\n{said}",
                remedy="free some disk space and memory, or take a smaller --scenario",
            ) from error
        except BaseException:
            await cluster.stop()
            raise

    @property
    def workload_pid(self) -> int:
        """The process id of the workload."""
        return self._workload.pid

    @property
    def workload_running(self) -> bool:
        """Is the workload's process still there?"""
        return self._workload.poll() is None

    @property
    def workload_log(self) -> Path:
        """Where the workload writes what went wrong in it; empty as long as nothing did."""
        return _log_of(self.cluster)

    async def stop(self) -> None:
        """End the workload, then the server, and remove its directory; idempotent. Raises LocalServerError."""
        try:
            await asyncio.shield(asyncio.to_thread(_end, self._workload))
        finally:
            await self.cluster.stop()

    async def __aenter__(self) -> Demo:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def _fill(cluster: LocalCluster, size: Scenario, progress: Callable[[str], None]) -> None:
    from indexpilot_tui.engine.journal.setup import setup_sql

    async with await AsyncConnection.connect(cluster.conninfo(), autocommit=True) as connection:
        await connection.execute(f"CREATE DATABASE {sample.DATABASE}".encode())
    conninfo = cluster.conninfo(sample.DATABASE)
    progress(f"demo: making a sample shop of {size.rows:,} generated rows")
    try:
        await sample.create(conninfo, size, progress)
    except BaseExceptionGroup as group:  # two connections load at once; one cause is enough to tell
        raise group.exceptions[0] from group
    progress("demo: installing the control schema")
    async with await AsyncConnection.connect(conninfo, autocommit=True) as connection:
        await connection.execute(setup_sql().encode())
        await connection.execute(load("indexpilot_tui.demo", "grants").encode())
        # Neither the load nor the set-up is what the operator came to see.
        await connection.execute(b"SELECT pg_stat_statements_reset()")


def _log_of(cluster: LocalCluster) -> Path:
    return cluster.directory / "workload.log"


def _start_workload(cluster: LocalCluster, size: Scenario) -> subprocess.Popen[bytes]:
    """A process in a session of its own; it ends when our end of its pipe closes, however that comes about."""
    order = {"conninfo": cluster.conninfo(sample.DATABASE, "shop_app"), "scenario": size.name}
    with open(_log_of(cluster), "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "indexpilot_tui.demo.workload"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
            cwd=Path(indexpilot_tui.__file__).parents[1],  # found there, whether installed or not
        )  # fmt: skip
    try:
        if process.stdin is not None:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
    except BrokenPipeError as error:
        _end(process)
        raise LocalServerError(
            "the demo's workload did not start", remedy=_log_of(cluster).read_text("utf-8", "replace")[-500:]
        ) from error
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None and not process.stdin.closed:
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            process.stdin.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

"""The backup gate: the archiver's word on a server that archives, fails to, or does not; or a metric's."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from indexpilot_tui.engine.model.verdict import Status
from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.engine.safeguards import backup
from indexpilot_tui.engine.safeguards.context import GateContext
from indexpilot_tui.engine.safeguards.gates import database_now
from indexpilot_tui.settings.model import Settings, Target
from tests.engine.gates_room import approved, configured, context, printing, refusing, verdict, workshop
from tests.faults.workshop import Workshop
from tests.servers import TlsServer

__all__ = ["workshop"]


def until(condition: Callable[[], bool]) -> None:
    for _ in range(100):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come about")


async def test_a_server_that_archives(tls_server: TlsServer) -> None:
    """Debian's 15 archives with /bin/true; then its command fails, and then it works again."""
    conninfo = tls_server.conninfo("admin")
    target = Target(name="t", environment="production", dsn=conninfo)
    session = await connect(target, Purpose.MONITOR, Settings())
    try:
        with tls_server.connect() as admin:

            def count(column: str) -> int:
                return int(admin.execute(f"select {column} from pg_stat_archiver".encode()).fetchone()[0])  # type: ignore[index, call-overload]

            admin.execute("create table if not exists x (); drop table x; select pg_switch_wal()")
            until(lambda: count("archived_count") > 0)
            first = GateContext(target=target, settings=Settings(), session=session, now=await database_now(session))

            async def now() -> GateContext:
                return replace(first, now=await database_now(session))

            v = await verdict(await now(), "backup")
            assert v.status is Status.PASS
            assert v.setting == "production_safeguards.backup.max_archive_age_seconds"
            time.sleep(0.1)
            late = configured(await now(), backup={"max_archive_age_seconds": 0.05})
            v = await verdict(late, "backup")
            assert v.status is Status.WAIT
            assert "archive_timeout" in v.evidence
            assert (await verdict(replace(late, rollback=True), "backup")).allows
            failed = count("failed_count")
            admin.execute("alter system set archive_command = '/bin/false'")
            admin.execute("select pg_reload_conf()")
            try:
                time.sleep(1.1)  # last_failed_time must be later than last_archived_time
                admin.execute("create table if not exists x (); drop table x; select pg_switch_wal()")
                until(lambda: count("failed_count") > failed)
                v = await verdict(await now(), "backup")
                assert (v.status, v.measured) == (Status.BLOCK, "failing")
            finally:
                archived = count("archived_count")
                admin.execute("alter system reset archive_command")
                admin.execute("select pg_reload_conf()")
            until(lambda: count("archived_count") > archived)
            assert (await verdict(await now(), "backup")).allows
    finally:
        await session.close()


async def test_without_an_archiver_production_changes_nothing(workshop: Workshop) -> None:
    ctx = await approved(workshop)
    room = {"target": {"disk_capacity_mb": 1e9, "cores": 1000}}
    refused = await refusing(configured(ctx, environment="production", **room))
    assert list(refused) == ["backup"]  # and nothing else
    assert "archive_mode is off" in refused["backup"].evidence
    assert list(await refusing(configured(ctx, environment="staging"))) == ["backup"]
    for environment in ("development", "demo"):
        assert await refusing(configured(ctx, environment=environment)) == {}
        assert list(await refusing(configured(ctx, environment=environment, backup={"enabled": True}))) == ["backup"]
    assert await refusing(configured(ctx, environment="production", backup={"enabled": False}, **room)) == {}


async def test_a_metric_proves_a_backup_instead(workshop: Workshop) -> None:
    ctx = await approved(workshop)
    proof = {"metric": "b.age_seconds", "max_backup_age_seconds": 100}
    for printed, status in (
        ('{"age_seconds": 100}', None), ('{"age_seconds": 100.1}', Status.WAIT), ('{"age_seconds": 0}', None),
        ('{"age_seconds": -1}', Status.UNKNOWN), ('{"age_seconds": null}', Status.UNKNOWN), ("{}", Status.UNKNOWN),
        ("5", Status.UNKNOWN), ("", Status.UNKNOWN),
    ):  # fmt: skip
        for environment in ("development", "production"):
            tried = configured(
                ctx,
                metrics={"b": printing(printed)},
                environment=environment,
                target={"disk_capacity_mb": 1e9, "cores": 1000},
                backup=proof,
            )
            refused = await refusing(tried)
            assert {k: v.status for k, v in refused.items()} == ({} if status is None else {"backup": status}), printed
    failing = configured(ctx, metrics={"b": {"command": ["false"]}}, backup=proof)
    assert (await verdict(failing, "backup")).status is Status.UNKNOWN


@pytest.mark.parametrize(("age", "allowed"), [(0, True), (3600, True), (3600.001, False)])
def test_the_edge_of_age(age: float, allowed: bool) -> None:
    assert backup.judge(age, 3600, "archive", "x").allows is allowed


async def test_what_the_archiver_does_not_tell_is_unknown(workshop: Workshop) -> None:
    ctx = configured(await context(workshop), backup={"enabled": True})
    await workshop.monitor.close()
    assert (await verdict(ctx, "backup")).status is Status.UNKNOWN

"""Family 12: no room. Refused in advance where room can be measured; where it cannot, or others were faster, the build fails,
its leftover goes, and the advice says what a full disk can still do."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.model.change import State
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from indexpilot_tui.settings.validated import plain, validated
from tests.faults import oracle
from tests.faults.scenes import refused
from tests.faults.workshop import OPERATOR, OWNER, Workshop, actions, check_intents, story
from tests.servers import require

MB = 3
DDL = "create index big on app.t (w) tablespace small"
FREE = """df -B1 --output=avail,size "$1" | tail -1 | { read free total; printf '{"free_bytes": %s, "total_bytes": %s}' "$free" "$total"; }"""


@pytest.fixture
def volume(cluster18: LocalCluster) -> Iterator[Path]:
    """A volume of 3 MB with a tablespace on it."""
    require(os.geteuid() == 0, "root, to mount a small volume,")
    folder = Path(tempfile.mkdtemp(prefix="ixp-small-"))
    options = f"size={MB}m,uid={cluster18.owner_uid},gid={cluster18.owner_gid},mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        with psycopg.connect(cluster18.conninfo(), autocommit=True) as conn:
            conn.execute(f"create tablespace small location '{folder}'".encode())
            yield folder
            conn.execute("drop tablespace small")
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


@pytest.fixture
def roomy(volume: Path, workshop: Workshop) -> Iterator[Workshop]:
    """A workshop whose table's text column needs an index larger than the volume. What lies there goes before it does."""
    workshop.sql(f"grant create on tablespace small to {OWNER}, {OPERATOR}")
    workshop.sql("insert into app.t select i, i % 1000, md5(i::text) from generate_series(20001, 90000) i; analyze app.t")
    workshop.sql("select pg_stat_statements_reset()")  # texts of other tests must not fill what is meant for the build
    yield workshop
    if workshop.traffic_of is not None:
        workshop.traffic_of.stop()
    workshop.sql("drop table app.t cascade")
    workshop.not_asked = oracle.ALREADY


def with_metric(workshop: Workshop, volume: Path) -> None:
    data: dict[str, Any] = plain(workshop.settings)
    data["metrics"] = {
        "small": {"command": ["sh", "-c", FREE, "sh", str(volume)], "max_age_seconds": 0},
        "host": {"command": ["sh", "-c", FREE, "sh", "/"], "max_age_seconds": 0},
    }
    data["production_safeguards"]["disk"] |= {"metric": "host", "tablespace_metrics": {"small": "small"}}
    workshop.settings = validated(Settings, data)


async def failed_cleanly(workshop: Workshop, sqlstate: str) -> str:
    change_id = await workshop.approved(DDL)
    await workshop.spawn(change_id)
    change = await workshop.until(change_id, State.FAILED, seconds=40)
    assert sqlstate in change.outcome, story(change)
    assert "clean.intent" in actions(change)
    assert workshop.invalid() == []
    check_intents(change)
    await oracle.hold(workshop)
    return change.outcome


@pytest.mark.family(12)
async def test_a_volume_that_is_too_small_is_seen_before(roomy: Workshop, volume: Path) -> None:
    with_metric(roomy, volume)
    change_id = await roomy.approved(DDL)
    await roomy.spawn(change_id)
    change = await refused(roomy, change_id)
    assert change.state is State.APPROVED
    assert "disk.tablespace block" in str(change.events[-1].detail["outcome"])
    assert oracle.deeds(roomy) == []
    await oracle.hold(roomy)


@pytest.mark.family(12)
async def test_a_volume_that_fills_up_in_mid_build(roomy: Workshop, volume: Path) -> None:
    """Nobody measured. The half-built file gives its room back, and the advice names the crash that could still come."""
    outcome = await failed_cleanly(roomy, "53100")
    assert "CHECKPOINT" in outcome
    roomy.sql("checkpoint")  # as advised: a dropped file is kept, at no size, until then
    stat = os.statvfs(volume)
    assert stat.f_bavail * stat.f_frsize > 0.9 * MB * 1e6


@pytest.mark.family(12)
async def test_temporary_files_beyond_their_limit(roomy: Workshop) -> None:
    roomy.sql(f"alter role {OPERATOR} in database {roomy.dbname} set temp_file_limit = '500kB'")
    roomy.sql(f"alter role {OPERATOR} in database {roomy.dbname} set maintenance_work_mem = '1MB'")
    assert "temp_file_limit" in await failed_cleanly(roomy, "53400")


@pytest.mark.family(12)
async def test_temporary_files_that_fill_their_volume(roomy: Workshop) -> None:
    roomy.sql(f"alter role {OPERATOR} in database {roomy.dbname} set temp_tablespaces = 'small'")
    roomy.sql(f"alter role {OPERATOR} in database {roomy.dbname} set maintenance_work_mem = '1MB'")
    await failed_cleanly(roomy, "53100")

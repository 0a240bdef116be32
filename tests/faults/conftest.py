"""The workshop of the fault tests. Copies of the log go to a directory of the test, not to the user's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from indexpilot_tui.localpg import LocalCluster
from tests.faults.workshop import Workshop, make_workshop


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(params=[15, 18])
def either_cluster(request: pytest.FixtureRequest) -> LocalCluster:
    cluster: LocalCluster = request.getfixturevalue(f"cluster{request.param}")
    return cluster


@pytest.fixture
async def either(either_cluster: LocalCluster) -> AsyncIterator[Workshop]:
    """A workshop on 15 and one on 18, where the two may differ."""
    async with make_workshop(either_cluster) as made:
        yield made


@pytest.fixture
async def workshop(cluster18: LocalCluster) -> AsyncIterator[Workshop]:
    async with make_workshop(cluster18) as made:
        yield made

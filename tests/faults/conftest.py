"""The workshop of the fault tests. Copies of the log go to a directory of the test, not to the user's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from indexpilot_tui.localpg import LocalCluster
from tests.faults import oracle
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


@pytest.fixture(autouse=True)
def _case(request: pytest.FixtureRequest) -> Iterator[oracle.Case]:
    """What the oracle says in this test goes into the report; a fault test in which nobody asked it is no fault test."""
    with oracle.case(request.node) as case:
        yield case
    mark = request.node.get_closest_marker("family")
    if mark is not None and not case.said and not mark.kwargs.get("no_oracle"):
        pytest.fail(
            "no workshop was closed in this test, so the oracle was never asked: say why with no_oracle=", pytrace=False
        )


@pytest.fixture
async def workshop(cluster18: LocalCluster) -> AsyncIterator[Workshop]:
    async with make_workshop(cluster18) as made:
        yield made

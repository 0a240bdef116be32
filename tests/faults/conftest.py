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


@pytest.fixture
async def workshop(cluster18: LocalCluster) -> AsyncIterator[Workshop]:
    async with make_workshop(cluster18) as made:
        yield made

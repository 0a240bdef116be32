"""A terminal that looks the same everywhere, before Textual reads the environment at import."""

from __future__ import annotations

import os

import pytest

for _name in ("TEXTUAL_THEME", "NO_COLOR", "COLORTERM", "TEXTUAL_COLOR_SYSTEM"):
    os.environ.pop(_name, None)


@pytest.fixture(autouse=True)
def _same_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from textual.widgets import Input

    for name in ("TEXTUAL_THEME", "NO_COLOR", "COLORTERM", "TEXTUAL_COLOR_SYSTEM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Input, "_toggle_cursor", lambda self: None)

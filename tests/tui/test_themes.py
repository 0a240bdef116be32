"""Themes are checked when they are read, and are readable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from indexpilot_tui.settings.model import Settings, Tui
from indexpilot_tui.tui.app import ConsoleApp
from indexpilot_tui.tui.theme_files import load_themes
from indexpilot_tui.tui.themes import ENVIRONMENTS, contrast
from tests.tui.frozen import FrozenEngine

AA = 4.5  # WCAG 2.1, success criterion 1.4.3, text of normal size
SHIPPED = load_themes().themes


def test_both_are_shipped_and_sound() -> None:
    assert set(SHIPPED) >= {"indexpilot-dark", "indexpilot-light"}
    assert load_themes().refused == ()


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("ground", ["background", "surface", "cursor"])
@pytest.mark.parametrize("ink", ["foreground", "dim", "ok", "warn", "crit", "head", "accent"])
def test_text_meets_aa(name: str, ground: str, ink: str) -> None:
    theme = SHIPPED[name]
    assert contrast(getattr(theme, ink), getattr(theme, ground)) >= AA


@pytest.mark.parametrize("name", SHIPPED)
def test_badges_meet_aa_and_production_looks_different(name: str) -> None:
    theme = SHIPPED[name]
    grounds = {env: getattr(theme, f"frame_{env}") for env in ENVIRONMENTS}
    assert all(contrast(theme.frame_text, ground) >= AA for ground in grounds.values())
    assert len(set(grounds.values())) == len(ENVIRONMENTS)


def test_contrast_of_known_pairs() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_a_bad_file_is_reported_and_the_others_are_used(tmp_path: Path) -> None:
    good = (Path(__file__).parents[2] / "themes" / "indexpilot-dark.yaml").read_text()
    (tmp_path / "a.yaml").write_text(good.replace("indexpilot-dark", "mine").replace('"#5aa9e6"', '"#112233"'))
    (tmp_path / "b.yaml").write_text(good.replace('"#5aa9e6"', '"blurple"'))
    (tmp_path / "c.yaml").write_text("{[")
    (tmp_path / "d.yaml").write_text(good + "\nfrobnicate: 1\n")
    (tmp_path / "e.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "f.yaml").write_text("name: 2020-99-99")
    (tmp_path / "g.yaml").write_text("- dark")
    os.mkfifo(tmp_path / "h.yaml")
    (tmp_path / "i.yaml").symlink_to("nowhere")
    loaded = load_themes(tmp_path)
    assert loaded.themes["mine"].primary == "#112233"
    assert [text.split(":")[0] for text in loaded.refused] == [f"theme {n}.yaml" for n in "bcdefghi"]
    assert "primary" in loaded.refused[0]
    assert loaded.refused[2].endswith("frobnicate: there is no such key")
    assert loaded.refused[5].endswith("file: must hold keys and values")


async def test_an_unknown_theme_falls_back_and_says_so() -> None:
    async def open_engine(_: object) -> FrozenEngine:
        return FrozenEngine()

    app = ConsoleApp(open_engine, settings=Settings(tui=Tui(theme="nope")), target_label="x")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause(0.2)
        assert app.theme == "indexpilot-dark"
        assert any("'nope' is not there" in note.text for note in app.shown.notes)

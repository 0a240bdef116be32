"""Themes from YAML files: checked when they are read, so that a wrong colour is a message and not a crash later."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import yaml

from indexpilot_tui.settings.validated import ValidationError, validated, what_is_wrong
from indexpilot_tui.tui.themes import ThemeFile, ThemeSet


def load_themes(user_folder: Path | None = None) -> ThemeSet:
    """The themes that come with the package, then those of the operator's folder, which may replace them.

    A file that cannot be used is reported in `refused` and never stops the console.
    """
    themes: dict[str, ThemeFile] = {}
    refused: list[str] = []
    for label, text in _sources(user_folder, refused):
        try:
            theme = validated(ThemeFile, yaml.safe_load(text))
        except ValidationError as exc:
            faults = "; ".join(
                f"{'.'.join(map(str, e['loc'])) or 'file'}: {what_is_wrong(e['type'], e['msg'])}" for e in exc.errors()
            )
            refused.append(f"theme {label}: {faults}")
        except (yaml.YAMLError, ValueError, RecursionError) as exc:  # a date that is none; brackets without end
            refused.append(f"theme {label}: not YAML ({' '.join(str(exc).split())})")
        else:
            themes[theme.name] = theme
    return ThemeSet(themes, tuple(refused))


def _sources(user_folder: Path | None, refused: list[str]) -> Iterator[tuple[str, str]]:
    packaged = files("indexpilot_tui").joinpath("themes")
    if not packaged.is_dir():  # a source tree: the folder is beside the package
        packaged = Path(__file__).resolve().parents[2] / "themes"
    folders = [packaged] + ([user_folder] if user_folder is not None else [])
    for folder in folders:
        if not folder.is_dir():
            refused.append(f"theme folder {folder}: does not exist")
            continue
        try:
            entries = sorted(folder.iterdir(), key=lambda item: item.name)
        except OSError as exc:
            refused.append(f"theme folder {folder}: {exc.strerror}")
            continue
        for entry in entries:
            if not entry.name.endswith((".yaml", ".yml")):
                continue
            if not entry.is_file():  # a pipe would hold us for ever
                refused.append(f"theme {entry.name}: there is no file behind the name")
                continue
            try:
                yield entry.name, entry.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as exc:
                refused.append(f"theme {entry.name}: {exc}")

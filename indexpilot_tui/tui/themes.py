"""What a theme is: colours for the parts of the screen, each checked when its file is read (`theme_files`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from indexpilot_tui.settings.section import Check, section

if TYPE_CHECKING:
    from textual.theme import Theme

ENVIRONMENTS = ("production", "staging", "development", "demo")
_OWN = ("ok", "warn", "crit", "dim", "head", "cursor", "frame_text", *(f"frame_{name}" for name in ENVIRONMENTS))


def _known_color(value: str) -> str:
    from textual.color import Color, ColorParseError

    try:
        color = Color.parse(value)
    except ColorParseError as exc:
        raise ValueError(f"{value!r} is not a colour; write #rrggbb") from exc
    if color.a != 1:
        raise ValueError(f"{value!r} is translucent; text on it would have no known contrast")
    return str(color.hex)


def _known_name(value: str) -> str:
    if not value.replace("-", "").isalnum():
        raise ValueError(f"{value!r} is not a theme name; letters, digits and hyphens only")
    return value


Colour = Annotated[str, Check(_known_color)]


@section
class ThemeFile:
    """One file. `ok`, `warn`, `crit`, `dim` and `head` are text colours; `frame_*` is the ground of the badge and the colour
    of the frames in that environment, `frame_text` the text on it; `cursor` is the ground of the selected row."""

    name: Annotated[str, Check(_known_name)]
    dark: bool
    primary: Colour
    secondary: Colour
    accent: Colour
    foreground: Colour
    background: Colour
    surface: Colour
    panel: Colour
    success: Colour
    warning: Colour
    error: Colour
    ok: Colour
    warn: Colour
    crit: Colour
    dim: Colour
    head: Colour
    cursor: Colour
    frame_text: Colour
    frame_production: Colour
    frame_staging: Colour
    frame_development: Colour
    frame_demo: Colour

    def to_textual(self) -> Theme:
        """As Textual wants it; our own colours become the CSS variables `$ip-...`."""
        from textual.theme import Theme

        return Theme(
            name=self.name,
            dark=self.dark,
            primary=self.primary,
            secondary=self.secondary,
            accent=self.accent,
            foreground=self.foreground,
            background=self.background,
            surface=self.surface,
            panel=self.panel,
            success=self.success,
            warning=self.warning,
            error=self.error,
            text_alpha=1.0,
            variables=self.variables(),
        )

    def variables(self) -> dict[str, str]:
        """Name to colour of the CSS variables that Textual does not know."""
        return {f"ip-{key.replace('_', '-')}": getattr(self, key) for key in _OWN}


@dataclass(frozen=True, slots=True)
class ThemeSet:
    """What was loaded (by name) and one line for every file that was refused."""

    themes: dict[str, ThemeFile]
    refused: tuple[str, ...]


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two #rrggbb colours, 1..21: (L1 + 0.05) / (L2 + 0.05) of WCAG 2.1, success criterion 1.4.3."""
    high, low = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    """Relative luminance, 0..1 (WCAG 2.1, definition "relative luminance")."""
    value = colour.lstrip("#")
    channels = [int(value[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

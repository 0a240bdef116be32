"""What hangs on an index that is to go, in words: said before anything else, because a drop is not undone by a cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.lines import Line, bullets, line, rule

if TYPE_CHECKING:
    from indexpilot_tui.engine.whatif.drop_model import DropForecast, ServedKey

_LEVELS = {
    "refused": ("crit", "PostgreSQL refuses this drop"),
    "breaks": ("crit", "something stops working"),
    "slower": ("warn", "something gets dearer"),
    "unknown": ("warn", "nothing was found, but not everything could be looked at"),
    "none": ("ok", "nothing hangs on it"),
}


def drop_level(drop: DropForecast) -> Line:
    """The worst that was found, in a few words."""
    tone, words = _LEVELS.get(drop.level, ("crit", ""))
    return line((f"{words} ({drop.level.upper()})", tone))


def drop_lines(drop: DropForecast, width: int) -> list[Line]:
    """The worst first, then everything that would change, then what it takes to have the index back."""
    out: list[Line] = [rule("what hangs on it", width), drop_level(drop)]
    out += bullets((f"refused: {text}" for text in drop.refused), width, "crit")
    out += bullets((f"breaks: {text}" for text in drop.breaks), width, "crit")
    out += bullets(map(_key, drop.served_keys), width, "warn")
    out += bullets((f"not known: {text}" for text in drop.unknown), width, "warn")
    if drop.clustered:
        out += bullets(["the table was clustered on it: CLUSTER without USING fails after the drop"], width, "warn")
    usage = drop.usage
    window = "since an unknown time" if usage.window_s is None else f"in {fmt.seconds(usage.window_s)}"
    last = f", the last at {usage.last_scan}" if usage.last_scan else ""
    out += bullets([f"{fmt.count(usage.scans)} scans on this node {window}{last}; {drop.standbys.detail}"], width, "dim")
    if (back := drop.rebuild) is not None:
        cost = f"{fmt.size(back.size_bytes)}, {fmt.span(*back.build_seconds)}, WAL {fmt.size(back.wal_bytes)}"
        out += bullets([f"to have it back: {cost}"], width, "dim")
    return out


def _key(key: ServedKey) -> str:
    seen = "not known how many were" if key.parent_deleted is None else f"{key.parent_deleted:,} were"
    return f"foreign key {key.name}: each DELETE on {key.parent} would read the whole table ({seen} seen)"

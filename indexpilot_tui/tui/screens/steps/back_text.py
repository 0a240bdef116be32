"""The way back in words and figures: what stands against it, the rehearsal, the cost, what was saved, steps and proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexpilot_tui.engine.model.wayback import DIFFERS, HELD
from indexpilot_tui.engine.postgres.text import clean, clean_line
from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.lines import Line, line, rule, wrap

if TYPE_CHECKING:
    from indexpilot_tui.engine.model.wayback import Cost, Rehearsal, WayBack

TONES = {HELD: "ok", DIFFERS: "crit"}
_DEED = {
    "drop": "the index is dropped again",
    "create": "the index is built again as it was",
    "none": "there is no way back, and none is needed",
}
_LABEL = 20


def way_back_lines(back: WayBack, rehearsing: str, width: int) -> list[Line]:
    """Everything that an operator wants to know before the name is typed, the most telling first. `rehearsing`: what the
    rehearsal that runs now says of itself, empty when none does."""
    out: list[Line] = [line((_DEED[back.kind].capitalize(), "bold"), (f"  way back from change #{back.change_id}", "dim"))]
    if back.why_not:
        out += wrap(f"not now: {clean_line(back.why_not)}", width, "crit")
    if back.kind != "none":
        out += wrap(clean_line(back.covered), width)
    if back.proposed is not None:
        out.append(line((f"proposed already as change #{back.proposed}", "warn")))
    out += [rule("rehearsal on the shadow", width), *_rehearsal(back.rehearsal, rehearsing, width)]
    if back.kind == "none":
        return [*out, rule("evidence of before and after", width), *_pairs(back.saved, width)]
    out += [rule("what it costs", width), *_cost(back, width)]
    out.append(rule("statements", width))
    for text in back.statements:
        out += wrap(clean_line(text), width, "bold")
    out += [rule("steps", width), *_numbered(back.steps, width)]
    out += [rule("proof that is asked afterwards", width), *_numbered(back.proof, width)]
    return [*out, rule("saved before the deed", width), *_pairs(back.saved, width)]


def _rehearsal(told: Rehearsal | None, rehearsing: str, width: int) -> list[Line]:
    if rehearsing:
        return [line((rehearsing, "accent"))]
    if told is None:
        return [line(("not rehearsed yet", "warn"), ("  h carries it out on a copy of the table's definitions", "dim"))]
    count = len(told.differences)
    short = f"does not hold: {count} difference{'s' if count != 1 else ''}"
    out = wrap(short if told.result == DIFFERS else clean_line(told.sentence), width, TONES.get(told.result, "warn"))
    if told.at is not None:
        took = sum(ms for _, ms in told.statements)
        words = f"by {clean_line(told.by)} at {fmt.clock(told.at, with_date=True)}, {len(told.statements)} statements"
        out.append(line((f"{words} in {took:.0f} ms", "dim")))
    for difference in told.differences:
        out += wrap(f"not as before: {clean_line(difference)}", width, "crit")
    return out


def _cost(back: WayBack, width: int) -> list[Line]:
    cost: Cost | None = back.cost
    if cost is None:
        frees = f"; it frees {fmt.size(back.frees_bytes)}" if back.frees_bytes is not None else ""
        return [line(f"nothing is built{frees}")]
    took = "time not known" if cost.seconds is None else fmt.span(*cost.seconds)
    return [
        line(("index ", "dim"), (fmt.size(cost.size_bytes), "bold"), ("   build ", "dim"), (took, "bold"),
             ("   WAL ", "dim"), fmt.size(cost.wal_bytes), ("   temp ", "dim"), fmt.size(cost.temp_bytes)),
        *wrap(f"by {clean_line(cost.basis)}", width, "dim"),
    ]  # fmt: skip


def _numbered(texts: tuple[str, ...], width: int) -> list[Line]:
    out: list[Line] = []
    for number, text in enumerate(texts, 1):
        first, *rest = wrap(clean_line(text), max(20, width - 4))
        out.append(line((f"{number:>2}  ", "dim"), *first))
        out += [line("    ", *more) for more in rest]
    return out


def _pairs(pairs: tuple[tuple[str, str], ...], width: int) -> list[Line]:
    out: list[Line] = []
    for label, value in pairs:
        first, *rest = wrap(clean(value), max(20, width - _LABEL)) or [()]
        out.append(line((f"{label:<{_LABEL}}", "dim"), *first))
        out += [line(" " * _LABEL, *more) for more in rest]
    return out

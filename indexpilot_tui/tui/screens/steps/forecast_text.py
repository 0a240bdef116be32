"""A forecast in words and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.lines import Line, bullets, line, rule, wrap
from indexpilot_tui.tui.plandiff import plan_lines
from indexpilot_tui.tui.screens.steps.drop_text import drop_lines
from indexpilot_tui.tui.statement import in_one_line

if TYPE_CHECKING:
    from indexpilot_tui.engine.whatif.model import Forecast, QueryForecast

_LEVELS = {"high": "ok", "medium": "warn", "low": "crit"}


def ranked(forecast: Forecast) -> list[QueryForecast]:
    """The statements by what the change does to them, weighted by calls, greatest effect first."""
    return sorted(forecast.queries, key=lambda q: (-abs(q.cost_before - q.cost_after) * q.calls, q.queryid))


def _tone(before: float, after: float) -> str:
    if after < before * 0.99:
        return "ok"
    return "crit" if after > before * 1.01 else "dim"


def forecast_lines(forecast: Forecast, width: int, chosen: int) -> list[Line]:
    """Everything a forecast says, folded to `width`; the plans are those of statement number `chosen`.

    What it does comes before why it is believed: on a small screen the first lines are all that is seen.
    """
    queries = ranked(forecast)
    out = _summary(forecast, width)
    if forecast.drop is not None:
        out += drop_lines(forecast.drop, width)
    out.append(rule(f"statements · {len(queries)} planned, {len(forecast.left_out)} not", width))
    out += _query_lines(queries, width, chosen)
    if queries:
        query = queries[chosen % len(queries)]
        out.append(rule(f"plan of {chosen % len(queries) + 1}: − leaves, + comes (p: next)", width))
        out += plan_lines(query.plan_before, query.plan_after, width)
        out += point_lines(query, width)
    out += _grounds(forecast, width)
    if forecast.left_out:
        out.append(rule("could not be planned", width))
        out += bullets((f"{x.query}: {x.reason}" for x in forecast.left_out), width, "dim")
    return out


def point_lines(query: QueryForecast, width: int) -> list[Line]:
    """What a statement with parameters costs with constants in their place."""
    if not query.points:
        return []
    out: list[Line] = [rule("its cost with constants in place of parameters", width)]
    for point in query.points:
        figures = f"{fmt.rate(point.cost_before)} → {fmt.rate(point.cost_after)}"
        used = ", index used" if point.uses_index else ""
        tone = _tone(point.cost_before, point.cost_after)
        out += wrap(f"{figures}{used}  {point.label}", width, tone)
    return out


def _grounds(forecast: Forecast, width: int) -> list[Line]:
    """Why it is believed as far as it is, and where it comes from."""
    out: list[Line] = [rule(f"why the confidence is {forecast.confidence.level.upper()}", width)]
    out += bullets(forecast.confidence.reasons, width, "plain")
    if forecast.index.basis:
        out += bullets([f"build time, WAL and temporary files: {forecast.index.basis}"], width, "dim")
    out += bullets(forecast.notes, width, "dim")
    source = f"{forecast.backend} planner, PostgreSQL {fmt.version(forecast.planner_version)}; read "
    source += f"{forecast.read_statements} statements in {forecast.read_ms:.0f} ms on the target, "
    return out + wrap(source + f"{forecast.elapsed_ms:.0f} ms in all. Estimated, not measured.", width, "dim")


def _summary(forecast: Forecast, width: int) -> list[Line]:
    before, after = forecast.cost_before, forecast.cost_after
    index, writes = forecast.index, forecast.writes
    out: list[Line] = [
        line(
            ("workload cost ", "dim"),
            (f"{fmt.count(before)} → {fmt.count(after)}  {fmt.change_pct(before, after)}", _tone(before, after)),
            ("   confidence ", "dim"),
            (forecast.confidence.level.upper(), _LEVELS.get(forecast.confidence.level, "warn")),
            ("   estimated", "dim"),
        ),
        line(
            ("index ", "dim"),
            fmt.size(index.size_bytes),
            ("   build ", "dim"),
            fmt.span(*index.build_seconds),
            ("   WAL ", "dim"),
            fmt.size(index.wal_bytes),
            ("   temp ", "dim"),
            fmt.size(index.temp_bytes),
        ),
    ]
    lost = "not measured" if writes.hot_lost_pct is None else f"{writes.hot_lost_pct:.0f} % of HOT updates lost"
    extra = writes.extra_wal_bytes_per_write
    wal = "" if extra is None else f", {'+' if extra >= 0 else '−'}{fmt.size(abs(extra))} WAL a write"
    out.append(line(("writes ", "dim"), lost + wal))
    if forecast.redundant:
        out += bullets((f"becomes redundant: {name}" for name in forecast.redundant), width, "warn")
    return out


def _query_lines(queries: list[QueryForecast], width: int, chosen: int) -> list[Line]:
    if not queries:
        return [line(("no statement of the workload touches this table", "warn"))]
    figure, share, use = (12, 8, "  uses   ") if width >= 100 else (9, 6, " uses  ")
    titles = f"      {'calls':>{figure - 3}} {'before':>{figure}} {'after':>{figure}} {'change':>{share}}"
    titles += " index".ljust(len(use))
    out: list[Line] = [line((f"{titles}statement", "dim"))]
    for number, query in enumerate(queries):
        here = number == chosen % len(queries)
        effect = fmt.change_pct(query.cost_before, query.cost_after)
        tone = _tone(query.cost_before, query.cost_after)
        head = f"{number + 1:3d} {fmt.count(query.calls):>{figure - 3}} {fmt.rate(query.cost_before):>{figure}} "
        head += f"{fmt.rate(query.cost_after):>{figure}} "
        uses = use if query.uses_index else use.replace("uses", "–   ")
        rest = max(4, width - len(head) - 2 - share - len(uses))
        out.append(
            line(
                ("▶ " if here else "  ", "accent"), head, (f"{effect:>{share}}", tone), (uses, tone),
                in_one_line(query.query, rest),
            )
        )  # fmt: skip
    return out

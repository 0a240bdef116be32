"""A forecast in words and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.lines import Line, bullets, elide, line, rule, wrap
from indexpilot_tui.tui.plandiff import plan_lines

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
    """Everything a forecast says, folded to `width`; the plans are those of statement number `chosen`."""
    queries = ranked(forecast)
    out = _summary(forecast, width)
    out.append(rule(f"statements · {len(queries)} planned, {len(forecast.left_out)} not", width))
    out += _query_lines(queries, width, chosen)
    if queries:
        query = queries[chosen % len(queries)]
        out.append(rule(f"plan of {chosen % len(queries) + 1}: − leaves, + comes (p: next)", width))
        out += plan_lines(query.plan_before, query.plan_after, width)
    if forecast.left_out:
        out.append(rule("could not be planned", width))
        out += bullets((f"{x.query}: {x.reason}" for x in forecast.left_out), width, "dim")
    return out


def _summary(forecast: Forecast, width: int) -> list[Line]:
    before, after = forecast.cost_before, forecast.cost_after
    index, writes = forecast.index, forecast.writes
    server = fmt.version(forecast.planner_version)
    out: list[Line] = [
        line(
            ("workload cost ", "dim"),
            (f"{fmt.count(before)} → {fmt.count(after)}  {fmt.change_pct(before, after)}", _tone(before, after)),
            ("   confidence ", "dim"),
            (forecast.confidence.level.upper(), _LEVELS.get(forecast.confidence.level, "warn")),
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
    out += bullets(forecast.confidence.reasons, width, "plain")
    out += bullets(forecast.notes, width, "dim")
    source = f"{forecast.backend} planner, PostgreSQL {server}; read {forecast.read_statements} statements "
    source += f"in {forecast.read_ms:.0f} ms on the target, {forecast.elapsed_ms:.0f} ms in all. Estimated, not measured."
    out += wrap(source, width, "dim")
    return out


def _query_lines(queries: list[QueryForecast], width: int, chosen: int) -> list[Line]:
    if not queries:
        return [line(("no statement of the workload touches this table", "warn"))]
    titles = f"      {'calls':>9} {'cost before':>12} {'after':>12} {'change':>8}  index  statement"
    out: list[Line] = [line((titles, "dim"))]
    for number, query in enumerate(queries):
        here = number == chosen % len(queries)
        effect = fmt.change_pct(query.cost_before, query.cost_after)
        tone = _tone(query.cost_before, query.cost_after)
        head = f"{number + 1:3d} {fmt.count(query.calls):>9} {fmt.rate(query.cost_before):>12} "
        head += f"{fmt.rate(query.cost_after):>12} "
        uses = "  uses   " if query.uses_index else "  –      "
        rest = max(4, width - len(head) - 2 - 8 - len(uses))
        out.append(
            line(("▶ " if here else "  ", "accent"), head, (f"{effect:>8}", tone), (uses, tone), elide(query.query, rest))
        )
    return out

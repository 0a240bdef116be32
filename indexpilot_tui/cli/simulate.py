"""`indexpilot simulate DDL [TARGET]`: forecast one change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from indexpilot_tui.cli.options import Common, bundle_option, common_options
from indexpilot_tui.cli.running import engine_of, print_json, run_async
from indexpilot_tui.errors import OK

if TYPE_CHECKING:
    from indexpilot_tui.engine.whatif.drop_model import DropForecast
    from indexpilot_tui.engine.whatif.model import Forecast

UNCHANGED_SHOWN = 10  # statements that the change does not touch
_WORKLOAD = "SQL statements ended by ';', or a JSON list of {query, calls}; else pg_stat_statements."


@click.command()
@click.argument("ddl")
@click.argument("target", required=False)
@click.option("--workload", type=click.Path(path_type=Path, dir_okay=False), help=_WORKLOAD)
@click.option(
    "--backend",
    type=click.Choice(["auto", "shadow", "hypopg"]),
    default="auto",
    show_default=True,
    help="auto: the shadow, and where none can be started HypoPG if the target has it.",
)
@click.option("--plans", is_flag=True, help="Show how the plans of the statements change, as trees.")
@click.option("--cross-check", is_flag=True, help="Ask HypoPG on the target too, and say how far it is off.")
@common_options
@bundle_option
def simulate(
    ddl: str, target: str | None, workload: Path | None, backend: str, plans: bool, cross_check: bool, common: Common
) -> int:
    """Forecast one CREATE or DROP INDEX from the statistics of TARGET: nothing is installed, locked or written there."""
    return run_async(_simulate(ddl, target, workload, common, backend=backend, plans=plans, cross_check=cross_check))


async def _simulate(
    ddl: str, target: str | None, workload: Path | None, common: Common, *, backend: str, plans: bool, cross_check: bool
) -> int:
    from indexpilot_tui.engine.postgres.ddl import parse_index_statement

    parse_index_statement(ddl)  # a mistyped statement is told before a server is bothered
    statements = None
    if workload is not None:
        from indexpilot_tui.engine.whatif.workload import read_workload_file

        statements = read_workload_file(workload)
    async with engine_of(common, common.settings(), target) as engine:
        forecast = await engine.simulate(ddl, statements, backend=backend, cross_check=cross_check)
    if common.json:
        print_json(forecast.to_json())
    else:
        for line in [*forecast_lines(forecast), *(plan_lines(forecast) if plans else [])]:
            click.echo(line)
    return OK


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1024 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def plan_lines(forecast: Forecast) -> list[str]:
    """The plans that change, as trees: `-` leaves, `+` enters."""
    from indexpilot_tui.engine.whatif.tree_diff import text_lines

    lines: list[str] = []
    for q in forecast.queries:
        if q.plan_before != q.plan_after:
            lines += ["", f"  {q.queryid}: {q.query[:100]}", *(f"    {x}" for x in text_lines(q.plan_before, q.plan_after))]
    return lines or ["", "  no plan changes"]


def forecast_lines(forecast: Forecast) -> list[str]:
    """A forecast for a person: what changes, what it costs, how sure it is."""
    lines = [
        f"{forecast.kind} {forecast.name} on {forecast.table}",
        f"  {forecast.ddl}",
        "",
        f"  {'cost before':>14} {'after':>14} {'change':>8}  {'calls':>9}  index  query",
    ]
    changed = sorted(forecast.queries, key=lambda q: (q.cost_after - q.cost_before) * q.calls)
    same = [q for q in changed if q.cost_after == q.cost_before and not q.uses_index and not q.points]
    hidden = {q.queryid for q in same[UNCHANGED_SHOWN:]}
    for q in changed:
        if q.queryid in hidden:
            continue
        change = f"{(q.cost_after / q.cost_before - 1) * 100:+.1f} %" if q.cost_before else "-"
        lines.append(
            f"  {q.cost_before:>14,.2f} {q.cost_after:>14,.2f} {change:>8}  {q.calls:>9,.0f}  "
            f"{'yes' if q.uses_index else 'no':<5}  {q.query[:80]}"
        )
        if q.points:
            (low, high), (least, most) = q.range_before, q.range_after
            at = ", ".join(p.kind for p in q.points if p.uses_index) or "no"
            lines.append(
                f"  {f'{low:,.2f} to {high:,.2f}':>29} -> {least:,.2f} to {most:,.2f} with constants for its parameters; "
                f"the index is used at {at} values"
            )
    if hidden:
        lines.append(f"  and {len(hidden)} statements that stay as they are (--json has them)")
    before, after = forecast.cost_before, forecast.cost_after
    share = f" ({(after / before - 1) * 100:+.1f} %)" if before else ""
    low, high = forecast.index.build_seconds
    hot = "not measured" if forecast.writes.hot_lost_pct is None else f"{forecast.writes.hot_lost_pct:.1f} %"
    wal = forecast.writes.extra_wal_bytes_per_write
    lines += [
        "",
        f"  workload (cost x calls): {before:,.0f} -> {after:,.0f}{share}",
        f"  index: {_bytes(forecast.index.size_bytes)}, build {low:.1f} to {high:.1f} s, "
        f"WAL {_bytes(forecast.index.wal_bytes)}, temporary files {_bytes(forecast.index.temp_bytes)} (all estimated)",
        *([f"    on {forecast.index.basis}"] if forecast.index.basis else []),
        f"  writes: HOT updates lost {hot}, extra WAL a write {'not measured' if wal is None else f'{wal:.0f} B'}",
    ]
    if forecast.drop is not None:
        lines += drop_lines(forecast.drop)
    lines += [f"  not needed: {name} answers the same searches" for name in forecast.covered_by]
    lines += [f"  would become redundant: {name}" for name in forecast.redundant]
    lines += [f"  left out: {x.query[:70]}: {x.reason}" for x in forecast.left_out]
    lines += [f"  confidence: {forecast.confidence.level}", *(f"    - {r}" for r in forecast.confidence.reasons)]
    lines += [f"  note: {note}" for note in forecast.notes]
    lines.append(
        f"  read from the target: {forecast.read_statements} statements, {forecast.read_ms:.0f} ms; "
        f"answered by {forecast.backend} (planner of PostgreSQL {forecast.planner_version // 10_000}) "
        f"in {forecast.elapsed_ms:.0f} ms"
    )
    return lines


_LEVELS = {
    "refused": "PostgreSQL refuses this drop",
    "breaks": "something stops working",
    "slower": "something gets dearer",
    "unknown": "nothing was found, but not everything could be looked at",
    "none": "nothing hangs on it",
}


def drop_lines(drop: DropForecast) -> list[str]:
    """What hangs on an index that is to go."""
    lines = [f"  blast radius: {drop.level.upper()}: {_LEVELS[drop.level]}"]
    lines += [f"    refused: {text}" for text in drop.refused]
    lines += [f"    breaks: {text}" for text in drop.breaks]
    for plan in drop.plans[:10]:
        then = f" ({', '.join(plan.then) or plan.constants})" if plan.then or plan.constants else ""
        lines.append(f"    plan changes: {plan.cost_before:,.2f} -> {plan.cost_after:,.2f}{then}: {plan.query[:60]}")
    if len(drop.plans) > 10:
        lines.append(f"    and {len(drop.plans) - 10} more plans change")
    for key in drop.served_keys:
        seen = "not known" if key.parent_deleted is None else f"{key.parent_deleted:,}"
        lines.append(
            f"    foreign key {key.name}: each DELETE on {key.parent} (on delete {key.on_delete}; {seen} seen) "
            "would read the whole table"
        )
    if drop.clustered:
        lines.append("    the table was clustered on it: CLUSTER without USING fails after the drop")
    scans = "not known" if drop.usage.scans is None else f"{drop.usage.scans:,}"
    window = "not known since when" if drop.usage.window_s is None else f"in {drop.usage.window_s / 86_400:.1f} days"
    last = f", the last at {drop.usage.last_scan}" if drop.usage.last_scan else ""
    lines.append(f"    scans on this node: {scans} ({window}{last}); {drop.standbys.detail}")
    if drop.rebuild is not None:
        low, high = drop.rebuild.build_seconds
        lines.append(
            f"    to have it back: {_bytes(drop.rebuild.size_bytes)}, {low:.1f} to {high:.1f} s, "
            f"WAL {_bytes(drop.rebuild.wal_bytes)}, temporary files {_bytes(drop.rebuild.temp_bytes)} (all estimated)"
        )
    lines += [f"    not known: {text}" for text in drop.unknown]
    return lines

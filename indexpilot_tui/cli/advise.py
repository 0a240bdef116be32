"""`indexpilot advise [TARGET]`: recommend a set of indexes under a budget."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from indexpilot_tui.cli.options import Common, bundle_option, common_options
from indexpilot_tui.cli.running import engine_of, print_json, run_async
from indexpilot_tui.errors import OK

if TYPE_CHECKING:
    from indexpilot_tui.engine.whatif.advise.model import Advice

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,3})?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_WORKLOAD = "SQL statements ended by ';', or a JSON list of {query, calls}; else pg_stat_statements."


class Bytes(click.ParamType[int]):
    """A size as PostgreSQL's settings take it: 200MB, 1.5 GB; units are powers of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is not a size such as 200MB or 1.5GB", param, ctx)
        size = int(float(found[1]) * _UNITS[found[2].lower()])
        if size <= 0:
            self.fail("a budget has to be more than nothing", param, ctx)
        return size


@click.command()
@click.argument("target", required=False)
@click.option("--budget", type=Bytes(), help="Bytes of all new indexes together, such as 200MB; none without it.")
@click.option("--write-budget", type=click.FloatRange(min=0), metavar="PERCENT",
              help="How much dearer the workload's writes may get.")  # fmt: skip
@click.option("--whole-tables", is_flag=True, help="No partial indexes.")
@click.option("--workload", type=click.Path(path_type=Path, dir_okay=False), help=_WORKLOAD)
@common_options
@bundle_option
def advise(
    target: str | None, budget: int | None, write_budget: float | None, whole_tables: bool, workload: Path | None,
    common: Common,
) -> int:  # fmt: skip
    """Recommend indexes for the workload of TARGET, each with what it brings and costs: nothing is changed there."""
    return run_async(_advise(target, budget, write_budget, whole_tables, workload, common))


async def _advise(
    target: str | None, budget: int | None, write_budget: float | None, whole_tables: bool, workload: Path | None,
    common: Common,
) -> int:  # fmt: skip
    from indexpilot_tui.engine.whatif.advise.advisor import Options

    statements = None
    if workload is not None:
        from indexpilot_tui.engine.whatif.workload import read_workload_file

        statements = read_workload_file(workload)
    options = Options(budget_bytes=budget, write_budget_pct=write_budget, partial=not whole_tables)
    async with engine_of(common, common.settings(), target) as engine:
        advice = await engine.advise(statements, options)
    if common.json:
        print_json(advice.to_json())
    else:
        for line in advice_lines(advice):
            click.echo(line)
    return OK


def _mib(count: float) -> str:
    return f"{count / (1 << 20):,.1f} MB"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def advice_lines(advice: Advice) -> list[str]:
    """An advice for a person: what to make in which order, where to stop, what to drop, and why nothing for the rest."""
    before, after = advice.cost_before, advice.cost_after
    lines = [
        f"workload (cost x calls): {before:,.0f} -> {after:,.0f} ({_share(after - before, before)}) with "
        f"{len(advice.indexes)} indexes of {_mib(advice.size_bytes)}; writes cost {advice.upkeep:,.0f} more",
        "",
    ]
    for number, i in enumerate(advice.indexes, 1):
        served = ", ".join(i.serves[:6]) + (" ..." if len(i.serves) > 6 else "")
        lines += [
            f"{number:>3}. {i.ddl}",
            f"     {_mib(i.size_bytes)}, saves {_share(i.gain, before)} after those above "
            f"({_share(i.gain_alone, before)} alone; without it the set loses {_share(i.loss_without, before)}), "
            f"writes +{i.upkeep:,.0f}; serves {len(i.serves)}: {served}",
        ]
        lines += [f"     makes {name} redundant" for name in i.replaces]
        lines += [f"     {note}" for note in i.notes]
        if number == advice.stop_after and number < len(advice.indexes):
            reached = _share(before - i.cost_after_cumulative, before - after)
            lines.append(f"     ---- stop here for {reached} of the gain ----")
    if not advice.indexes:
        lines.append("no index is worth its price for this workload")
    lines += [f"drop: {d.ddl}  ({_mib(d.size_bytes)}; {d.reason})" for d in advice.drops]
    worse = [q for q in advice.queries if q.cost_after > q.cost_before * 1.01]
    lines += [f"dearer: {q.query[:70]}: {q.cost_before:,.2f} -> {q.cost_after:,.2f}" for q in worse]
    if advice.no_advice:
        lines += ["", "no advice for:"]
        lines += [f"  {n.queryid:>6} cost {n.cost:>12,.1f}  {n.query[:60]}: {n.reason}" for n in advice.no_advice]
    lines += [f"left out: {x.query[:70]}: {x.reason}" for x in advice.unexplained]
    share = advice.explained_time_pct
    lines += [
        "",
        f"explained: {'execution times not known' if share is None else f'{share:.1f} % of the execution time'}; "
        f"{advice.candidates} candidates, {advice.explains} plans, {advice.elapsed_ms / 1000:.1f} s; read from the target: "
        f"{advice.read_statements} statements, {advice.read_ms:.0f} ms",
        *(f"note: {n}" for n in advice.notes),
        "all figures are estimates in planner units: forecast, build and verify one index at a time",
    ]
    return lines

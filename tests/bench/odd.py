"""Do forecasts stay exact where schemas are odd? Every kind of relation, type and statement, against the server's own EXPLAIN.

    python -m tests.bench.odd [--bindir /usr/lib/postgresql/15/bin] [--embedded]

Every statement is compared as the database is, and again after each of the indexes of INDEXES, which are then really built.
It prints each deviation over 0.01 %, each statement that was left out with the reason, and the sizes. Exit status 1 when the
target's own major planned and a deviation over 0.1 % was found.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.simulate import Simulator
from indexpilot_tui.engine.whatif.statements import Parsed, parse
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target

DATA = Path(__file__).parent / "data"
# made after the statistics, so that it has none
NEVER = (
    "create table never (id int, v int); insert into never select g, g % 100 from generate_series(1, 30000) g;"
    " create index never_v on never (v)"
)
INDEXES = (
    "create index new1 on fx (b)",
    "create index new2 on par (v, id)",
    'create index new3 on "Mixed Case"."Ev" ("Kind")',
    "create index new4 on mv (k) include (n)",
    "create index new5 on unl using hash (v)",
    "create index new6 on excl using gist (during)",
    "create index new7 on chi2 (v)",
    'create index new8 on wide_t (c2 collate "C" desc nulls last)',
    "create unique index new9 on wide_t (st, id) where st > 3",
    "create index new10 on nulls (half)",
    "create index new11 on tgt10k (txt, v)",
    "create index new12 on jp using brin (at)",
    "create index new13 on uu (n, c) include (o)",
    "create index new14 on hashp (tenant)",
    "create index new15 on deep (c)",
    "create index new16 on sorted (d)",
    "create index new17 on never (id)",
    "create index new18 on lt using gist (cu)",
)


def statements() -> list[str]:
    lines = (DATA / "odd_statements.sql").read_text("utf-8").splitlines()
    return [line.removesuffix(";") for line in lines if line and not line.startswith("--")]


@dataclass(frozen=True)
class Deviation:
    """One statement whose forecast is not the server's plan. `when`: empty for the database as it is, else the index."""

    statement: str
    when: str
    forecast: tuple[float, float]  # cost, rows
    server: tuple[float, float]

    @property
    def error(self) -> float:
        (mine, _), (theirs, _) = self.forecast, self.server
        return abs(mine / theirs - 1) if theirs else float(mine != theirs)


@dataclass
class Report:
    compared: int = 0
    deviations: list[Deviation] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, float] = field(default_factory=dict)  # forecast / real
    issues: tuple[str, ...] = ()

    def over(self, limit: float) -> list[Deviation]:
        return [d for d in self.deviations if d.error > limit]


def server_plan(conn: psycopg.Connection[Any], parsed: Parsed) -> dict[str, Any]:
    """The server's own plan, the generic one for a statement with parameters."""
    if not parsed.parameters:
        row = conn.execute(b"explain (format json) " + parsed.sql.encode(), prepare=False).fetchone()
    elif conn.info.server_version >= 160000:
        row = conn.execute(b"explain (generic_plan, format json) " + parsed.sql.encode(), prepare=False).fetchone()
    else:
        conn.execute("set plan_cache_mode = force_generic_plan")
        conn.execute(b"prepare odd as " + parsed.sql.encode())
        count = conn.execute("select cardinality(parameter_types) from pg_prepared_statements where name = 'odd'").fetchone()
        assert count is not None
        nulls = ", ".join(["null"] * count[0])
        row = conn.execute(f"explain (format json) execute odd{f'({nulls})' if nulls else ''}".encode()).fetchone()
        conn.execute("deallocate odd")
    assert row is not None
    found: dict[str, Any] = row[0][0]["Plan"]
    return found


def _point(plan: dict[str, Any]) -> tuple[float, float]:
    return float(plan["Total Cost"]), float(plan["Plan Rows"])


def _size(conn: psycopg.Connection[Any], name: str) -> int:
    row = conn.execute(
        "with recursive part(oid) as (select oid from pg_class where relname = %s"
        " union select inhrelid from pg_inherits join part on inhparent = part.oid)"
        " select sum(pg_relation_size(oid))::int8 from part",
        (name,),
    ).fetchone()
    assert row is not None
    return int(row[0])


async def measure(conninfo: str, *, own_major: bool = True, indexes: tuple[str, ...] = INDEXES) -> Report:
    """Forecast each index on an empty database that gets the schema first; every index stays once it is compared."""
    report = Report()
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute((DATA / "odd_schema.sql").read_bytes())
        conn.execute("vacuum analyze")
        conn.execute(NEVER.encode())
        parsed = [parse(Statement(str(n), text, 1.0)) for n, text in enumerate(statements())]
        session = await connect(Target(name="odd", environment="development", dsn=conninfo), Purpose.MONITOR, Settings())
        simulator = Simulator(own_major=own_major)
        try:
            for number, ddl in enumerate(indexes):
                forecast = await simulator.simulate(session, ddl, [p.statement for p in parsed])
                by_key = {q.queryid: q for q in forecast.queries}
                if number == 0:
                    report.left = {x.query: x.reason for x in forecast.left_out}
                    report.issues = forecast.confidence.reasons
                for when in ("", ddl) if number == 0 else (ddl,):
                    if when:
                        conn.execute(ddl.encode())
                    for p in parsed:
                        if (mine := by_key.get(p.statement.key)) is None:
                            continue
                        report.compared += 1
                        ours = _point(mine.plan_after if when else mine.plan_before)
                        theirs = _point(server_plan(conn, p))
                        found = Deviation(p.statement.sql, when, ours, theirs)
                        if found.error > 0.0001:
                            report.deviations.append(found)
                real = _size(conn, forecast.name.split(".")[-1])
                report.sizes[ddl] = forecast.index.size_bytes / real
        finally:
            await simulator.close()
            await session.close()
    return report


def show(report: Report) -> str:
    lines = [
        f"{report.compared} plans compared, {len(report.deviations)} differ by more than 0.01 %, "
        f"{len(report.over(0.001))} by more than 0.1 %, {len(report.over(0.01))} by more than 1 %; "
        f"{len(report.left)} statements were left out"
    ]
    for d in report.deviations:
        lines.append(f"  {d.error:8.3%} forecast {d.forecast} server {d.server} {d.when or 'before'}: {d.statement[:100]}")
    lines += [f"  left out: {query[:90]}: {reason}" for query, reason in report.left.items()]
    lines += [f"  size {ratio:6.3f}x  {ddl}" for ddl, ratio in report.sizes.items()]
    lines += [f"  {reason}" for reason in report.issues]
    return "\n".join(lines)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bindir", type=Path, default=None)
    parser.add_argument("--embedded", action="store_true")
    args = parser.parse_args()
    async with await LocalCluster.start("odd", bindir=args.bindir, settings={"autovacuum": "off"}) as cluster:
        with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
            conn.execute("create database odd")
        report = await measure(cluster.conninfo("odd"), own_major=not args.embedded)
    print(show(report))
    return 1 if not args.embedded and report.over(0.001) else 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))

"""An OLTP workload of normalised statements: what share does the advice solve, is every statement accounted for?

    python -m tests.bench.oltp [--budget 200] [--many 20,100,500]

Every advised index is really built, every statement planned again by the server, with and without. A statement is solved
when its generic plan (or that at a rare value) costs less than half with the advice; one that the advice leaves alone has to
have a reason; one that could not be planned too. --many measures the time for so many statements, made from the same ones
by naming other columns.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.engine.whatif.advise.advisor import Options, advise, read_case
from indexpilot_tui.engine.whatif.advise.model import Advice
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.shadow import ShadowServer
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target

HERE = Path(__file__).parent
MIB = 1 << 20
SOLVED = 0.5


def statements() -> list[Statement]:
    """The statements of oltp_statements.sql; the comment in front names each."""
    found, name = [], ""
    for line in (HERE / "oltp_statements.sql").read_text("utf-8").splitlines():
        if line.startswith("-- "):
            name = line[3:]
        elif line.strip():
            found.append(Statement(name, line.rstrip(";"), 1000.0, 1.0))
    return found


def many(count: int) -> list[Statement]:
    """`count` different statements: selects over the tables of the suite with ever other columns and conditions."""
    columns = {
        "crm.tickets": ("tenant_id", "reporter", "assignee", "status", "priority", "created_at", "updated_at", "id"),
        "crm.users": ("tenant_id", "email", "name", "created_at", "last_seen", "id"),
        "crm.comments": ("ticket_id", "author", "created_at", "id"),
        "crm.jobs": ("queue", "state", "run_at", "attempts", "id"),
        '"Billing Dept"."Invoices"': ('"TenantId"', '"Number"', '"IssuedOn"', '"PaidOn"', '"Total"', '"Id"'),
    }
    made: list[Statement] = []
    shapes = ("{a} = $1", "{a} = $1 and {b} = $2", "{a} = $1 and {b} > $2", "{a} > $1 order by {b} limit $2",
              "{a} = $1 order by {b} desc limit $2")  # fmt: skip
    while len(made) < count:
        for table, names in columns.items():
            n = len(made)
            a, b = names[n % len(names)], names[(n // len(names) + n + 1) % len(names)]
            c = names[(n // 7) % len(names)]
            where = shapes[(n // 3) % len(shapes)].format(a=a, b=b if b != a else c)
            made.append(Statement(str(n), f"select {c} from {table} where {where}", 1.0 + n % 97))
            if len(made) == count:
                break
    return made


@dataclass(frozen=True)
class Outcome:
    advice: Advice
    seconds: float
    solvable: int  # of those planned, that some index can help
    solved: list[str]
    invalid: list[str]
    lost: list[str]
    lines: list[str]


def _cost(conn: psycopg.Connection[Any], text: str) -> float | None:
    """The generic plan's cost on the server itself; None when it cannot be asked so."""
    try:
        row = conn.execute(b"explain (generic_plan, format json) " + text.encode()).fetchone()
    except psycopg.Error:
        return None
    return float(row[0][0]["Plan"]["Total Cost"]) if row else None


async def measure(conninfo: str, asked: Sequence[Statement], budget: int | None) -> Outcome:
    """Advise, build everything, and account for every statement."""
    server = ShadowServer()
    try:
        await server.warm()
        started = time.perf_counter()
        session = await connect(Target(name="oltp", environment="development", dsn=conninfo), Purpose.MONITOR, Settings())
        case = await read_case(session, asked)
        await session.close()
        advice = await advise(server, case, Options(budget_bytes=budget * MIB if budget else None))
        seconds = time.perf_counter() - started
    finally:
        await server.close()
    invalid: list[str] = []
    with psycopg.connect(conninfo, autocommit=True) as conn:
        before = {s.key: _cost(conn, s.sql) for s in asked}
        for ddl in [*(i.ddl for i in advice.indexes), *(d.ddl for d in advice.drops)]:
            try:
                conn.execute(ddl.encode())
            except psycopg.Error as exc:
                invalid.append(f"{ddl}: {exc}")
        conn.execute("vacuum (analyze)")
        after = {s.key: _cost(conn, s.sql) for s in asked}
    effects = {q.queryid: q for q in advice.queries}
    reasons = {n.queryid: n.reason for n in advice.no_advice} | {x.key: x.reason for x in advice.unexplained}
    solved, lost, lines = [], [], []
    for s in asked:
        q = effects.get(s.key)
        was, now = before[s.key], after[s.key]
        real = f"{was:,.0f} -> {now:,.0f}" if was is not None and now is not None else "not asked"
        if q is not None and q.cost_after < SOLVED * q.cost_before:
            solved.append(s.key)
            lines.append(f"  solved   {s.key}: {q.cost_before:,.0f} -> {q.cost_after:,.0f} (server, generic: {real})")
        elif s.key in reasons:
            lines.append(f"  reason   {s.key}: {reasons[s.key]}")
        elif q is not None and q.cost_after < q.cost_before * 0.99:
            lines.append(f"  better   {s.key}: {q.cost_before:,.0f} -> {q.cost_after:,.0f} (server, generic: {real})")
        else:
            lost.append(s.key)
    unsolvable = ("already", "cheap", "INSERT", "small", "all of them", "not selective", "reads no table")
    solvable = len(effects) - sum(any(w in r for w in unsolvable) for k, r in reasons.items() if k in effects)
    return Outcome(advice, seconds, solvable, solved, invalid, lost, lines)


def show(found: Outcome) -> str:
    a = found.advice
    out = [*found.lines, *(f"  {i.ddl}  {i.size_bytes / MIB:.1f} MiB for {len(i.serves)}" for i in a.indexes)]
    out += [f"  {d.ddl}: {d.reason}" for d in a.drops]
    out.append(
        f"{len(found.solved)} of {len(a.queries) + len(a.unexplained)} statements solved ({found.solvable} can be), "
        f"{len(found.invalid)} invalid DDL, {len(found.lost)} lost without a reason; {len(a.indexes)} indexes of "
        f"{a.size_bytes / MIB:.0f} MiB, {len(a.drops)} drops; cost {100 * a.cost_after / a.cost_before:.1f} %; "
        f"{a.candidates} candidates, {a.explains} EXPLAINs, {found.seconds:.1f} s"
    )
    return "\n".join([*out, *found.invalid])


async def timing(conninfo: str, counts: Sequence[int]) -> list[str]:
    """Seconds of an advice for so many statements, the shadow warm, nothing built."""
    out = []
    target = Target(name="oltp", environment="development", dsn=conninfo)
    for count in counts:
        server = ShadowServer()
        try:
            await server.warm()
            started = time.perf_counter()
            session = await connect(target, Purpose.MONITOR, Settings())
            case = await read_case(session, many(count))
            await session.close()
            advice = await advise(server, case, Options(budget_bytes=200 * MIB))
            seconds = time.perf_counter() - started
        finally:
            await server.close()
        out.append(
            f"{count:>4} statements: {seconds:5.1f} s, {advice.candidates} candidates, {advice.explains} EXPLAINs, "
            f"{len(advice.indexes)} indexes, cost {100 * advice.cost_after / advice.cost_before:.1f} %"
        )
    return out


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=int, default=200, help="MiB; 0: none")
    parser.add_argument("--many", default="")
    args = parser.parse_args()
    async with await LocalCluster.start("oltp", settings={"autovacuum": "off"}) as cluster:
        with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
            conn.execute((HERE / "oltp_schema.sql").read_bytes())
            conn.execute("vacuum (analyze)")
        for text in await timing(cluster.conninfo(), [int(n) for n in args.many.split(",") if n]):
            print(text, flush=True)
        found = await measure(cluster.conninfo(), statements(), args.budget or None)
        print(show(found))
    return 1 if found.invalid or found.lost else 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))

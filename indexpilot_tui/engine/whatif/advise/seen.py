"""Conditions that pg_qualstats saw throw away many rows that had been read, in statements that the workload does not have:
those within functions, of which pg_stat_statements counts the call alone.

Each becomes a statement of its own, without constants: a read of the table under these conditions, as often as it was seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.postgres.extensions import QUALSTATS
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.whatif.advise.candidate import quote
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.read import Reader
from indexpilot_tui.errors import IndexPilotError

PACKAGE = "indexpilot_tui.engine.whatif.advise"
MOST = 20  # conditions; those that threw away most
MIN_SHARE = 0.5  # of the rows that were tested: below it an index would find most of them again
MIN_ROWS = 1_000.0  # thrown away in one execution
OPERATORS = ("=", "<", "<=", ">", ">=")


async def read_seen(reader: Reader, workload: Sequence[Statement]) -> tuple[list[Statement], list[str]]:
    """Statements for conditions that are in none of the workload's, and what is to be said of them; nothing without the
    extension."""
    try:
        where = await reader.ask("extension_schema", extension=QUALSTATS)
        if not where:
            return [], []
        text = sql.SQL(load(PACKAGE, "seen_conditions", reader.session.facts.server_version))
        known = [int(s.key) for s in workload if s.key.removeprefix("-").isdigit() and abs(int(s.key)) < 2**63]
        rows = await reader.send(text.format(schema=sql.Identifier(where[0]["schema"])), {"queryids": known})
    except IndexPilotError as exc:
        if reader.session.closed:
            raise
        return [], [f"which conditions {QUALSTATS} saw is not known: {exc.message}"]
    found = statements_of(rows)
    said = f"{len(found)} conditions come from {QUALSTATS}: their statements are not in the workload (in functions, say)"
    return found, [said] if found else []


def statements_of(rows: Iterable[Mapping[str, Any]]) -> list[Statement]:
    """From the rows of `seen_conditions.sql`, in their order."""
    groups: dict[tuple[str, str, int | None, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["schema"], row["table"], row["queryid"], row["together"]), []).append(row)
    found: dict[str, float] = {}
    for (schema, table, _, _), members in groups.items():
        first = members[0]
        if not first["times"] or not first["tested"]:
            continue
        if first["filtered"] / first["tested"] < MIN_SHARE or first["filtered"] / first["times"] < MIN_ROWS:
            continue
        if any(m["operator"] not in OPERATORS for m in members):
            continue  # what else was tested may be what threw the rows away
        conditions = dict.fromkeys((quote(m["column"]), m["operator"]) for m in members)
        where = " AND ".join(f"{c} {o} ${n}" for n, (c, o) in enumerate(sorted(conditions), 1))
        text = f"SELECT * FROM {quote(schema, table)} WHERE {where}"  # noqa: S608 - quoted
        found[text] = found.get(text, 0.0) + first["times"] / first["rate"]
    most = list(found.items())[:MOST]
    return [Statement(f"{QUALSTATS} {n}", text, calls) for n, (text, calls) in enumerate(most, 1)]

"""Constants of parameters as pg_qualstats saw them, where the target has it. It sees what pg_stat_activity does not: what
prepared statements were run with.

The values are those of rows, like those of the statistics: they are planned with on the shadow, and neither shown nor kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import postgast
from psycopg import sql

from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.postgres.extensions import QUALSTATS
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.whatif.observed import Constants, constant, read_observed
from indexpilot_tui.engine.whatif.points import TURNED, Unshown, comparisons
from indexpilot_tui.engine.whatif.read import PACKAGE, Reader
from indexpilot_tui.engine.whatif.statements import Parsed
from indexpilot_tui.errors import IndexPilotError

MOST = 3  # of one statement
_INT8 = 2**63
Condition = tuple[str, str, bool]  # column, operator, whether in an index: see quals.sql


async def read_constants(reader: Reader, parsed: Sequence[Parsed]) -> tuple[dict[str, list[Constants]], list[str]]:
    """Constants by the key of the statement: of what runs now, then of what was seen; and what could not be read."""
    running, said = await read_observed(reader, parsed)
    seen, refused = await read_quals(reader, parsed)
    found: dict[str, list[Constants]] = {key: list(sets) for key, sets in running.items()}
    for key, sets in seen.items():
        known = found.setdefault(key, [])
        known += [constants for constants in sets if constants not in known]
    return {key: sets[:MOST] for key, sets in found.items()}, [text for text in (said, refused) if text]


async def read_quals(reader: Reader, parsed: Sequence[Parsed]) -> tuple[dict[str, list[Unshown]], str]:
    """Constants by the key of the statement, and a note where the extension is there and could not be read."""
    wanted = {number: p for p in parsed if (number := _queryid(p)) is not None}
    if not wanted:
        return {}, ""
    try:
        where = await reader.ask("extension_schema", extension=QUALSTATS)
        if not where:
            return {}, ""
        text = sql.SQL(load(PACKAGE, "quals", reader.session.facts.server_version))
        query = text.format(schema=sql.Identifier(where[0]["schema"]))
        rows = await reader.send(query, {"queryids": list(wanted)})
    except IndexPilotError as exc:
        if reader.session.closed:
            raise
        return {}, f"what {QUALSTATS} saw is not known: {exc.message}"
    return {wanted[number].statement.key: sets for number, sets in sets_of(rows, wanted).items()}, ""


def _queryid(parsed: Parsed) -> int | None:
    """The id of a statement of pg_stat_statements; those of a file have keys of their own."""
    key = parsed.statement.key
    if not parsed.parameters or parsed.refused or not key.removeprefix("-").isdigit():
        return None
    number = int(key)
    return number if -_INT8 <= number < _INT8 else None


def sets_of(rows: Iterable[Mapping[str, Any]], wanted: Mapping[int, Parsed]) -> dict[int, list[Unshown]]:
    """Sets of constants for the parameters of each statement, those that were seen most first."""
    groups: dict[tuple[int, int], dict[Condition, list[str]]] = {}
    for row in rows:
        group = groups.setdefault((row["queryid"], row["together"]), {})
        group.setdefault((row["column"], row["operator"], row["in_index"]), []).append(row["value"])
    found: dict[int, list[Unshown]] = {}
    for (queryid, _), values in groups.items():
        sets = found.setdefault(queryid, [])
        chosen = _fitted(wanted[queryid], values) if queryid in wanted and len(sets) < MOST else None
        if chosen and chosen not in sets:
            sets.append(chosen)
    return {queryid: sets for queryid, sets in found.items() if sets}


def _fitted(parsed: Parsed, values: Mapping[Condition, Sequence[str]]) -> Unshown:
    """The values where they can belong to one parameter only: a condition that stands twice may be either's."""
    numbers: dict[Condition, list[int]] = {}
    for c in comparisons(parsed.tree):
        if c.items == 1 or c.operator in (">=", "<="):  # a list's own values are one array in the plan
            written = TURNED.get(c.operator, c.operator) if c.turned else c.operator
            numbers.setdefault((c.column, written, False), []).append(c.number)
            numbers.setdefault((c.column, c.operator, True), []).append(c.number)
    chosen: dict[int, str] = {}
    for condition, texts in values.items():
        at = numbers.get(condition, [])
        value = _plain(texts[0]) if len(at) == 1 and len(texts) == 1 else None
        if value is not None:
            chosen[at[0]] = value
    return Unshown(sorted(chosen.items()))


def _plain(text: str) -> str | None:
    """`'paid'::text` without its type; None for what was cut off at 80 bytes, or is no constant."""
    try:
        tree = parsing.parse(f"select {text}")
    except postgast.PgQueryError:
        return None
    from postgast import pg_query_pb2 as pb

    targets = list(postgast.find_nodes(tree, pb.ResTarget))
    selects = list(postgast.find_nodes(tree, pb.SelectStmt))
    if len(tree.stmts) != 1 or len(selects) != 1 or len(targets) != 1:
        return None  # a server may put anything there
    return constant(targets[0].val)

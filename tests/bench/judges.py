"""Who judges a set of indexes: HypoPG 1.3.1, and the server itself with the set really built. And what HypoPG says of sizes.

HypoPG 1.3.1 keeps the condition of a hypothetical partial index as if its table were the first of the statement's range
table, so the planner can prove that condition only for the table that comes first in FROM (`blind` shows it; a real index has
no such limit). So HypoPG is asked for a statement as it is written and with each table of its FROM list put first: inner
joins all, so it stays the same question, and `judge` makes sure that it costs the same without indexes. The cheapest plan is
what HypoPG sees, against the cheapest without indexes. What stands in EXISTS or in a derived table stays out of its sight.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlglot

from indexpilot_tui.engine.whatif.advise.candidate import Candidate
from indexpilot_tui.engine.whatif.advise.model import Advice
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.sizes import PAGE, IndexShape

SAME = 0.01  # of the cost without indexes: joins of equal cost may be put together in another order


def hypopg_size(candidate: Candidate, shape: IndexShape) -> int:
    """HypoPG 1.3.1's formula for a B-tree (hypo_estimate_index): 8 bytes of tuple and 4 of line pointer for every column,
    50 bytes for an expression, no deduplication, 130 % of the pages. Checked against the extension by `judge`."""
    columns = [*shape.keys, *shape.included]
    widths = [50.0 if text.startswith("(") else c.width for text, c in zip(candidate.keys, shape.keys, strict=True)]
    line = sum(widths) + sum(c.width for c in shape.included) + 8 * len(columns) + math.ceil(4 * len(columns) / 8) * 8
    return int(shape.rows * line * 1.3 / (PAGE - 24 - 16)) * PAGE


def layout_size(candidate: Candidate, shape: IndexShape) -> int:
    """A B-tree as it is stored, pages 90 % full, without deduplication and inner pages."""
    del candidate
    tuple_ = 8 + math.ceil(sum(math.ceil(c.width / c.align) * c.align for c in (*shape.keys, *shape.included)) / 8) * 8 + 4
    return math.ceil(shape.rows / math.floor((PAGE - 40) * 0.9 / tuple_)) * PAGE


class HypopgSizes:
    """HypoPG's sizes: of whole-table indexes its formula, of partial ones, whose size its planner's selectivity is a part of,
    what it says itself."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self.conn, self.seconds = conn, 0.0  # spent in asking, which no advice of the product does
        rows = conn.execute("select oid::int8, oid::regclass::text from pg_class where relkind = 'r'").fetchall()
        self.tables = dict(rows)

    def __call__(self, candidate: Candidate, shape: IndexShape) -> int:
        if not candidate.predicate:
            return hypopg_size(candidate, shape)
        include = f" include ({', '.join(candidate.include)})" if candidate.include else ""
        ddl = f"create index on {self.tables[candidate.table]} ({candidate.key_text}){include} where {candidate.predicate}"
        started = time.perf_counter()
        row = self.conn.execute("select hypopg_relation_size(indexrelid) from hypopg_create_index(%s)", (ddl,)).fetchone()
        self.conn.execute("select hypopg_reset()")
        self.seconds += time.perf_counter() - started
        assert row is not None
        return int(row[0])


def costs(conn: psycopg.Connection[Any], asked: Sequence[Statement]) -> dict[str, float]:
    """What the server's planner says."""
    return {s.key: cost(conn, s.sql) for s in asked}


def cost(conn: psycopg.Connection[Any], query: str) -> float:
    row = conn.execute(b"explain (format json) " + query.encode()).fetchone()
    assert row is not None
    return float(row[0][0]["Plan"]["Total Cost"])


def each_first(query: str) -> Iterator[str]:
    """A statement as it is written, then with each further table of its FROM list put first; nothing further where FROM has
    joins that are written as such."""
    yield query
    tree: Any = sqlglot.parse_one(query, read="postgres")
    joins = tree.args.get("joins") or []
    if not joins or any(j.args.get(word) for j in joins for word in ("on", "using", "side", "kind", "method")):
        return
    tables = [tree.args["from_"].this, *(j.this for j in joins)]
    for i in range(1, len(tables)):
        first, *rest = [tables[i], *tables[:i], *tables[i + 1 :]]
        tree.args["from_"].set("this", first.copy())
        for join, table in zip(joins, rest, strict=True):
            join.set("this", table.copy())
        yield tree.sql(dialect="postgres")


@dataclass(frozen=True)
class Judgement:
    """Per cent of the cost without an index, and the bytes, by HypoPG."""

    percent: float  # with each table first in turn
    as_written: float
    size: int
    same_sizes: bool  # our formula gives HypoPG's figure


def judge(conninfo: str, advice: Advice, asked: Sequence[Statement]) -> Judgement:
    """Ask HypoPG in a session of its own."""
    ways = {s.key: list(each_first(s.sql)) for s in asked}
    with psycopg.connect(conninfo, autocommit=True) as conn:
        before = {key: [cost(conn, q) for q in queries] for key, queries in ways.items()}
        for key, found in before.items():
            assert max(found) - min(found) <= SAME * found[0], f"the order of FROM matters to q{key} without any index"
        size, same = 0, True
        for i in advice.indexes:
            row = conn.execute(
                "select hypopg_relation_size(indexrelid) from hypopg_create_index(%s)",
                (i.ddl.replace(" CONCURRENTLY", ""),),
            ).fetchone()
            assert row is not None
            size += row[0]
            same = same and abs(row[0] - i.size_bytes) <= 2 * PAGE
        after = {key: [cost(conn, q) for q in queries] for key, queries in ways.items()}

    def percent(pick: Callable[[list[float]], float]) -> float:
        return 100 * sum(pick(found) for found in after.values()) / sum(pick(found) for found in before.values())

    return Judgement(percent(min), percent(lambda found: found[0]), size, same)


def really(conninfo: str, advice: Advice, asked: Sequence[Statement]) -> tuple[float, int]:
    """Per cent of the cost without an index, by the server with the set really built, and the bytes on its disk. All in one
    transaction that is rolled back."""
    with psycopg.connect(conninfo) as conn:
        before = sum(costs(conn, asked).values())
        for i in advice.indexes:
            conn.execute(i.ddl.replace(" CONCURRENTLY", "").encode())
        row = conn.execute("select sum(pg_relation_size(indexrelid)) from pg_index where indexrelid >= 16384").fetchone()
        assert row is not None
        after = sum(costs(conn, asked).values())
        conn.rollback()
    return 100 * after / before, int(row[0] or 0)


def blind(conninfo: str) -> str:
    """What one join costs with a partial index: by HypoPG with its table second and first in FROM, and by the server."""
    ddl = "create index on lineitem (l_orderkey) include (l_discount) where l_returnflag = 'R'"
    query = (
        "select sum(l_discount) from orders, lineitem where l_orderkey = o_orderkey"
        " and o_orderdate >= date '1993-04-01' and o_orderdate < date '1993-04-08' and l_returnflag = 'R'"
    )
    with psycopg.connect(conninfo) as conn:
        plain = cost(conn, query)
        conn.execute("select hypopg_create_index(%s)", (ddl,))
        second, first = (cost(conn, q) for q in each_first(query))
        conn.execute("select hypopg_reset()")
        conn.execute(ddl)
        real = cost(conn, query)
        conn.rollback()
    return (
        f"a join with a partial index on one of its tables: {plain:,.0f} without; by HypoPG {second:,.0f} with that table second "
        f"in FROM, {first:,.0f} with it first; {real:,.0f} really"
    )

"""What pg_stat_statements makes of the statements of applications can be planned again, or is listed with the reason."""

from __future__ import annotations

import secrets

import psycopg
import pytest

from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.statements import parse
from indexpilot_tui.localpg import LocalCluster
from tests.bench.idioms import IDIOMS, measure


async def test_normalised_idioms_are_planned_and_none_is_lost(cluster18: LocalCluster) -> None:
    name = f"idioms_{secrets.token_hex(4)}"
    with psycopg.connect(cluster18.conninfo(), autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
        try:
            covered = await measure(cluster18.conninfo(name))
        finally:
            admin.execute(f"drop database {name} with (force)".encode())
    assert covered.ran == len(IDIOMS) >= 60
    assert covered.known >= 60
    assert covered.lost == ()
    assert covered.left == {}


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ("select date_trunc($1, a), count(*) from t group by date_trunc('day', a)",
         "SELECT date_trunc('day', a), count(*) FROM t GROUP BY date_trunc('day', a)"),
        ("select a || $1 from t order by a || $2", "SELECT a || $1 FROM t ORDER BY a || $1"),
        ("select extract($1 from a) from t where b = $2", "SELECT EXTRACT (year FROM a) FROM t WHERE b = $1"),
        ("select f(a, $1) from t group by g(a, $2)", "SELECT f(a, $1) FROM t GROUP BY g(a, $2)"),
    ],
)  # fmt: skip
def test_an_expression_that_is_written_twice_is_made_one_again(text: str, repaired: str) -> None:
    def plain(sql: str) -> str:
        return sql.lower().replace("'year'", "year").replace("pg_catalog.", "")

    parsed = parse(Statement("1", text, 1))
    assert plain(parsed.sql) == plain(repaired)
    assert not parsed.refused

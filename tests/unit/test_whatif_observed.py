"""The constants of statements that run now, for statements that are known without them."""

from __future__ import annotations

import pytest

from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.observed import match
from indexpilot_tui.engine.whatif.statements import parse


@pytest.mark.parametrize(
    ("normalised", "running", "constants"),
    [
        ("select * from t where a = $1", "SELECT * FROM t WHERE a = -5", {1: "-5"}),
        ("select * from t where a = $1 and b > $2", "select * from t where a = 'x''y' and b > 1.5", {1: "x'y", 2: "1.5"}),
        ("select * from t where at > $1::date", "select * from t where at > '2024-01-01'::date", {1: "2024-01-01"}),
        (
            "select * from t where at > now() - interval $1",
            "select * from t where at > now() - interval '1 day'",
            {1: "1 day"},
        ),
        ("select * from t where a = $1", "select * from t where a = true", {1: "true"}),
        ("select * from t where a = $1", "select * from t where b = 5", None),
        ("select * from t where a = $1", "select * from t where a = $1", None),
        ("select * from t where a = $1", "select * from t where a = null", None),
        ("select * from t where a = $1", "select * from t where a = 5; drop table t", None),
        ("select * from t where a in ($1, $2)", "select * from t where a in (1, 2, 3)", None),
        ("select extract($1 from at) from t where a = $2", "select extract(day from at) from t where a = 7", None),
        ("select * from t where a = $1", "select * from t where a = " + "1+" * 9000 + "1", None),
    ],
    ids=range(12),
)
def test_running_texts_are_matched_or_left_alone(normalised: str, running: str, constants: dict[int, str] | None) -> None:
    found = match([running], [parse(Statement("k", normalised, 1.0))])
    assert found == ({"k": [constants]} if constants else {})

"""The parts of the advisor that need no server: reading statements, candidates, the search, the knee."""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace
from typing import cast

import pytest

from indexpilot_tui.engine.whatif.advise.candidate import Candidate, btree
from indexpilot_tui.engine.whatif.advise.generate import merged, value_share
from indexpilot_tui.engine.whatif.advise.masks import mask_of, numbers_of
from indexpilot_tui.engine.whatif.advise.planners import Planners
from indexpilot_tui.engine.whatif.advise.pool import Pool
from indexpilot_tui.engine.whatif.advise.pricing import Memory, Prices, Unit
from indexpilot_tui.engine.whatif.advise.report import knee
from indexpilot_tui.engine.whatif.advise.scope import Use
from indexpilot_tui.engine.whatif.advise.search import Problem, Search
from indexpilot_tui.engine.whatif.advise.uses import uses_of
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.snapshot import Column, ColumnStats, Relation, ServerTraits, Snapshot
from indexpilot_tui.engine.whatif.statements import parse


def relation(oid: int, name: str, *columns: str, kind: str = "r", view: str | None = None) -> Relation:
    made = tuple(
        Column(n, c, "integer", 23, False, False, "", None, None, None) for n, c in enumerate(columns, 1)
    )  # fmt: skip
    return Relation(oid, "public", name, kind, (), False, None, None, view, (), made, False)


RELATIONS = [
    relation(1, "t", "id", "a", "b", "c", "owner"),
    relation(2, "u", "id", "name", "x"),
    relation(3, "v", "key", "total", kind="v", view="SELECT t.a, sum(t.b) AS sum FROM t WHERE t.c = 7 GROUP BY t.a"),
]
SNAPSHOT = Snapshot(
    ServerTraits(180000, "C", "UTF8", ("pg_catalog", "public"), 8192, 1 << 26, (), ()),
    {r.oid: r for r in RELATIONS}, {}, (), (), (), (), {}, {}, {("", r.name): r.oid for r in RELATIONS}, 0, 0.0,
)  # fmt: skip


def read(sql: str) -> list[Use]:
    return uses_of(parse(Statement("1", sql, 1.0)).tree, SNAPSHOT)


def test_conditions_are_found_at_their_table_and_alias() -> None:
    first, second = read(
        "select one.b from t one join t two on one.id = two.owner where one.a = 5 and two.c between $1 and $2"
    )
    assert first.equal == {'"a"': "5"}
    assert first.joined == ['"id"']
    assert second.joined == ['"owner"']
    assert second.ranged == ['"c"']
    assert set(first.columns) == {'"a"', '"b"', '"id"'}


def test_a_correlated_subquery_joins_the_table_outside() -> None:
    outer, inner = read("select 1 from t where exists (select * from u where u.id = t.owner and x > 3)")
    assert outer.joined == ['"owner"']
    assert inner.joined == ['"id"']
    assert not inner.whole


def test_conditions_reach_through_views_subqueries_and_ctes() -> None:
    assert '"a"' in read("select total from v where key = $1")[0].equal
    assert '"a"' in read("select * from (select a as z, b from t) s where z = $1")[0].equal
    assert '"a"' in read("with m as (select a, b from t) select b from m where a = $1")[0].equal


def test_a_column_that_two_tables_have_belongs_to_neither() -> None:
    assert all(not u.equal for u in read("select 1 from t, u where id = 3"))


@pytest.mark.parametrize(
    ("sql", "key"),
    [
        ("select 1 from u where lower(name) = $1", "(lower(name))"),
        ("select 1 from u k where (k.x + 1) = 4", "(x + 1)"),
        ("delete from u where name = $1", '"name"'),
        ("update u set x = 1 from t where t.id = 4 and u.name = $1", '"name"'),
    ],
)
def test_keys_are_written_without_qualifier(sql: str, key: str) -> None:
    assert any(key in u.equal for u in read(sql))


def test_an_expression_with_a_parameter_is_an_obstacle() -> None:
    (use,) = read("select 1 from u where name || $1 = $2")
    assert not use.equal
    assert use.obstacles


def test_what_every_arm_of_an_or_asks_for_holds_for_the_whole() -> None:
    first, second = read(
        "select 1 from t, u where (owner = u.id and a = 5 and b < 3) or (t.a = 5 and (c > 4 and u.id = owner) and b = 2)"
        " or (owner = u.id and a = 5 and b = 9)"
    )
    assert first.equal['"a"'] == "5"
    assert list(first.predicates) == ["a = 5"]
    assert first.columns == {'"a"': 1, '"b"': 3, '"c"': 1, '"owner"': 3}  # u.id = owner is written the other way round once
    assert not second.predicates


@pytest.mark.parametrize(
    ("condition", "predicates", "columns"),
    [
        ("a = 5 or a = 6", [], {"a"}),  # an index on a with both could serve; not a condition that always holds
        ("a = 5 or (b = 1 and a = 5)", ["a = 5"], {"a"}),  # the second arm says nothing that the first does not
        ("not (a = 5 or (a = 5 and b = 1))", ["NOT (a = 5 OR (a = 5 AND b = 1))"], {"a", "b"}),
        ("(a = 5 and b = 1) or ((a = 5 and b = 2) or (a = 5 and b = 3))", ["a = 5"], {"a", "b"}),
        ("(((a = 5 and b = 1) or (b = 2 and a = 5)) and c = 3) or (a = 5 and b = 9)", ["a = 5"], {"a", "b", "c"}),
        (
            "(b in (select u.id from u where x = a) and a = 5) or (a = 5 and b in (select u.id from u where x = t.a))",
            ["a = 5"],
            {"a", "b"},
        ),
        ("(t.* is not null and a = 5) or (a = 5 and t.* is null)", ["a = 5"], {"a"}),
        ("b = 1 and (a = 5 or c = 4)", ["b = 1"], {"a", "b", "c"}),
    ],
)
def test_an_or_is_factored_as_the_planner_does(condition: str, predicates: list[str], columns: set[str]) -> None:
    use, *_ = read(f"select 1 from t where {condition}")
    assert list(use.predicates) == predicates
    assert set(use.columns) == {f'"{c}"' for c in columns}


@pytest.mark.parametrize(
    ("value", "padded", "share"), [("OPEN", True, 0.25), ("OPEN", False, 0.0), ("OPEN      ", True, 0.25)]
)
def test_a_padded_value_is_known_without_its_blanks(value: str, padded: bool, share: float) -> None:
    stats = ColumnStats(
        "public", "t", "a", False, "0", 11, 2.0, '{"SHUT      ","OPEN      "}', "{0.75,0.25}", *[None] * 8
    )  # type: ignore[arg-type]  # fmt: skip
    assert value_share(stats, value, padded=padded) == share


def test_order_and_keyset() -> None:
    (use,) = read("select id from t where (a, id) < ($1, $2) order by a desc, id desc limit 5")
    assert use.ranged == ['"a"', '"id"']
    assert use.sorts == [(('"a"', True, 0), ('"id"', True, 0))]
    assert use.limited


def test_ddl_quotes_and_says_concurrently() -> None:
    table = relation(9, 'we"ird', "x")
    made = Candidate(9, "btree", ('"x"',), ("DESC",), ('"y z"',), "x IS NULL")
    assert made.ddl(table, concurrently=True) == (
        'CREATE INDEX CONCURRENTLY ON "public"."we""ird" ("x" DESC) INCLUDE ("y z") WHERE x IS NULL'
    )


async def test_a_search_knows_what_it_heard_and_not_what_an_earlier_one_did() -> None:
    unit = Unit("1", "", "select 1", False, (), 1.0, [], {}, 100.0)
    memory = Memory(said={(unit.text, unit.generic, unit.path): {0b111: (0b001, 5.0, 1)}})
    pool = SimpleNamespace(shadow=SimpleNamespace(cluster=SimpleNamespace(version=180000)))
    prices = Prices(cast(Pool, pool), [unit], 180000, Planners(cast(ShadowDatabase, pool.shadow)), memory)
    prices.relevant = [0b111]
    assert not prices.knows(0, 0b111)
    assert (prices.explains, prices.taken, prices.least(0, 0b001)) == (0, [0], 0.0)
    assert await prices.choice(0, 0b111) == (0b001, 5.0)
    assert prices.explains == 1  # as if it had been asked anew
    assert prices.knows(0, 0b111)
    assert prices.knows(0, 0b011)  # nothing of the rest was wanted
    assert not prices.knows(0, 0b110)


def test_merging_covers_both() -> None:
    parts = [(10.0, btree(1, ('"a"',), ('"b"',))), (5.0, btree(1, ('"a"', '"c"'), ('"d"',)))]
    columns = [c.columns for _, c in merged(1, parts)]
    assert columns
    assert all(c == {'"a"', '"b"', '"c"', '"d"'} for c in columns)


def problem(seed: int, count: int = 9, units: int = 6) -> Problem:
    chance = random.Random(seed)
    sizes = [chance.randint(1, 9) << 20 for _ in range(count)]
    made = Problem([1.0] * units, [1000.0] * units, sizes, [0.0] * count, 14 << 20, None)
    atoms: list[dict[int, float]] = []
    for _ in range(units):
        known = {0: 1000.0}
        for _ in range(5):
            used = mask_of(chance.sample(range(count), chance.randint(1, 2)))
            known[used] = chance.uniform(100, 900)
        atoms.append(known)
    made.load(atoms)
    return made


@pytest.mark.parametrize("seed", range(12))
def test_the_search_keeps_the_budget_and_comes_near_the_best_of_all_sets(seed: int) -> None:
    made = problem(seed)
    search = Search(made)
    found = search.improve(search.starts()[0])
    everything = [mask_of(s) for n in range(10) for s in itertools.combinations(range(9), n)]
    best = min(made.total(s) for s in everything if made.fits(s))
    assert made.fits(found)
    assert made.total(found) <= best * 1.03


def test_masks_come_back() -> None:
    assert numbers_of(mask_of([0, 3, 70])) == [0, 3, 70]


def test_the_knee_is_where_the_curve_turns_flat() -> None:
    assert knee([(10, 90.0), (20, 95.0), (100, 100.0)]) == 1
    assert knee([(10, 10.0), (20, 20.0), (30, 30.0)]) == 3
    assert knee([]) == 0

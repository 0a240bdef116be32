"""Plans: names resolved as PostgreSQL would, what is refused and why, what is saved to go back."""

from __future__ import annotations

import ast
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import indexpilot_tui
from indexpilot_tui.engine.changes import planning
from indexpilot_tui.engine.changes.definition import differences
from indexpilot_tui.engine.changes.stats import read_table_stats, touches
from indexpilot_tui.engine.model.change import Plan
from indexpilot_tui.engine.postgres.ddl import parse_index_statement
from indexpilot_tui.errors import UsageError
from indexpilot_tui.localpg import LocalCluster
from tests.faults.workshop import OPERATOR, Workshop, make_workshop


@pytest.fixture
async def workshop(cluster18: LocalCluster) -> AsyncIterator[Workshop]:
    async with make_workshop(cluster18) as made:
        yield made


async def plan_of(workshop: Workshop, ddl: str) -> Plan:
    return await planning.make_plan(workshop.monitor, parse_index_statement(ddl))


@pytest.mark.parametrize(
    "ddl",
    [
        "create index on app.t (v)",
        "create index on app.t (v, w)",
        "create index on app.t (lower(w))",
        "create index on app.t ((v + 1))",
        "create index on app.t (lower(w), upper(w), (v+1), (v+2))",
        "create unique index on app.t (id) include (v, w)",
        "create index on app.t (v) where v > 3",
        'create index on app."Ünïcode table with a very long name that goes on and on" ("a long column, Größe und so", b)',
        'create index on app."Ünïcode table with a very long name that goes on and on" (b)',
    ],
)
async def test_the_name_is_the_one_that_postgresql_chooses(workshop: Workshop, ddl: str) -> None:
    workshop.sql(
        'set role w_owner; create table app."Ünïcode table with a very long name that goes on and on"'
        ' ("a long column, Größe und so" int, b int)'
    )
    plan = await plan_of(workshop, ddl)
    before = set(workshop.indexes())
    workshop.sql(f"set role w_owner; {ddl}")
    assert set(workshop.indexes()) - before == {plan.index}


async def test_a_taken_name_gets_a_number(workshop: Workshop) -> None:
    workshop.sql("set role w_owner; create table app.t_v_idx (id int); create table app.t_v_idx1 (id int)")
    plan = await plan_of(workshop, "create index on app.t (v)")
    workshop.sql("set role w_owner; create index on app.t (v)")
    assert plan.index == "t_v_idx2"
    assert "t_v_idx2" in workshop.indexes()


async def test_an_odd_byte_too_many_is_cut_where_postgresql_cuts_it(workshop: Workshop) -> None:
    table, column = "a" * 40, "b" * 40
    taken = f"{'a' * 29}_{'b' * 29}_idx"
    workshop.sql(f"set role w_owner; create table app.{table} ({column} int); create table app.{taken} (id int)")
    plan = await plan_of(workshop, f"create index on app.{table} ({column})")
    workshop.sql(f"set role w_owner; create index on app.{table} ({column})")
    assert plan.index == f"{'a' * 29}_{'b' * 28}_idx1"
    assert plan.index in workshop.indexes()


async def test_ddl_is_complete_quoted_and_concurrent(workshop: Workshop) -> None:
    workshop.sql('set role w_owner; create table app."Tab le" ("Col" text, "select" int)')
    plan = await plan_of(
        workshop, 'create unique index "My Index" on app."Tab le" ("Col" desc, "select") where "select" > 1'
    )
    assert plan.ddl == (
        'CREATE UNIQUE INDEX CONCURRENTLY "My Index" ON app."Tab le" USING btree ("Col" DESC, "select") WHERE "select" > 1'
    )
    assert (plan.owner, plan.schema, plan.table, plan.unique) == ("w_owner", "app", "Tab le", True)


async def test_bare_names_follow_the_logins_search_path(workshop: Workshop) -> None:
    with pytest.raises(UsageError, match=r"did you mean app\.t") as caught:
        await plan_of(workshop, "create index on t (v)")
    assert caught.value.exit_status == 64
    workshop.sql(f"alter role {OPERATOR} in database {workshop.dbname} set search_path = app, public")
    from indexpilot_tui.engine.postgres.session import Purpose, session

    async with session(workshop.target, Purpose.MONITOR, workshop.settings) as fresh:
        plan = await planning.make_plan(fresh, parse_index_statement("create index on t (v)"))
    assert plan.schema == "app"


async def test_operator_classes_of_extensions_are_qualified(workshop: Workshop) -> None:
    workshop.sql("create extension pg_trgm schema public")
    plan = await plan_of(workshop, "create index on app.t using gin (w gin_trgm_ops)")
    assert "public.gin_trgm_ops" in plan.ddl
    change_id = await workshop.approved("create index on app.t using gin (w gin_trgm_ops)")
    assert change_id
    with pytest.raises(UsageError, match="no operator class nope_ops"):
        await plan_of(workshop, "create index on app.t (w nope_ops)")


@pytest.mark.parametrize(
    ("setup", "ddl", "message"),
    [
        ("", "create index on app.nowhere (v)", "there is no table app.nowhere"),
        ("", "create index on app.t (nope)", "no such column"),
        ("", "create index t_pkey on app.t (v)", "name is taken"),
        ("", "create index on app.t (id)", None),  # not unique: not the same as the key
        ("create index same on app.t (v)", "create index other_name on app.t (v)", "same index exists already"),
        ("create table app.p (a int) partition by range (a)", "create index on app.p (a)", None),
        ("create view app.vw as select 1 as a", "create index on app.vw (a)", "only tables"),
        ("", "create index on pg_catalog.pg_class (relname)", "system catalogs"),
        ("", "drop index app.nowhere_idx", "there is no index"),
        ("", "drop index app.t", "not an index"),
        ("", "drop index app.t_pkey", "primary key"),
        ("alter table app.t add constraint uq unique (id, v)", "drop index app.uq", "constraint uq"),
        ("create unique index uu on app.t (id, v)", "drop index app.uu", "UNIQUE"),
        (
            "alter table app.t alter v set not null; create unique index ri on app.t (id, v);"
            " alter table app.t replica identity using index ri",
            "drop index app.ri", "replica identity",
        ),
        ("create table app.e (a int, exclude using btree (a with =))", "drop index app.e_a_excl", "constraint"),
        ("create table app.p (a int) partition by range (a); create index pi on app.p (a);"
         " create table app.p1 partition of app.p for values from (0) to (9)", "drop index app.p1_a_idx", "partitioned"),
        ("create table app.p (a int) partition by range (a); create index pi on app.p (a)", "drop index app.pi",
         "partitioned"),
        ("", "reindex index app.nowhere", "there is no index"),
        ("", "reindex index app.t", "not an index"),
        ("create table app.e (a int, exclude using btree (a with =))", "reindex index app.e_a_excl", "exclusion constraint"),
        ("create table app.p (a int) partition by range (a); create index pi on app.p (a)", "reindex index app.pi",
         "has no storage"),
    ],
)  # fmt: skip
async def test_what_is_refused_and_why(workshop: Workshop, setup: str, ddl: str, message: str | None) -> None:
    if setup:
        workshop.sql(f"set role w_owner; {setup}")
    if message is None:
        await plan_of(workshop, ddl)
        return
    with pytest.raises(UsageError, match="(?s).") as caught:
        await plan_of(workshop, ddl)
    assert message in str(caught.value), str(caught.value)
    assert caught.value.remedy or "index of a partitioned" in str(caught.value)


async def test_an_index_of_another_sessions_temporary_table_is_left_alone(workshop: Workshop) -> None:
    """Measured: DROP INDEX CONCURRENTLY takes AccessExclusiveLock there, so it would not be concurrent at all."""
    workshop.blocker("create temp table theirs (a int)", "create index theirs_idx on theirs (a)").commit()
    schema = workshop.sql("select relnamespace::regnamespace::text from pg_class where relname = 'theirs'")[0][0]
    for ddl in (f"drop index {schema}.theirs_idx", f"reindex index {schema}.theirs_idx"):
        with pytest.raises(UsageError, match="belongs to another session"):
            await plan_of(workshop, ddl)


async def test_a_key_of_the_partitions_is_found_however_it_is_written(workshop: Workshop) -> None:
    """A descending column and one whose name needs quotes keep the rule as well as any; the server agrees."""
    workshop.sql('set role w_owner; create table app.q (id int, k int, "K y" int) partition by range (k, "K y")')
    plan = await plan_of(workshop, 'create unique index on app.q (id, k desc, "K y")')
    workshop.sql(f"set role w_owner; {plan.steps[0].ddl}")
    assert plan.index in workshop.indexes()
    with pytest.raises(UsageError, match="lacks K y"):
        await plan_of(workshop, 'create unique index on app.q (id, k, ("K y" + 1))')


async def test_an_invalid_leftover_of_the_name_is_named_as_such(workshop: Workshop) -> None:
    with pytest.raises(Exception, match="could not create unique"):
        workshop.sql("create unique index concurrently dup on app.t (v)")
    with pytest.raises(UsageError, match="INVALID leftover of this name"):
        await plan_of(workshop, "create index dup on app.t (w)")
    plan = await plan_of(workshop, "drop index app.dup")  # UNIQUE, but never valid: nothing rests on it
    assert plan.saved["valid"] is False


async def test_a_drop_saves_what_it_takes_to_go_back(workshop: Workshop) -> None:
    workshop.sql("set role w_owner; create index sp on app.t (v desc nulls last) with (fillfactor=80)")
    workshop.sql("comment on index app.sp is 'why'")
    plan = await plan_of(workshop, "drop index app.sp")
    assert plan.ddl == "DROP INDEX CONCURRENTLY app.sp"
    assert "DESC NULLS LAST" in plan.saved["definition"]
    assert "fillfactor" in plan.saved["definition"]
    assert plan.saved["comment"] == "why"
    assert plan.saved["size_bytes"] > 0
    assert Plan.from_json(plan.to_json()).sha256 == plan.sha256


@pytest.mark.parametrize(
    "ddl",
    [
        "create index i on app.t (v desc, w nulls first)",
        "create unique index i on app.t (v, lower(w)) include (id) where w <> 'x' and v in (1, 2, 3)",
        "create index i on app.t (w text_pattern_ops, (v::bigint + 1))",
        'create index i on app.t (w collate "C")',
        "create index i on app.t using hash (v)",
        "create index i on app.t using brin (id) with (pages_per_range = 16)",
        "create index i on app.t (v) where w like 'a%' or w is null",
        "create index i on app.t (w text_ops, v int4_ops asc nulls last)",  # defaults, spelled out
        "create unique index i on app.t (id) nulls not distinct",
    ],
)
async def test_the_servers_own_text_of_an_index_is_no_difference(workshop: Workshop, ddl: str) -> None:
    plan = await plan_of(workshop, ddl)
    workshop.sql(f"set role w_owner; {ddl}")
    found = str(workshop.sql("select pg_get_indexdef('app.i'::regclass)")[0][0])
    assert differences(plan.ddl, found) == []


@pytest.mark.parametrize(
    "found",
    [
        "CREATE INDEX i ON app.t USING btree (w)",
        "CREATE INDEX i ON app.t USING btree (v, w)",
        "CREATE INDEX i ON app.t USING hash (v)",
        "CREATE UNIQUE INDEX i ON app.t USING btree (v)",
        "CREATE INDEX i ON app.t USING btree (v DESC)",
        "CREATE INDEX i ON app.t USING btree (v NULLS FIRST)",
        "CREATE INDEX i ON app.t USING btree (v) INCLUDE (w)",
        "CREATE INDEX i ON app.t USING btree (v) WHERE (v > 1)",
        "CREATE INDEX i ON app.t USING btree (v text_pattern_ops)",
        'CREATE INDEX i ON app.t USING btree (v COLLATE "C")',
        "CREATE INDEX i ON app.t USING btree (abs(v))",
    ],
)
def test_another_index_is_a_difference(found: str) -> None:
    assert differences("CREATE INDEX CONCURRENTLY i ON app.t USING btree (v)", found)


@pytest.mark.parametrize(
    ("query", "yes"),
    [
        ("select * from app.t where v = $1", True),
        ("SELECT 1 FROM T", True),
        ("with x as (select v from t) select * from x", True),
        ("update app.t set v = $1", True),
        ("select * from other.t", False),
        ("select t from app.other", False),
        ("select 't'", False),
        ("create index on app.t (v)", False),
        ("vacuum app.t", False),
        ("select * from app.t where (", False),
    ],
)
def test_statements_that_touch_the_table(query: str, yes: bool) -> None:
    assert touches(query, "app", "t") is yes


async def test_statistics_of_the_table_alone(workshop: Workshop) -> None:
    workshop.sql("select count(*) from app.t where v = 3")
    workshop.sql("select count(*) from app.other")
    stats = await read_table_stats(workshop.monitor, "app", "t")
    texts = [str(row["query"]) for row in stats.rows]
    assert any("where v =" in text for text in texts)
    assert not any("app.other" in text for text in texts)
    assert stats.stats_reset is not None


_DDL = re.compile(r"^\s*(create|drop|alter|reindex|cluster|comment on|analyze|vacuum|truncate|set role)\b", re.IGNORECASE)


def test_ddl_leaves_through_one_door() -> None:
    """Every string that begins like DDL and is made into SQL stands in executor.py, or is handed to it."""
    root = Path(indexpilot_tui.__file__).parent
    found: dict[str, list[str]] = {}
    for path in sorted((root / "engine").rglob("*.py")):
        if "whatif" in path.parts:
            continue  # the shadow's own server
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("SQL", "execute"):
                for arg in node.args[:1]:
                    if isinstance(arg, ast.Constant) and isinstance(arg.value, str) and _DDL.match(arg.value):
                        found.setdefault(path.name, []).append(arg.value)
    # they make texts and have no way to send one; rehearsal.py plays them on the shadow
    composers = {"planning.py", "planning_existing.py", "planning_parts.py", "rollback.py", "rehearsal.py"}
    composers |= {"facts.py", "foreign_keys.py"}  # of the observing room
    assert set(found) <= {"executor.py", "prove.py"} | composers, found
    for path in (root / "engine").rglob("*.py"):
        if path.name in composers:
            assert "execute(" not in path.read_text("utf-8"), path
    senders = [
        path.name for path in sorted((root / "engine" / "changes").rglob("*.py")) if ".execute(" in path.read_text("utf-8")
    ]
    assert senders == ["executor.py"]
    for path in sorted((root / "engine" / "changes" / "sql").glob("*.sql")):
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip() and not line.startswith("--")]
        assert lines[0].split()[0] in ("select", "with"), path.name

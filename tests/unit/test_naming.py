"""What a name means for a login, and what a new index is called; the server's answers are written down."""

from __future__ import annotations

from typing import Any

import pytest

from indexpilot_tui.engine.changes.naming import choose_name, find_relation, login_path, qualify
from indexpilot_tui.engine.postgres.ddl import parse_index_statement
from indexpilot_tui.errors import UsageError
from tests.unit.desk import Desk

ROOM = "indexpilot_tui.engine.changes"


def desk(path: str = '"$user", public', **answers: Any) -> Any:
    return Desk({"search_path": {"path": path, "login": "alice"}} | answers, package=ROOM)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ('"$user", public', ["alice", "public"]), ("app,public", ["app", "public"]), ("", []),
        ('"With, comma", "a""b"', ["With, comma", 'a"b']), ("app, , $user", ["app", "alice"]),
        ('App,ÄB , "App"', ["app", "Äb", "App"]), ('""', []), ('" in front"', [" in front"]),
    ],
)  # fmt: skip
async def test_the_path_of_a_login_has_its_own_schema(path: str, names: list[str]) -> None:
    assert await login_path(desk(path)) == names


async def test_without_an_answer_a_login_has_no_path_and_a_bare_name_means_nothing() -> None:
    silent: Any = Desk({"search_path": None, "relation": lambda p: [] if p["schemas"] == [] else [{"schema": "x", "name": "t"}]},
                       package=ROOM)  # fmt: skip
    assert await login_path(silent) == []
    with pytest.raises(UsageError, match="no table t on the search path"):
        await find_relation(silent, None, "t", "table")


async def test_a_bare_name_is_looked_up_on_the_path_and_a_qualified_one_in_its_schema() -> None:
    for schema, places in ((None, ["alice", "public"]), ("app", ["app"])):
        session = desk(relation=[{"schema": "s", "name": "t"}, {"schema": "other", "name": "t"}])
        assert (await find_relation(session, schema, "t", "table"))["schema"] == "s"  # the first of the path
        assert session.asked[-1] == ("relation", {"name": "t", "schemas": places})


@pytest.mark.parametrize(
    ("schema", "elsewhere", "message", "remedy"),
    [
        (
            None,
            [],
            "there is no table t on the search path (alice, public)",
            "check the name, and the database of the target",
        ),
        (None, ["a", "b"], "there is no table t on the search path (alice, public)", "did you mean a.t, b.t?"),
        ("app", ["a"], "there is no table app.t", "did you mean a.t?"),
        ("app", list("abcdefg"), "there is no table app.t", "did you mean a.t, b.t, c.t, d.t, e.t?"),
    ],
)
async def test_a_name_that_means_nothing_is_told_with_where_it_stands(
    schema: str | None, elsewhere: list[str], message: str, remedy: str
) -> None:
    found = [{"schema": place, "name": "t"} for place in elsewhere]
    session = desk(relation=lambda params: found if params["schemas"] is None else [])
    with pytest.raises(UsageError) as caught:
        await find_relation(session, schema, "t", "table")
    assert (caught.value.message, caught.value.remedy) == (message, remedy)
    assert (caught.value.field, caught.value.value) == ("table", "t" if schema is None else "app.t")


A, B = "a" * 40, "b" * 40


@pytest.mark.parametrize(
    ("table", "key", "taken", "name"),
    [
        ("t", "v", (), "t_v_idx"), ("t", "v", ("t_v_idx",), "t_v_idx1"), ("t", "v", ("t_v_idx", "t_v_idx1"), "t_v_idx2"),
        ("t", "lower(w)", (), "t_lower_idx"), ("t", "(v + 1)", (), "t_expr_idx"), ("t", "app.f(v)", (), "t_f_idx"),
        ("t", "lower(a), lower(b), lower(c)", (), "t_lower_lower1_lower2_idx"), ("t", "(a + 1), v", (), "t_expr_v_idx"),
        ("t" * 29, "v" * 29, (), f"{'t' * 29}_{'v' * 29}_idx"),  # 63 bytes: it just fits
        ("t" * 29, "v" * 30, (), f"{'t' * 29}_{'v' * 29}_idx"),
        (A, "v", (), f"{A}_v_idx"), (A, B, (), f"{'a' * 29}_{'b' * 29}_idx"),
        (A, B, (f"{'a' * 29}_{'b' * 29}_idx",), f"{'a' * 29}_{'b' * 28}_idx1"),  # an odd byte is the second part's loss
        ("t" * 60, "v", (), f"{'t' * 57}_v_idx"), ("t", "v" * 60, (), f"t_{'v' * 57}_idx"),
        ("t" + "ü" * 30, "v", (), f"t{'ü' * 28}_v_idx"), ("tt" + "ü" * 30, "v", (), f"tt{'ü' * 27}_v_idx"),  # never half of one
    ],
)  # fmt: skip
def test_a_new_index_is_called_as_postgresql_would(table: str, key: str, taken: tuple[str, ...], name: str) -> None:
    assert choose_name(parse_index_statement(f"create index on t ({key})"), table, taken) == name
    assert len(name.encode()) <= 63


def test_columns_that_are_included_are_in_the_name() -> None:
    assert choose_name(parse_index_statement("create index on t (a) include (b, c)"), "t", ()) == "t_a_b_c_idx"


async def qualified(ddl: str, **answers: Any) -> tuple[str, list[Any]]:
    from indexpilot_tui.engine.postgres.ddl import render

    session = desk("app", **answers)
    found = await qualify(session, parse_index_statement(ddl))
    return render(found, schema="app", table="t", index="i", concurrently=False), session.asked[1:]


async def test_what_is_of_an_extension_is_qualified_as_our_own_sessions_know_pg_catalog_alone() -> None:
    text, asked = await qualified("create index on t using gin (w gin_trgm_ops)", operator_class="ext")
    assert "(w ext.gin_trgm_ops)" in text
    params = {"name": "gin_trgm_ops", "method": "gin", "schemas": ["pg_catalog", "app"]}
    assert asked == [("operator_class", params)]
    text, asked = await qualified("create index on t (unaccent(w)) where plain(w) > 1", function="ext")
    assert "(ext.unaccent(w)) WHERE ext.plain(w) > 1" in text
    assert ("function", {"name": "unaccent", "schemas": ["pg_catalog", "app"]}) in asked
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("key", "answers"),
    [("v", {}), ("w ext.gin_trgm_ops", {}), ("(ext.f(w))", {}), ("lower(w)", {"function": "pg_catalog"}),
     ("w text_ops", {"operator_class": "pg_catalog"})],
)  # fmt: skip
async def test_what_needs_no_schema_stays_as_it_was_written(key: str, answers: dict[str, Any]) -> None:
    text, asked = await qualified(f"create index on t ({key})", **answers)
    assert (
        text == f"CREATE INDEX i ON app.t USING btree ({key.removeprefix('(').removesuffix(')') if 'ext.f' in key else key})"
    )
    assert [name for name, _ in asked] == list(answers)  # what has a schema is not looked for


@pytest.mark.parametrize(
    ("key", "answers", "message"),
    [("w nope_ops", {"operator_class": None}, "there is no operator class nope_ops on the search path"),
     ("nope(w)", {"function": None}, "there is no function nope on the search path")],
)  # fmt: skip
async def test_what_is_nowhere_is_refused(key: str, answers: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        await qualified(f"create index on t ({key})", **answers)
    assert caught.value.message == message
    assert str(caught.value.value).startswith("nope")

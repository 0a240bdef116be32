"""Index statements: what gets through, what does not, and that the rendered text means the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexpilot_tui.engine.postgres.ddl import parse_index_statement, render
from indexpilot_tui.errors import UsageError


def test_every_clause_survives() -> None:
    s = parse_index_statement(
        'create unique index "My Idx" on s."T" using btree (lower(a) collate "C" text_pattern_ops desc nulls last, (b+1))'
        " include (c) with (fillfactor=70) where a = 'it''s' and b > 3;"
    )
    assert (s.kind, s.index, s.table_schema, s.table, s.method, s.unique) == ("create", "My Idx", "s", "T", "btree", True)
    assert s.columns == ('lower(a) COLLATE "C" text_pattern_ops DESC NULLS LAST', "(b + 1)")
    assert s.include == ("c",)
    assert s.where == "a = 'it''s' AND b > 3"
    text = render(s, schema="s", table="T", index="My Idx", concurrently=True)
    assert text.startswith('CREATE UNIQUE INDEX CONCURRENTLY "My Idx" ON s."T" USING btree (')
    again = parse_index_statement(text)
    assert (again.columns, again.include, again.where) == (s.columns, s.include, s.where)


@pytest.mark.parametrize("ddl", ["drop index a.b", "DROP INDEX CONCURRENTLY a.b"])
def test_a_drop(ddl: str) -> None:
    s = parse_index_statement(ddl)
    assert (s.kind, s.schema, s.index) == ("drop", "a", "b")
    assert render(s, schema="a", table="", index="b", concurrently=True) == "DROP INDEX CONCURRENTLY a.b"


@pytest.mark.parametrize(
    ("ddl", "words"),
    [
        ("", "found 0"),
        ("select 1", "not an index statement"),
        ("create index on t(a); drop table t", "found 2"),
        ("create index if not exists i on t(a)", "INVALID"),
        ("drop index if exists i", "mistyped"),
        ("drop index a, b", "one index"),
        ("drop index a cascade", "CASCADE"),
        ("drop table t", "only DROP INDEX"),
        ("reindex table t", "only REINDEX INDEX"),
        ("create index on only t(a)", "ON ONLY"),
        ("create index on a.b.c(d)", "database name"),
        ("create index on", "syntax error"),
        ("create index i\x00 on t(a)", "NUL"),
        ("create index " + "x" * 64 + " on t(a)", "64 bytes"),
        ('create index "' + "é" * 32 + '" on t(a)', "64 bytes"),
        ("create index on t(a) -- " + "x" * 30_000, "characters"),
    ],
)
def test_what_is_refused(ddl: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse_index_statement(ddl)
    assert caught.value.exit_status == 64


def test_a_long_constant_is_not_a_long_name() -> None:
    assert parse_index_statement("create index on t(a) where b = '" + "x" * 100 + "'").where


names = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), min_size=1, max_size=15)


@given(schema=names, table=names, index=names)
def test_no_name_can_leave_its_quotes(schema: str, table: str, index: str) -> None:
    text = render(parse_index_statement("create index on t(a)"), schema=schema, table=table, index=index, concurrently=True)
    again = parse_index_statement(text)
    assert (again.table_schema, again.table, again.index, again.columns) == (schema, table, index, ("a",))
    drop = render(parse_index_statement("drop index i"), schema=schema, table="", index=index, concurrently=True)
    dropped = parse_index_statement(drop)
    assert (dropped.schema, dropped.index) == (schema, index)


@pytest.mark.parametrize("ddl", ["reindex index app.spare", "REINDEX (CONCURRENTLY, VERBOSE) INDEX app.spare"])
def test_a_rebuild_is_written_as_every_supported_server_reads_it(ddl: str) -> None:
    """PostgreSQL 13 does not know REINDEX (CONCURRENTLY)."""
    text = render(parse_index_statement(ddl), schema="App", table="", index="spare", concurrently=True)
    assert text == 'REINDEX INDEX CONCURRENTLY "App".spare'
    assert parse_index_statement(text).concurrently

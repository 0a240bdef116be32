"""Family 23: names and texts that a terminal would obey, a format string would fill in or a shell would split, carried through
every kind of change. The server gets them to the letter, everybody else sees marks."""

from __future__ import annotations

import unicodedata
from datetime import timedelta

import psycopg
import pytest
from psycopg import sql

from indexpilot_tui.cli.change_output import change_lines
from indexpilot_tui.engine.changes import stats
from indexpilot_tui.engine.changes.book import Book
from indexpilot_tui.engine.changes.rollback import propose_rollback
from indexpilot_tui.engine.model.change import Change, State
from indexpilot_tui.tui.lines import text_of
from indexpilot_tui.tui.screens.steps.progress_text import progress_lines
from tests.faults.scenes import END, LAST_WAIT, OLD_SNAPSHOT, phase
from tests.faults.workshop import OWNER, Workshop, actions, check_intents, story

NAMES = {
    "terminal and markup": "\x1b]52;c;b3du\x07\x1b[2J\x9b31m[@click=app.quit]q[/foo][/]\\[",
    "direction and lines": "a\u202egnp.xe\u200b\u2066\r\n-- b\n\tdrop table",
    "quotes and format": 'a"b\'c""$x$`id`;-- %s %(x)s {} {0} %% $1 :name',
    "long": "é" * 31 + "x",  # 63 bytes, the most there may be
}
REASON = "".join(NAMES.values())


def harmless(text: str) -> bool:
    return not any(unicodedata.category(ch) in ("Cc", "Cf", "Cs") for ch in text.replace("\n", ""))


def shown(workshop: Workshop, change: Change) -> str:
    """What the command line and the console print of a change."""
    lines = change_lines(change)
    lines += [text_of(entry) for entry in progress_lines(change, None, change.state_since, 100)]
    assert all(harmless(entry) and "\n" not in entry for entry in lines), [entry for entry in lines if not harmless(entry)]
    book = Book.of(workshop.monitor.facts.system_identifier, workshop.dbname, change.id)
    assert book.path.read_bytes().replace(b"\n", b"").decode("ascii").isprintable()
    return "\n".join(lines)


async def go(workshop: Workshop, ddl: str) -> Change:
    plan = await workshop.plan(ddl)
    change_id = await workshop.journal.propose(plan, target="test", reason=REASON)
    await stats.remember(workshop.monitor, workshop.journal, change_id, "proposed")
    await workshop.approver.approve(change_id, plan.sha256, timedelta(hours=1))
    await workshop.spawn(change_id)
    change = await workshop.until(change_id, *END)
    check_intents(change)
    shown(workshop, change)
    return change


async def back(workshop: Workshop, change: Change) -> None:
    child = await propose_rollback(workshop.monitor, workshop.journal, change, REASON)
    await workshop.spawn(child)
    shown(workshop, await workshop.until(child, State.DONE))


@pytest.mark.family(23)
@pytest.mark.parametrize("turn", [0, 2])
async def test_built_taken_back_dropped_and_had_back(workshop: Workshop, turn: int) -> None:
    """Schema, table, column and index have one of the names each; the predicate and the comment have all of them."""
    names = [*NAMES.values()][turn:] + [*NAMES.values()][:turn]
    schema, table, column, index = (sql.Identifier(name) for name in names)
    with psycopg.connect(workshop.superuser(), autocommit=True) as conn:
        conn.execute(sql.SQL("create schema {} authorization {}").format(schema, sql.Identifier(OWNER)))
        conn.execute(sql.SQL("set role {}").format(sql.Identifier(OWNER)))
        conn.execute(sql.SQL("create table {}.{} ({} text, b int)").format(schema, table, column))
        fill = "insert into {}.{} select {}, n from generate_series(1, 500) n"
        conn.execute(sql.SQL(fill).format(schema, table, sql.Literal(REASON)))
        conn.execute(sql.SQL("analyze {}.{}").format(schema, table))

        def there() -> list[tuple[object, ...]]:
            question = "select indexdef from pg_indexes where schemaname = %s and indexname = %s"
            return conn.execute(question, (names[0], names[3])).fetchall()

        create = sql.SQL("create index {} on {}.{} (lower({}), b) where {} <> {}").format(
            index, schema, table, column, column, sql.Literal(REASON + "?")
        )
        change = await go(workshop, create.as_string())
        assert len(there()) == 1, story(change)
        await back(workshop, change)
        assert there() == []

        conn.execute(create)
        conn.execute(sql.SQL("comment on index {}.{} is {}").format(schema, index, sql.Literal(REASON)))
        before = there()
        change = await go(workshop, sql.SQL("drop index {}.{}").format(schema, index).as_string())
        assert there() == [], story(change)
        await back(workshop, change)
        assert there() == before
        kept = conn.execute("select obj_description(oid) from pg_class where relname = %s", (names[3],)).fetchall()
        assert kept == [(REASON,)]


@pytest.mark.family(23)
async def test_a_leftover_with_a_hostile_name_behind_a_hostile_session(workshop: Workshop) -> None:
    """The session that holds the build up shows a hostile text of its own; the leftover is found and removed."""
    evil = NAMES["terminal and markup"]
    change_id = await workshop.approved(
        sql.SQL("create unique index {} on app.t (id, v)").format(sql.Identifier(evil)).as_string()
    )
    held = workshop.blocker(OLD_SNAPSHOT[0], f"{OLD_SNAPSHOT[1]} /* {evil} */")
    await workshop.spawn(change_id)
    await phase(workshop, LAST_WAIT, change_id)
    await workshop.journal.request_abort(change_id, REASON)
    change = await workshop.until(change_id, State.FAILED)
    held.close()
    assert "clean.intent" in actions(change)
    assert workshop.invalid() == []
    assert "\u241b]52;c;" in shown(workshop, change)
    check_intents(change)

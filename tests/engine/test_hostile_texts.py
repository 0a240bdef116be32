"""Family 23 at the boundary: whatever a server holds in names and texts leaves the engine harmless and of bounded length."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from psycopg import sql

from indexpilot_tui.engine.observe.observer import Watcher
from indexpilot_tui.localpg import LocalCluster
from tests.engine.observe_room import SETTINGS, make_place

EVIL = "\x1b]52;c;b3du\x07\x1b[2J[@click=app.quit]q[/foo] \u202egnp\u200b\x9b31m\r\n'\" %s %(x)s {} $1"
TABLE, COLUMN, INDEX = "\x1b[2J[/t]\u202e\"'%s{}", "c\n\x07[@click=app.quit]", "i\x1b]52;c;b3du\x07[/foo]%(x)s"
MEGABYTE = 1_000_000
RAW = (
    "fix",
    "raw_query",
    "table_names",
    "database_names",
)  # to be executed, planned or matched: whoever shows them cleans them


def texts(value: Any) -> Iterator[str]:
    """Every string in there, however deep."""
    if isinstance(value, str):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if field.name not in RAW:
                yield from texts(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts(key)
            yield from texts(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from texts(item)


def obeyed(text: str) -> str:
    """What a terminal would obey in it, or be deceived by."""
    return "".join(ch for ch in text if ch not in "\n\t" and unicodedata.category(ch) in ("Cc", "Cf", "Cs"))


@pytest.mark.family(23, no_oracle="looking only, nothing is changed")
async def test_nothing_that_a_look_returns_is_obeyed(cluster18: LocalCluster) -> None:
    async with make_place(cluster18) as place:
        table, column, index = sql.Identifier(TABLE), sql.Identifier(COLUMN), sql.Identifier(INDEX)
        await place.admin.execute(sql.SQL("create table {} ({} int, b int)").format(table, column))
        await place.admin.execute(sql.SQL("create index {} on {} ({})").format(index, table, column))
        await place.admin.execute(sql.SQL("create index {} on {} ({})").format(sql.Identifier(INDEX + "2"), table, column))
        held = await place.connection()
        await held.execute(f"/* {EVIL} */ begin isolation level repeatable read".encode())
        await held.execute(f"select 1 /* {EVIL} */".encode())
        watcher = Watcher(SETTINGS)
        async with place.session() as session:
            await watcher.refresh(session)
            long = sql.SQL("select {} as {}, {} from {} where {} = 1").format(
                1, sql.Identifier(EVIL[:20]), sql.SQL("/*" + EVIL.replace("*/", "") + "x" * MEGABYTE + "*/ 2"), table, column
            )
            for _ in range(3):
                await place.admin.execute(long)
            seen = await watcher.refresh(session)
            hottest = max(seen.hotspots.items, key=lambda spot: len(spot.query))
            detail = watcher.detail(hottest.queryid)
        await held.close()
    said = [*texts(seen), *texts(detail)]
    assert [obeyed(text) for text in said if obeyed(text)] == []
    assert any("\u241b]52;c;" in text for text in said), "the index with the hostile name was not seen at all"
    assert hottest.query.count("x") > 3_000, "nor was the query of a megabyte"
    assert max(map(len, said)) < 110_000

"""What the catalog's answers mean: an index that is there, whole and of which kind; a process that is still the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from indexpilot_tui.engine.changes import catalog
from indexpilot_tui.engine.changes.catalog import Backend
from indexpilot_tui.errors import ServerError
from tests.unit.bench_of_changes import index
from tests.unit.desk import NOW, Desk

ROW = {"oid": 7, "schema": "s", "name": "i", "table_oid": 8, "valid": True, "ready": True, "live": True, "is_unique": False,
       "has_expressions": False, "building": False, "relkind": "i", "parent": None}  # fmt: skip


def desk(**answers: Any) -> Any:
    return Desk(answers, package="indexpilot_tui.engine.changes")


async def test_an_index_is_found_by_its_oid_or_by_its_name_and_gone_is_none() -> None:
    session = desk(index=ROW)
    by_oid, by_name = await catalog.index_by_oid(session, 7), await catalog.index_by_name(session, "s", "i")
    assert by_oid == by_name
    assert by_oid is not None
    assert (by_oid.oid, by_oid.schema, by_oid.name, by_oid.table_oid) == (7, "s", "i", 8)
    assert (by_oid.valid, by_oid.unique, by_oid.building, by_oid.partitioned, by_oid.parent) == (
        True,
        False,
        False,
        False,
        None,
    )
    asked = [params for _, params in session.asked]
    assert asked == [{"oid": 7, "schema": None, "name": None}, {"oid": None, "schema": "s", "name": "i"}]
    assert await catalog.index_by_oid(desk(index=None), 7) is None
    assert await catalog.index_by_name(desk(index=None), "s", "i") is None


async def test_the_index_of_a_partitioned_table_is_told_from_one_with_storage() -> None:
    found = await catalog.indexes_of(desk(part_indexes=[ROW | {"relkind": "I"}, ROW | {"parent": 7, "oid": 9}]), [8])
    assert [(facts.partitioned, facts.parent) for facts in found] == [(True, None), (False, 7)]


@pytest.mark.parametrize(
    ("changed", "told"),
    [({}, "valid, ready, live"), ({"valid": False}, "not valid, ready, live"), ({"ready": False}, "valid, not ready, live"),
     ({"live": False}, "valid, ready, not live")],
)  # fmt: skip
def test_the_flags_of_an_index_in_words(changed: dict[str, Any], told: str) -> None:
    assert replace(index(), **changed).flags == told


@pytest.mark.parametrize(
    ("row", "found"),
    [({"definition": "d", "size_bytes": 8192}, ("d", 8192)), ({"definition": "d", "size_bytes": None}, ("d", 0)),
     ({"definition": None, "size_bytes": None}, None), (None, None)],
)  # fmt: skip
async def test_an_index_that_goes_while_it_is_read_has_no_definition(row: Any, found: Any) -> None:
    assert await catalog.index_text(desk(index_text=row), 7) == found


async def test_a_table_has_a_place_and_an_owner_or_is_gone() -> None:
    row = {"schema": "s", "name": "t", "owner": "o"}
    assert await catalog.table_now(desk(table_now=row), 8) == ("s", "t", "o")
    assert await catalog.table_now(desk(table_now=None), 8) is None


async def test_a_process_is_known_by_its_start_and_one_that_is_not_told_is_no_process() -> None:
    session = desk(own_backend={"pid": 55, "backend_start": NOW})
    assert await catalog.own_backend(session) == Backend(55, NOW)
    for row in (None, {"pid": 55, "backend_start": None}):
        with pytest.raises(ServerError, match="does not tell which process"):
            await catalog.own_backend(desk(own_backend=row))
    there = desk(backend={"pid": 55})
    assert await catalog.backend_alive(there, Backend(55, NOW)) is True
    assert there.asked == [("backend", {"pid": 55, "backend_start": NOW})]
    assert await catalog.backend_alive(desk(backend=None), Backend(55, NOW)) is False

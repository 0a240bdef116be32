"""What an index that is built anew stands for, and what one build took; no server is needed for that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from indexpilot_tui.engine.changes import measured, rebuild
from indexpilot_tui.errors import ServerError
from tests.unit.bench_of_changes import REBUILD, index
from tests.unit.desk import Desk

DDL = "create index concurrently i on t (a)"


@pytest.mark.parametrize(
    ("home", "rows", "told"),
    [
        ("public", [{"query": DDL, "calls": 1, "wal_bytes": 5, "temp_bytes": 6}], {"wal_bytes": 5, "temp_bytes": 6}),
        ("public", [{"query": DDL, "calls": 2, "wal_bytes": 5, "temp_bytes": 6}], "2 times"),
        ("public", [{"query": DDL, "calls": 1}] * 2, "2 times"), ("public", [{"query": "select 1", "calls": 1}], "not at all"),
        ("public", [], "not at all"), (None, [], "not installed"), ("public", [{"query": "cut off", "calls": 1}], "not at all"),
    ],
)  # fmt: skip
async def test_what_one_statement_took(home: Any, rows: list[Any], told: Any) -> None:
    answers = iter(({"rows": 1, "heap_bytes": 2, "partial": False}, home, rows))
    found = await measured.of_build(Desk({"other": lambda _: next(answers)}), 7, DDL)  # type: ignore[arg-type]
    assert found["heap_bytes"] == 2
    assert told in found["not_measured"] if isinstance(told, str) else found | told == found
    broken = iter((None, "public", [{"query": "cut off", "calls": 1}]))
    assert "not at all" in (await measured.of_build(Desk({"other": lambda _: next(broken)}), 7, "cut off"))["not_measured"]  # type: ignore[arg-type]


async def test_what_cannot_be_measured_hinders_nothing_on_a_session_that_lives() -> None:
    for closed in (False, True):
        desk: Any = Desk({"other": ServerError("no right")}, closed=closed)
        if closed:
            with pytest.raises(ServerError):
                await measured.of_build(desk, 7, DDL)
        else:
            assert await measured.of_build(desk, 7, DDL) == {"not_measured": "no right"}


def catalog(monkeypatch: pytest.MonkeyPatch, *, named: Any = None, by_oid: Any = None, text: Any = "d") -> None:
    async def index_by_name(*_: Any) -> Any:
        return named

    async def index_by_oid(eye: Any, oid: int) -> Any:
        return (by_oid or {}).get(oid)

    async def index_text(*_: Any) -> Any:
        return None if text is None else (text, 8192)

    for name, asked in (("index_by_name", index_by_name), ("index_by_oid", index_by_oid), ("index_text", index_text)):
        monkeypatch.setattr(rebuild, name, asked)


OLD = replace(REBUILD, saved={"definition": "d"})


@pytest.mark.parametrize(
    ("named", "text", "replaced", "wrong"),
    [
        (index(8), "d", True, ""), (index(7), "d", False, ""), (None, "d", False, "there is no index"),
        (index(8, table_oid=1), "d", False, "is on another table"), (index(8), "other", False, "is another index now"),
        (index(8), None, False, "is another index now"),
    ],
)  # fmt: skip
async def test_which_of_the_two_is_in_place(
    monkeypatch: pytest.MonkeyPatch, named: Any, text: Any, replaced: bool, wrong: str
) -> None:
    catalog(monkeypatch, named=named, text=text)
    desk: Any = Desk({"rebuild_copies": []}, package="indexpilot_tui.engine.changes")
    found = await rebuild.look(desk, OLD, {"indexes": [7, 3]}, None)
    assert (found.replaced, found.current, found.leftover) == (replaced, named, None)
    assert wrong in found.wrong
    assert bool(found.wrong) is bool(wrong)
    assert desk.asked[0][1]["before"] == [3]  # the old index may be the copy that is left


@pytest.mark.parametrize(
    ("rows", "copy", "left"),
    [
        ([8], None, 8),
        ([8], 8, 8),
        ([9], 8, None),
        ([7], 8, 7),
        ([9, 8], 8, 8),
        ([5], None, None),
        ([6], None, None),
        ([], None, None),
    ],
)
async def test_which_copy_is_ours(monkeypatch: pytest.MonkeyPatch, rows: list[int], copy: Any, left: Any) -> None:
    broken = {oid: index(oid, valid=False) for oid in (7, 8, 9)} | {5: index(5)}  # 6 is gone, 5 is valid
    catalog(monkeypatch, named=index(7), by_oid=broken)
    desk: Any = Desk({"rebuild_copies": [{"oid": oid} for oid in rows]}, package="indexpilot_tui.engine.changes")
    found = (await rebuild.look(desk, OLD, {}, copy)).leftover
    assert (found.oid if found else None) == left


async def test_what_stood_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for saved, text, size in (({"relfilenode": 5}, "d", 8192), (None, None, None)):
        catalog(monkeypatch, text=text)
        desk: Any = Desk({"index_saved": saved, "index_oids": [{"oid": 7}]}, package="indexpilot_tui.engine.changes")
        found = await rebuild.standing(desk, OLD)
        assert found == {"oid": 7, "relfilenode": 5 if saved else None, "size_bytes": size, "indexes": [7]}
    gone: Any = Desk({"index_saved": None}, package="indexpilot_tui.engine.changes")
    assert await rebuild.lost_properties(gone, OLD, 7) == ["the index is gone"]
    monkeypatch.setattr(rebuild, "properties", lambda saved: {"comment": saved["comment"]})
    there: Any = Desk({"index_saved": {"comment": "x"}}, package="indexpilot_tui.engine.changes")
    commented = replace(OLD, saved={"comment": "y"})
    assert await rebuild.lost_properties(there, commented, 7) == ["comment: 'y', now 'x'"]
    assert await rebuild.lost_properties(there, replace(OLD, saved={"comment": "x"}), 7) == []

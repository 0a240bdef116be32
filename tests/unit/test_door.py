"""The one door for DDL: what it wants to see before each deed, and how a leftover is removed; no server is needed."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from indexpilot_tui.engine.changes import executor, keeping, predecessor
from indexpilot_tui.engine.changes.executor import Door, lock_key, outcome_of
from indexpilot_tui.engine.model.change import State, Step
from indexpilot_tui.errors import RefusedError
from tests.unit.bench_of_changes import BACKEND, Noted, index
from tests.unit.desk import PLAN, Desk, change
from tests.unit.test_deciding import GOOD

STEPS = (Step("root", "create r", "public", "orders", 1, "r"), Step("leaf", "create l", "public", "p", 2, "l"))


class Cursor:
    """Notes what is sent; `row` is every answer."""

    def __init__(self, sent: list[str], row: Any) -> None:
        self.sent, self.row = sent, row

    async def __aenter__(self) -> Cursor:
        return self

    async def __aexit__(self, *_: Any) -> None: ...

    async def execute(self, statement: Any, params: Any = None) -> None:
        text = statement if isinstance(statement, str) else statement.as_string(None)
        self.sent.append(f"{text} {params[0]}" if params and "set_config" in text else text)

    async def fetchone(self) -> Any:
        return self.row


class Executor(Desk):
    """An executor's session."""

    def __init__(self, row: Any = None, locks: Any = None) -> None:
        super().__init__({"other": lambda _: locks.pop(0) if isinstance(locks, list) else locks})
        self.sent: list[str] = []
        self.readback = {"a": "b"}

        @asynccontextmanager
        async def transaction(**_: Any) -> Any:
            yield

        self.conn = SimpleNamespace(
            add_notice_handler=lambda _: None, cursor=lambda: Cursor(self.sent, row), transaction=transaction
        )

    async def execute(self, statement: Any) -> None:
        self.sent.append(statement if isinstance(statement, str) else statement.as_string(None))


class Kept(Noted):
    change_id = 1
    epoch = 3

    async def append(self, action: str, detail: Any) -> None:
        self.told.append((None, action, detail))

    async def set_part(self, position: int, state: str, oid: int | None) -> None:
        self.told.append((None, f"part {position} {state}", {}))


def door(plan: Any = GOOD, **session: Any) -> Any:
    return Door(Executor(**session), Kept(), plan, BACKEND)  # type: ignore[arg-type]


class Leave:
    """A clearance that is good for `times` questions of one deed."""

    def __init__(self, deed: str, times: int = 9) -> None:
        self.deed, self.times = deed, times

    def check(self, *, deed: str, **_: Any) -> None:
        self.times -= 1
        if deed != self.deed or self.times < 0:
            raise RefusedError("no leave")


async def test_a_change_is_sent_with_leave_its_own_text_and_the_intent_before_it() -> None:
    made = door()
    await (await made.start_change(Leave("change")))
    assert (made.session.sent, made.hold.told[0][:2]) == ([GOOD.ddl], (State.RUNNING, "ddl.intent"))
    assert "before" not in made.hold.last
    made = door()
    await (await made.start_change(Leave("change"), before={"oid": 7}))
    assert made.hold.last["before"] == {"oid": 7}
    made = door()
    await (await made.start_change(Leave("change"), repair=True))
    assert made.session.sent[0].startswith("REINDEX INDEX CONCURRENTLY")
    for leave in (Leave("clean"), Leave("change", 1)):  # of another deed, or ended while the intent was written
        made = door()
        with pytest.raises(RefusedError):
            await made.start_change(leave)
        assert made.session.sent == []
    with pytest.raises(RefusedError, match="not what the plan says"):
        await door(replace(GOOD, unique=True)).start_change(Leave("change"))
    made = door()
    made.hold.fenced = True
    with pytest.raises(RefusedError, match="taken this change over"):
        await made.start_change(Leave("change"))


@pytest.mark.parametrize(
    ("position", "lock", "sent"), [(0, None, True), (1, True, True), (1, False, False), (1, None, False)]
)
async def test_a_step_that_builds_locks_its_table(position: int, lock: Any, sent: bool) -> None:
    made = door(replace(GOOD, steps=STEPS), locks=lock)
    if not sent:
        with pytest.raises(RefusedError, match="holds the lock for changes of p"):
            await made.start_step(Leave("change"), position)
        assert made.hold.told == []
        return
    await (await made.start_step(Leave("change"), position))
    assert made.hold.actions == ["part.intent", f"part {position} begun"]
    briefly = [s for s in made.session.sent if "set_config" in s]
    assert ("select 1" in made.session.sent) is (position == 0)  # a lost session shows before there is an intent
    assert (len(briefly), STEPS[position].ddl in made.session.sent) == (0 if position else 2, True)


@pytest.mark.parametrize(
    ("facts", "ours", "sent"),
    [
        (index(valid=False), False, "drop index concurrently"), (index(), False, ""), (index(), True, "drop index concurrently"),
        (index(valid=False, partitioned=True), True, "drop index "),
    ],
)  # fmt: skip
async def test_only_a_leftover_is_removed(facts: Any, ours: bool, sent: str) -> None:
    made = door(row=(7,))
    if not sent:
        with pytest.raises(RefusedError, match="not a leftover"):
            await made.start_cleaning(Leave("clean"), facts, made_by_us=ours)
        return
    await (await made.start_cleaning(Leave("clean"), facts, made_by_us=ours))
    drops = [s for s in made.session.sent if s.startswith("drop")]
    assert drops == [f'{sent.strip()} "public"."ixp_leftover_7"']
    assert any("set_config" in s for s in made.session.sent) is facts.partitioned
    assert any("rename to" in s for s in made.session.sent)


async def test_a_name_that_is_another_index_by_now_is_not_dropped() -> None:
    for row in ((8,), None):
        made = door(row=row)
        with pytest.raises(RefusedError, match="another index by now"):
            await made.start_cleaning(Leave("clean"), index(valid=False))
        assert not any(s.startswith("drop") for s in made.session.sent)
    made = door(row=(8,))
    await (await made.start_cleaning(Leave("clean"), index(valid=False, name="ixp_leftover_7")))
    assert not any("rename" in s for s in made.session.sent)  # it was given its name before


async def test_finishing_waits_briefly_and_gives_the_timeout_back() -> None:
    made = door()
    await (await made.start_finishing(Leave("finish"), "analyze", sql.SQL("analyze x").format()))
    assert [s.split()[-1] for s in made.session.sent] == ["2s", "x", "0"]
    made = door()
    made.session.closed = True
    await made._briefly(sql.SQL("x"), "1s")
    assert len(made.session.sent) == 2  # nothing is said on a session that is gone


async def test_duplicates_are_counted_or_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a connection of its own, whose end is asked for; `answers` are those of the count and of the question after it."""
    closed: list[bool] = []
    place = SimpleNamespace(target=object(), settings=object())

    async def counted(*answers: Any) -> tuple[tuple[int, int], list[str]]:
        sent: list[str] = []
        left = list(answers)

        class Counter(Cursor):
            async def fetchone(self) -> Any:
                return left.pop(0)

        async def close() -> None:
            closed.append(True)

        async def connect(*_: Any, application_name: str) -> Any:
            assert application_name == "ixp-count:1"
            return SimpleNamespace(conn=SimpleNamespace(cursor=lambda: Counter(sent, None)), close=close)

        monkeypatch.setattr(executor, "connect", connect)
        return await door().count_duplicates(place, sql.SQL("select").format(), 1.5), sent  # type: ignore[arg-type]

    found, sent = await counted((2, 4), (True,))
    assert found == (2, 4)
    assert sent[0].endswith("read only")
    assert sent[1].endswith("statement_timeout")
    assert sent[3:5] == [f'set local role "{GOOD.owner}"', "select"]
    with pytest.raises(psycopg.DataError):
        await counted(None, (True,))
    for kept in ((False,), None):
        with pytest.raises(RefusedError, match="not used"):
            await counted((2, 4), kept)
    assert len(closed) == 4


@pytest.mark.parametrize(
    ("locks", "ended", "opened"),
    [
        ([True], False, True),
        ([False], False, False),
        ([False, True], True, True),
        ([False, False], True, False),
        ([None], False, False),
    ],
)
async def test_the_tables_lock_is_only_tried_for(
    monkeypatch: pytest.MonkeyPatch, locks: list[Any], ended: bool, opened: bool
) -> None:
    locks = list(locks)
    session = Executor(locks=locks)

    async def connect(*_: Any, **__: Any) -> Any:
        return session

    async def predecessors(*_: Any) -> bool:
        return ended

    async def backend(*_: Any) -> Any:
        return BACKEND

    monkeypatch.setattr(executor, "connect", connect)
    monkeypatch.setattr(executor, "end_predecessors", predecessors)
    monkeypatch.setattr(executor, "own_backend", backend)
    made = await Door.open(None, None, Kept(), PLAN)  # type: ignore[arg-type]
    assert (made is not None, session.closed, locks) == (opened, not opened, [])
    assert session.sent == (['set role "shop"'] if opened else [])
    assert lock_key(2**31 + 5) == (0x1D8F, 5)


def test_what_the_server_remarks_is_kept() -> None:
    made = door()
    for text in ("a notice", None):
        made._notice(SimpleNamespace(message_primary=text))
    assert made.notices == ["a notice", ""]


def test_the_outcome_keeps_no_row() -> None:
    assert outcome_of(None) == {"ok": True}
    assert outcome_of(psycopg.errors.UniqueViolation("m")) == {"ok": False, "sqlstate": "23505", "message": "m"}
    assert outcome_of(OSError()) == {"ok": False, "sqlstate": None, "message": "OSError"}


@pytest.mark.parametrize(
    ("rows", "waits", "ended"), [([[]], 0, False), ([[1], []], 0, True), ([[1], [1], [1], []], 2, True), ([[1]], 50, False)]
)
async def test_a_predecessor_is_ended_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, rows: list[Any], waits: int, ended: bool
) -> None:
    clock, rows = [0.0, 0], list(rows)
    who = {"pid": 5, "backend_start": "x", "state": "idle"}

    async def sleep(seconds: float) -> None:
        clock[0] += seconds
        clock[1] += 1

    def answer(params: Any) -> Any:
        found = rows.pop(0) if len(rows) > 1 else rows[0]
        return [who] * len(found)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: round(clock[0], 3))
    hold: Any = Kept()
    desk: Any = Desk({"predecessors": answer, "terminate": True}, package="indexpilot_tui.engine.changes")
    expected = [] if rows[0] == [] else ["terminate.intent", "terminate.sent"]
    assert await predecessor.end_predecessors(desk, hold, (1, 2)) is ended
    assert (clock[1], hold.actions) == (waits, expected)


@pytest.mark.parametrize(("state", "kept"), [(State.OBSERVING, True), (State.DONE, False)])
async def test_only_what_is_observed_is_kept(state: State, kept: bool) -> None:
    async def now(change_id: int) -> Any:
        return change(state)

    rows: list[str] = []

    async def append(change_id: int, epoch: int, action: str, detail: Any) -> None:
        rows.append(action)

    journal: Any = SimpleNamespace(change=now, append=append)
    if kept:
        await keeping.keep(journal, 1)
    else:
        with pytest.raises(RefusedError):
            await keeping.keep(journal, 1)
    assert rows == (["kept"] if kept else [])

"""The common oracle: what must hold after every fault, read by a superuser beside the engine (reference, section 4).

1. No INVALID index of ours, unless the change that left it is still at it or has called a person.
2. The row of every change says what the catalog says.
3. Every deed has its intent before it and its outcome after it, also as the server's own log saw the deeds; the chain holds.
4. No reader or writer waited longer than MOST_WAIT_S because of us.
5. No slot of the rate limit is lost or doubled.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from psycopg.rows import dict_row

from indexpilot_tui.engine.changes.definition import differences
from indexpilot_tui.engine.journal.chain import Verifier
from indexpilot_tui.engine.model.change import ACTIVE_STATES, END_STATES, Plan, State
from tests.faults.table import HELD, NOT_ASKED, VIOLATED
from tests.faults.traffic import Traffic

MOST_WAIT_S = 3.0
SETTLE_S = 25.0
ALREADY = "asked already"  # by the test itself, before something went that it needs
LOG_PREFIX = "%n|%p|%a|%d|"
_LINE = re.compile(
    r"^(?P<at>\d+\.\d+)\|(?P<pid>\d+)\|(?P<app>[^|]*)\|(?P<db>[^|]*)\|LOG:  (?:statement|execute [^:]*): (?P<sql>.*)$"
)
_LOOKS = ("select", "set", "begin", "commit", "rollback", "show", "with", "savepoint", "release")
# What ends an intent besides its own `.outcome`: the deed was sent, or whoever comes next says what became of it.
_ENDS = {
    "ddl": {"ddl.outcome", "lost", "backend.gone", "takeover"},
    "part": {"part.outcome", "lost", "backend.gone", "takeover"},  # one step of a change on a partitioned table
    "cancel": {"cancel.sent", "cancel.failed", "backend.gone", "ddl.outcome", "clean.outcome", "lost", "takeover"},
    "terminate": {"terminate.sent", "terminate.failed", "backend.gone", "ddl.outcome", "lost", "takeover"},
    "clean": {"clean.outcome", "cleaned", "takeover", "needs_operator"},
    "verify": {"verified", "needs_operator", "takeover"},
}


class Site(Protocol):
    """What the oracle needs of a workshop."""

    dbname: str
    log: Path
    log_from: int
    traffic_of: Traffic | None
    theirs: set[str]
    left: dict[int, str]
    not_asked: str

    @property
    def rate_window_s(self) -> float: ...
    def superuser(self) -> str: ...
    def control_superuser(self) -> str: ...


@dataclass
class Case:
    """The running test, as the table will show it."""

    item: pytest.Item | None
    said: list[str] = field(default_factory=list)

    def say(self, word: str) -> None:
        self.said.append(word)


_current: list[Case] = []


@contextmanager
def case(item: pytest.Item) -> Iterator[Case]:
    """Everything that is asked in here is of this test; one line about it goes into the report."""
    made = Case(item)
    _current.append(made)
    try:
        yield made
    finally:
        _current.remove(made)
        if item is not None:
            item.user_properties += [("oracle", word) for word in made.said]


def listening() -> bool:
    """Whether this is a fault test, at whose end the oracle is asked."""
    return bool(_current)


async def hold(site: Site, *, failed: bool = False) -> None:
    """Ask the oracle at the end of a test and fail the test when it does not hold. `failed`: the test has failed already,
    so only the record is made. Nothing happens outside of a fault test."""
    if not _current:
        return
    made = _current[-1]
    if site.not_asked == ALREADY and made.said:
        return
    if site.not_asked:
        made.say(f"{NOT_ASKED}{site.not_asked}")
        return
    try:
        violations = await ask(site, settle_s=0 if failed else SETTLE_S)
    except psycopg.OperationalError as exc:
        if not failed:
            raise
        violations = [f"it could not be asked: {exc}"]
    made.say(f"{VIOLATED}{violations[0]}" if violations else HELD)
    if violations and not failed:
        pytest.fail("the common oracle does not hold:\n" + "\n".join(violations), pytrace=False)


async def ask(site: Site, *, settle_s: float = SETTLE_S) -> list[str]:
    """Everything that does not hold, one sentence each. Executors that are at work get `settle_s` to come to an end."""
    await _settle(site, settle_s)
    with psycopg.connect(site.control_superuser(), autocommit=True, row_factory=dict_row) as conn:
        changes = conn.execute("select * from indexpilot.changes order by id").fetchall()
        log = conn.execute("select * from indexpilot.mutation_log order by seq").fetchall()
        head = conn.execute("select seq, hash from indexpilot.chain_head").fetchone()
        slots = conn.execute("select change_id, count(*)::int as n from indexpilot.rate_slots group by 1").fetchall()
    found = [*_unfinished(site, changes), *_chain(log, head), *_slots(site, changes, log, slots)]
    with psycopg.connect(site.superuser(), autocommit=True, row_factory=dict_row) as conn:
        found += _catalog(site, conn, [c for c in changes if json.loads(c["plan"])["database"] == site.dbname])
    for change in changes:
        rows = [r for r in log if r["change_id"] == change["id"]]
        found += _pairs(
            change["id"], rows, ended=change["id"] not in site.left and State(change["state"]) not in ACTIVE_STATES
        )
    found += _deeds(site, log)
    if site.traffic_of is not None:
        found += _waits(site.traffic_of)
    return found


async def _settle(site: Site, seconds: float) -> None:
    """Wait while an executor of this database is at work on a change that is being carried out."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with psycopg.connect(site.control_superuser(), autocommit=True) as conn:
            active = conn.execute(
                "select id from indexpilot.changes where state = any (%s)",
                ([s.value for s in (*ACTIVE_STATES, State.QUEUED)],),
            ).fetchall()
            alive = conn.execute(
                "select 1 from pg_stat_activity where application_name like 'ixp-eye:%' or application_name = 'indexpilot-control'"
            ).fetchall()
        if not alive or not [row for row in active if row[0] not in site.left]:
            return
        await asyncio.sleep(0.2)


def _unfinished(site: Site, changes: list[dict[str, Any]]) -> Iterator[str]:
    for change in changes:
        if State(change["state"]) in ACTIVE_STATES and change["id"] not in site.left:
            yield f"change {change['id']} is {change['state']} and nobody brings it to an end"


# -- 1 and 2: the catalog ----------------------------------------------------------------------------------------------


_INDEXES = """
select i.indexrelid::int8 as oid, i.indrelid::int8 as table_oid, n.nspname as schema, c.relname as name,
       i.indisvalid as valid, i.indisready as ready, i.indislive as live, pg_get_indexdef(i.indexrelid) as definition
from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
where i.indrelid > 16383 and n.nspname not in ('indexpilot', 'pg_toast')
"""


def _catalog(site: Site, conn: psycopg.Connection[Any], changes: list[dict[str, Any]]) -> Iterator[str]:
    conn.execute("set lock_timeout = '5s'")
    indexes = {row["oid"]: row for row in conn.execute(_INDEXES).fetchall()}
    tables = {row["oid"] for row in conn.execute("select oid::int8 as oid from pg_class").fetchall()}
    excused = {
        oid
        for change in changes
        if State(change["state"]) in ACTIVE_STATES | {State.NEEDS_OPERATOR}
        for oid in (change["index_oid"], Plan.from_json(json.loads(change["plan"])).index_oid)
    }
    at_work = any(State(c["state"]) in ACTIVE_STATES for c in changes)
    for row in indexes.values():
        name = f"{row['schema']}.{row['name']}"
        if not row["valid"] and name not in site.theirs and row["oid"] not in excused and not at_work:
            yield f"an INVALID index is left behind: {name} (OID {row['oid']})"
    newest = {index: c["id"] for c in changes if _remade(c) for index in _touched(c, changes)}
    for change in changes:
        # what a later change made of the same index is told by that one
        if change["id"] not in site.left and newest.get(_index(change), 0) <= change["id"]:
            plan = Plan.from_json(json.loads(change["plan"]))
            wrong = _told(site, change, plan, indexes) if plan.table_oid in tables else ""
            if wrong:
                yield f"change {change['id']} ({plan.kind}) is {change['state']}, but {wrong}"


def _remade(change: dict[str, Any]) -> bool:
    """Whether a change has made something else of its index; a drop that was not finished may have built it anew."""
    if State(change["state"]) in (State.OBSERVING, State.DONE, State.ROLLED_BACK):
        return True
    repaired = change["index_oid"] not in (None, json.loads(change["plan"])["index_oid"])
    return change["kind"] == "drop" and change["state"] == State.FAILED and repaired


def _touched(change: dict[str, Any], changes: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """The indexes that a change makes or drops: of a partitioned table also those of its partitions, which go with the whole
    though the plan of the drop does not name them."""
    plan, index = json.loads(change["plan"]), _index(change)
    if change["kind"] == "drop" and plan.get("steps"):
        makers = [c for c in changes if c["id"] < change["id"] and c["kind"] == "create" and _index(c) == index]
        plan = json.loads(makers[-1]["plan"]) if makers else plan
    return {index} | {(step["schema"], step["index"]) for step in plan.get("steps", ())}


def _index(change: dict[str, Any]) -> tuple[str, str]:
    plan = json.loads(change["plan"])
    return plan["schema"], plan["index"]


def _told(site: Site, change: dict[str, Any], plan: Plan, indexes: dict[int, dict[str, Any]]) -> str:
    """What the catalog says against the state of one change, or an empty string."""
    state = State(change["state"])
    if f"{plan.schema}.{plan.index}" in site.theirs or state in ACTIVE_STATES | {State.NEEDS_OPERATOR}:
        return ""
    named = next((r for r in indexes.values() if (r["schema"], r["name"]) == (plan.schema, plan.index)), None)
    if plan.kind == "drop":
        now = indexes.get(plan.index_oid or 0) or indexes.get(change["index_oid"] or 0)  # a repair gave it a new OID
        return _told_of_drop(state, plan, now, named)
    if plan.kind == "reindex":
        leftovers = [r["name"] for r in indexes.values() if r["table_oid"] == plan.table_oid and not r["valid"]
                     and f"{r['schema']}.{r['name']}" not in site.theirs]  # fmt: skip
        return (
            f"these are left over: {leftovers}"
            if leftovers
            else ""
            if named and named["valid"]
            else "its index is not valid"
        )
    ours = indexes.get(change["index_oid"] or 0)
    if state in (State.OBSERVING, State.DONE):
        if ours is None:
            return "its index is not there"
        flags = [flag for flag in ("valid", "ready", "live") if not ours[flag]]
        if flags or not change["index_valid"]:
            return f"its index is not {flags or 'recorded as valid'}"
        different = differences(plan.ddl, ours["definition"]) if not plan.saved.get("restore") else []
        return f"its index is not as planned: {different}" if different else ""
    return f"its index {ours['name']} is there" if ours is not None else ""


def _told_of_drop(state: State, plan: Plan, ours: dict[str, Any] | None, named: dict[str, Any] | None) -> str:
    if state in (State.OBSERVING, State.DONE):
        return "its index is still there" if ours is not None else ""
    if state is State.ROLLED_BACK:
        return "" if named is not None and named["valid"] else "the index is not back"
    if ours is None:
        return "its index is gone"
    return "" if ours["valid"] == plan.saved.get("valid", True) else "its index is half-dropped"


# -- 3: the log --------------------------------------------------------------------------------------------------------


def _chain(log: list[dict[str, Any]], head: dict[str, Any] | None) -> Iterator[str]:
    if head is None:
        yield "the head of the log is missing"
        return
    verifier = Verifier()
    for row in log:
        verifier.feed(row)
    report = verifier.report((head["seq"], head["hash"]))
    if not report.ok:
        yield f"the chain of the log is broken: {report.reason}"


def _pairs(change_id: int, rows: list[dict[str, Any]], *, ended: bool) -> Iterator[str]:
    """Intents without an outcome, outcomes without an intent, deeds without a claim."""
    open_intents: list[str] = []
    announced: set[str] = set()
    claims = sent = 0
    for row in rows:
        action = row["action"]
        head, _, tail = action.rpartition(".")
        claims += action == "claimed"
        sent += action == "ddl.intent"
        if sent > claims:
            yield f"change {change_id}: row {row['seq']} sends DDL without a claim of its own"
        if tail == "intent":
            open_intents.append(head)
            announced.add(head)
            continue
        if tail == "outcome" and head not in announced:
            yield f"change {change_id}: row {row['seq']} ({action}) stands without an intent"
        open_intents = [i for i in open_intents if action not in _ENDS.get(i, {f"{i}.outcome", f"{i}.sent", "takeover"})]
    if ended and open_intents:
        yield f"change {change_id}: nothing tells what became of {', '.join(f'{i}.intent' for i in open_intents)}"


@dataclass(frozen=True)
class Deed:
    """A statement of an executor's that the server logged before it carried it out."""

    at: float
    change_id: int
    database: str
    sql: str


def deeds(site: Site) -> list[Deed]:
    """What the server saw from executors of this workshop, looking aside."""
    found = []
    with site.log.open(encoding="utf-8", errors="replace") as file:
        file.seek(site.log_from)
        for line in file:
            match = _LINE.match(line)
            if match is None or not match["app"].startswith("ixp:") or match["db"] != site.dbname:
                continue
            if not match["sql"].lstrip().lower().startswith(_LOOKS):
                found.append(Deed(float(match["at"]), int(match["app"].split(":")[1]), match["db"], match["sql"].strip()))
    return found


def _deeds(site: Site, log: list[dict[str, Any]]) -> Iterator[str]:
    """The server's log against ours: each deed has an intent that was written before and says this statement."""
    intents = [(r["change_id"], r["at"], json.loads(r["detail"])) for r in log if r["action"].endswith(".intent")]
    for deed in deeds(site):
        when = datetime.fromtimestamp(deed.at).astimezone()
        for change_id, at, detail in intents:
            told = re.split("[\r\n]", str(detail.get("ddl", "")))[0].strip()  # the log is read line by line
            pinned = detail.get("renamed_to")
            same = told == deed.sql or (pinned and deed.sql.lower().startswith("alter index") and str(pinned) in deed.sql)
            if change_id == deed.change_id and same and at <= when + timedelta(milliseconds=2):
                break
        else:
            yield f"the server got {deed.sql!r} of change {deed.change_id} without an intent before it"


# -- 4 and 5 -----------------------------------------------------------------------------------------------------------


def _waits(traffic: Traffic) -> Iterator[str]:
    for name, lane in traffic.lanes.items():
        if lane.ours > MOST_WAIT_S:
            yield f"a {name} waited {lane.ours:.1f} s because of us"
        if not lane.done:
            yield f"the {name} in the background never got an answer, so nothing was measured"


def _slots(
    site: Site, changes: list[dict[str, Any]], log: list[dict[str, Any]], slots: list[dict[str, Any]]
) -> Iterator[str]:
    spent = {row["change_id"]: row["n"] for row in slots}
    for change in changes:
        claims = [r["at"] for r in log if r["change_id"] == change["id"] and r["action"] == "claimed"]
        most = 0 if change["rollback"] else len(claims)
        least = min(most, 1)
        if most and (claims[-1] - claims[0]).total_seconds() < site.rate_window_s:
            most = 1
        if not least <= spent.get(change["id"], 0) <= most:
            yield f"change {change['id']} was claimed {len(claims)} times and spent {spent.get(change['id'], 0)} slots"


assert END_STATES.isdisjoint(ACTIVE_STATES)

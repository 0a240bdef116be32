"""Every state with every event, against the real functions: what each does, refuses, and leaves as it was.

The expected table is written out here from the plan of the states; it is not read from the table that the functions use.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from indexpilot_tui.engine.journal.records import canonical
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.localpg import LocalCluster
from tests.engine.journal_bench import APPROVER, EPOCH, OID, OTHER, REQUESTER, SECOND, STALE, Bench
from tests.engine.journal_room import make_plan, make_room

pytest_plugins = ["tests.engine.journal_fixtures"]

STATES = [str(state) for state in State]
WAITING = {"proposed", "approved", "queued"}
AT_WORK = {"starting", "running", "cancelling", "unknown", "verifying", "cleaning"}

# advance(): from -> to. Everything else is refused with the code `state`.
ADVANCE = {
    "proposed": "",
    "approved": "queued",
    "queued": "cleaning failed needs_operator",
    "starting": "queued running cancelling unknown failed needs_operator",
    "running": "queued cancelling unknown verifying cleaning failed needs_operator",
    "cancelling": "queued unknown verifying cleaning failed needs_operator",
    "unknown": "queued running cancelling verifying cleaning failed needs_operator",
    "verifying": "unknown cleaning observing done failed needs_operator",
    "cleaning": "queued unknown verifying failed needs_operator",
    "observing": "unknown done needs_operator",
    "done": "",
    "failed": "",
    "rolled_back": "",
    "rejected": "",
    "expired": "",
    "withdrawn": "",
    "needs_operator": "",
}
RESOLVE = {"verifying": "verifying", "cleaning": "cleaning", "failed": "failed", "done": "done", "finish": "queued"}
ROLLBACK_PROPOSED = {"observing", "done", "needs_operator"}
ROLLED_BACK = {"observing", "done", "needs_operator", "unknown", "verifying", "cleaning"}


@pytest.fixture
async def bench(journal_server: LocalCluster) -> AsyncIterator[Bench]:
    async with make_room(journal_server) as room:
        made = Bench.of(room)
        yield made
        made.conn.close()


def approved(bench: Bench, state: str, **columns: object) -> int:
    """A change that bob approved, set down in a state; claimed by olga where it must have been."""
    change_id = bench.propose()
    bench.approve(change_id)
    claimed = {"claimed_by": OTHER, "attempts": 1, "claimed_at": datetime.now(UTC)} if state not in WAITING else {}
    bench.put(change_id, state, **claimed | columns)
    return change_id


class Case:
    """One event on one change: what came of it, and that a refusal left everything as it was."""

    def __init__(self, bench: Bench, change_id: int) -> None:
        self.bench, self.change_id = bench, change_id
        self.before, self.head = bench.row(change_id), bench.head()

    def holds(self, code: str, refused: str, state: str | None = None, epoch: int = 0) -> None:
        """Refused with this code, or moved to `state` with this many epochs more."""
        now = self.bench.row(self.change_id)
        assert code == refused, (self.before["state"], code, refused)
        if refused:
            assert (now, self.bench.head()) == (self.before, self.head)
        else:
            assert now["state"] == state, (self.before["state"], now["state"], state)
            assert now["epoch"] == EPOCH + epoch


def each(bench: Bench, run: Callable[[str], None], states: list[str] | None = None) -> int:
    """Run a case for each state; each is taken back."""
    for state in states or STATES:
        with bench.case():
            run(state)
    return len(states or STATES)


# -- deciding -------------------------------------------------------------------------------------------------------------


def test_approve(bench: Bench) -> None:
    def run(state: str) -> None:
        change_id = bench.propose()
        bench.put(change_id, state)
        case = Case(bench, change_id)
        args = (change_id, case.before["plan_sha256"], timedelta(hours=1))
        case.holds(bench.call(APPROVER, "approve", *args)[1], "" if state == "proposed" else "state", "approved")

    each(bench, run)


@pytest.mark.parametrize(("event", "who", "to"), [("reject", APPROVER, "rejected"), ("withdraw", REQUESTER, "withdrawn")])
def test_reject_and_withdraw(bench: Bench, event: str, who: str, to: str) -> None:
    def run(state: str) -> None:
        case = Case(bench, approved(bench, state))
        code = bench.call(who, event, case.change_id, "not now")[1]
        case.holds(code, "" if state in WAITING else "state", to)

    def begun(state: str) -> None:
        """A drop that was queued again may have left its index half-dropped: its executor ends it, or a person."""
        plan = make_plan(kind="drop", index_oid=OID)
        change_id = bench.propose(plan)
        bench.approve(change_id)
        bench.put(change_id, state, attempts=1)
        case = Case(bench, change_id)
        case.holds(bench.call(who, event, change_id, "not now")[1], "state")

    each(bench, run)
    each(bench, begun, ["queued"])


def test_expire(bench: Bench) -> None:
    def run(state: str) -> None:
        change_id = approved(bench, state)
        bench.conn.execute("update indexpilot.approvals set expires_at = now() where change_id = %s", (change_id,))
        case = Case(bench, change_id)
        count, code = bench.call(REQUESTER, "expire")
        assert count == (1 if state in WAITING else 0)
        case.holds(code, "", "expired" if state in WAITING else state)

    def valid(state: str) -> None:
        case = Case(bench, approved(bench, state))
        assert bench.call(REQUESTER, "expire") == (0, "")
        case.holds("", "", state)

    each(bench, run)
    each(bench, valid)


def test_propose_a_rollback(bench: Bench) -> None:
    def run(state: str) -> None:
        case = Case(bench, approved(bench, state, index_oid=OID))
        back = canonical(make_plan(kind="drop", index_oid=OID))
        _, code = bench.call(REQUESTER, "propose", back, "prod", "slower", case.change_id, True)
        case.holds(code, "" if state in ROLLBACK_PROPOSED else "rollback", state)

    each(bench, run)


def test_resolve(bench: Bench) -> None:
    def run(state: str) -> None:
        for choice in [*STATES, "finish", "repair"]:
            with bench.case():
                case = Case(bench, approved(bench, state))
                code = bench.call(SECOND, "resolve", case.change_id, choice, "looked at it")[1]
                if choice in ("queued", "repair"):  # queued only by a decision; only a drop is repaired
                    case.holds(code, "decision")
                elif state == "needs_operator" and choice in RESOLVE:
                    case.holds(code, "", RESOLVE[choice], epoch=1)
                else:
                    case.holds(code, "state")

    each(bench, run)


# -- carrying out ---------------------------------------------------------------------------------------------------------


def test_claim(bench: Bench) -> None:
    refused = {"proposed": "not_approved", "approved": "", "queued": "", "expired": "approval_expired"}

    def run(state: str) -> None:
        case = Case(bench, approved(bench, state))
        code = bench.call(OTHER, "claim", *bench.terms(case.change_id))[1]
        case.holds(code, refused.get(state, "state"), "starting", epoch=1)
        spent = bench.value("select count(*) from indexpilot.rate_slots")
        assert spent == (0 if code else 1)

    def rollback(state: str, kept: bool = True) -> None:
        """A rollback that was kept starts from `proposed` as well: the approval of its parent covers it. It spends no slot."""
        parent = approved(bench, "observing", index_oid=OID)
        back = make_plan(kind="drop", index_oid=OID)
        if kept:
            bench.conn.execute("update indexpilot.changes set way_back = %s where id = %s", (canonical(back), parent))
        child = bench.propose(back, parent, rollback=True)
        bench.put(child, state)
        case = Case(bench, child)
        code = bench.call(OTHER, "claim", *bench.terms(child))[1]
        allowed = refused | ({"proposed": ""} if kept else {"approved": "not_approved", "queued": "not_approved"})
        case.holds(code, allowed.get(state, "state"), "starting", epoch=1)
        assert bench.value("select count(*) from indexpilot.rate_slots") == 0

    each(bench, run)
    each(bench, rollback)
    each(bench, lambda state: rollback(state, kept=False))


def test_takeover_and_renew(bench: Bench) -> None:
    past, future = datetime.now(UTC) - timedelta(seconds=1), datetime.now(UTC) + timedelta(hours=1)

    def ended(state: str) -> None:
        case = Case(bench, approved(bench, state, lease_until=past))
        epoch, code = bench.call(REQUESTER, "takeover", case.change_id, 30.0)
        taken = state in AT_WORK | {"observing"}
        assert epoch == (EPOCH + 1 if taken else None)
        case.holds(code, "", state, epoch=1 if taken else 0)

    def alive(state: str) -> None:
        case = Case(bench, approved(bench, state, lease_until=future))
        assert bench.call(REQUESTER, "takeover", case.change_id, 30.0) == (None, "")
        case.holds("", "", state)

    def renewed(state: str) -> None:
        case = Case(bench, approved(bench, state, lease_until=past))
        for epoch, expected in ((EPOCH, state in AT_WORK | {"observing", "queued"}), (EPOCH - 1, False), (EPOCH + 1, False)):
            assert bench.call(OTHER, "renew", case.change_id, epoch, 30.0) == (expected, "")
        case.holds("", "", state)

    each(bench, ended)
    each(bench, alive)
    each(bench, renewed)


def test_advance(bench: Bench) -> None:
    tried = 0

    def run(state: str) -> None:
        nonlocal tried
        case = Case(bench, approved(bench, state))
        for to in STATES:
            with bench.case():
                code = bench.call(OTHER, "advance", case.change_id, EPOCH, state, to, "phase", "{}")[1]
                legal = to in ADVANCE[state].split()
                case.holds(code, "" if legal else "not_approved" if state == "proposed" else "state", to)
                tried += 1

    each(bench, run)
    assert tried == len(STATES) ** 2


def test_advance_of_who_is_not_the_holder(bench: Bench) -> None:
    """A stale epoch and a state that is not the one that the caller thinks: fenced, whatever the move."""

    def run(state: str) -> None:
        case = Case(bench, approved(bench, state))
        for to in STATES:
            for epoch, here in (
                (EPOCH - 1, state),
                (EPOCH + 1, state),
                (EPOCH, "running" if state != "running" else "queued"),
            ):
                case.holds(bench.call(OTHER, "advance", case.change_id, epoch, here, to, "phase", "{}")[1], STALE)

    each(bench, run)


def test_a_rollback_that_is_done_moves_its_parent(bench: Bench) -> None:
    def run(state: str) -> None:
        parent = approved(bench, "observing", index_oid=OID)
        child = bench.propose(make_plan(kind="drop", index_oid=OID), parent, rollback=True)
        bench.put(child, "verifying")
        bench.put(parent, state)
        case, own = Case(bench, parent), Case(bench, child)
        code = bench.call(OTHER, "advance", child, EPOCH, "verifying", "done", "phase", "{}")[1]
        case.holds(code, "" if state in ROLLED_BACK else "state", "rolled_back", epoch=1)
        own.holds(code, "" if state in ROLLED_BACK else "state", "done")

    each(bench, run)


def test_abort(bench: Bench) -> None:
    def run(state: str) -> None:
        case = Case(bench, approved(bench, state))
        code = bench.call(OTHER, "request_abort", case.change_id, "release")[1]
        case.holds(code, "" if state in AT_WORK | {"queued"} else "state", state)
        assert bench.row(case.change_id)["abort_by"] == (None if code else OTHER)

    each(bench, run)


NOTES = {
    "append": ("phase", "{}"),
    "set_backend": (4711, datetime.now(UTC)),
    "set_index": (OID, True),
    "set_part": (0, "begun", OID),
    "save_verification": ("{}",),
    "save_stats": ("start", datetime.now(UTC), None, "[]", "{}"),
}


@pytest.mark.parametrize("function", NOTES)
def test_what_only_notes_moves_nothing_and_is_fenced(bench: Bench, function: str) -> None:
    def run(state: str) -> None:
        case = Case(bench, approved(bench, state))
        for epoch in (EPOCH - 1, EPOCH + 1):
            case.holds(bench.call(OTHER, function, case.change_id, epoch, *NOTES[function])[1], STALE)
        case.holds(bench.call(OTHER, function, case.change_id, EPOCH, *NOTES[function])[1], "", state)
        assert bench.head()[0] == case.head[0] + 1

    each(bench, run)


# -- for all of them ------------------------------------------------------------------------------------------------------

CALLS = {
    "propose": (canonical(make_plan()), "prod", "slow", None, False),
    "withdraw": (1, "x"), "expire": (), "claim": (1, "1", 1, 5, 3600.0, 30.0), "renew": (1, 1, 30.0), "takeover": (1, 30.0),
    "append": (1, 1, "phase", "{}"), "advance": (1, 1, "running", "done", "phase", "{}"), "request_abort": (1, "x"),
    "set_backend": (1, 1, 1, datetime.now(UTC)), "set_index": (1, 1, 1, True), "set_part": (1, 1, 0, "begun", 1),
    "record_query_stats": ("1", "d", datetime.now(UTC), datetime.now(UTC), "[]"),
    "record_index_health": ("1", "d", datetime.now(UTC), datetime.now(UTC), "[]"), "record_gates": (1, "[]"),
    "save_stats": (1, 1, "start", datetime.now(UTC), None, "[]", "{}"),
    "save_verification": (1, 1, "{}"), "stop_starts": ("x",), "bypass_on": (["rate"], "x", 60.0), "bypass_off": (None, "x"),
    "approve": (1, "x", timedelta(hours=1)), "reject": (1, "x"), "resolve": (1, "failed", "x"), "allow_starts": ("x",),
    "review_bypass": (1, "x"), "prune": ("mutation_log", 400, 10), "anchor_failed": (1, 1, "x"),
    "check_writable": (), "keep_way_back": (1, 1, "{}"), "enrol_statistics": ("app", "t"), "withdraw_statistics": ("app", "t"),
}  # fmt: skip


@pytest.mark.parametrize("isolation", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE])
def test_every_writing_function_refuses_other_isolation_levels(bench: Bench, isolation: psycopg.IsolationLevel) -> None:
    """A count after a lock would still see the snapshot from before it, and two claims would both win."""
    writing = {
        row["proname"]
        for row in bench.conn.execute(
            "select proname from pg_proc where pronamespace = 'indexpilot'::regnamespace and prosecdef and provolatile = 'v'"
            " and proname not like '\\_%'"
        )
    }
    assert writing == set(CALLS), "a function that writes is missing here, or is gone"
    bench.conn.isolation_level = isolation
    before = bench.head()
    for function, args in CALLS.items():
        who = APPROVER if function in ("approve", "reject", "resolve", "allow_starts", "review_bypass") else REQUESTER
        who = str(bench.conn.info.user) if function.endswith("_statistics") else who
        with bench.case():
            assert bench.call(who, function, *args)[1] == "IX004", function
    assert bench.head() == before

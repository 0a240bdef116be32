"""Random walks of several people over several changes, compared step by step with a model that knows no SQL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from indexpilot_tui.engine.journal.chain import Verifier
from indexpilot_tui.engine.journal.records import canonical
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.localpg import LocalCluster
from tests.engine.journal_bench import Bench
from tests.engine.journal_model import WAITING, Model, ModelChange
from tests.engine.journal_room import make_plan, make_room

OPERATORS, APPROVERS = ["j_alice", "j_olga", "j_both"], ["j_bob", "j_zoe", "j_both"]
PEOPLE = sorted({*OPERATORS, *APPROVERS})
OID, CEILING = 77, 2
someone = st.sampled_from(PEOPLE)
operator = st.sampled_from(OPERATORS)
a_state = st.sampled_from(["running", "verifying", "observing", "done", "queued", "needs_operator", *map(str, State)])
a_choice = st.sampled_from(["finish", "repair", "verifying", "cleaning", "failed", "done", "queued", "running"])
off_by = st.sampled_from([0, 0, 0, -1, 1])
pick = st.integers(0, 7)
# where an undisturbed change goes next; a walk that only tries anything does not get far
ONWARDS = {"starting": "running", "running": "verifying", "verifying": "observing", "observing": "done",
           "cancelling": "cleaning", "cleaning": "queued", "unknown": "verifying"}  # fmt: skip


class Site(RuleBasedStateMachine):
    """The real functions on one side, the model on the other. Everything happens in one transaction that is rolled back."""

    bench: ClassVar[Bench]

    @initialize()
    def begin(self) -> None:
        self.ids: list[int] = []
        self.model = Model(set(OPERATORS), set(APPROVERS), ceiling=CEILING)
        self.case = self.bench.case()
        self.case.__enter__()
        self.start = self.bench.head()[0]
        for who in OPERATORS:
            self.propose("create", who)
            self.step_on(len(self.ids) - 1)

    def _pick(self, number: int) -> tuple[ModelChange, int]:
        at = number % len(self.ids)
        return self.model.changes[at], self.ids[at]

    def _same(self, function: str, who: str, args: tuple[Any, ...], expected: str) -> Any:
        answer, code = self.bench.call(who, function, *args)
        assert code == expected, (function, who, args)
        return answer

    def step_on(self, number: int) -> None:
        """What would come next if nothing came between."""
        change, _ = self._pick(number)
        if change.state == "proposed" and change.parent is None:
            self.approve(number, "j_bob" if "j_bob" in self.model.approvers else "j_zoe")
        elif change.state in WAITING:
            self.claim(number, change.requested_by)
        elif change.state in ONWARDS:
            self.advance(number, change.requested_by, ONWARDS[change.state], 0)
        elif change.state == "done" and change.parent is None:
            self.propose_the_way_back(number, change.requested_by)
        elif change.state == "needs_operator":
            self.resolve(number, "j_zoe", "finish")

    @precondition(lambda self: self.ids)
    @rule(number=pick)
    def one_step(self, number: int) -> None:
        self.step_on(number)

    @precondition(lambda self: self.ids)
    @rule(number=pick, steps=st.integers(2, 6))
    def several_steps(self, number: int, steps: int) -> None:
        for _ in range(steps):
            self.step_on(number)
            self.both_sides_agree()

    @precondition(lambda self: self.ids)
    @rule(number=pick, who=someone)
    def stopped_then_queued_again(self, number: int, who: str) -> None:
        self.abort(number, who)
        self.advance(number, "j_olga", "queued", 0)
        self.claim(number, "j_olga")

    @precondition(lambda self: self.ids)
    @rule(number=pick, other=pick, state=st.sampled_from(["unknown", "cleaning", "cancelling", "verifying", "queued"]))
    def held_up_while_another_would_start(self, number: int, other: int, state: str) -> None:
        self.advance(number, "j_olga", state, 0)
        self.claim(other, "j_alice")

    @precondition(lambda self: self.ids)
    @rule(number=pick, who=someone, choice=a_choice)
    def claimed_and_settled(self, number: int, who: str, choice: str) -> None:
        self.claim(number, "j_both")
        self.advance(number, "j_olga", "needs_operator", 0)
        self.resolve(number, who, choice)

    @rule(kind=st.sampled_from(["create", "drop"]), who=operator)
    def propose(self, kind: str, who: str) -> None:
        plan = make_plan(kind=kind, index_oid=OID if kind == "drop" else None)
        code = self.model.propose(kind, who)
        self.ids.append(self._same("propose", who, (canonical(plan), "prod", "slow", None, False), code))

    @precondition(lambda self: self.ids)
    @rule(number=pick, who=operator)
    def propose_the_way_back(self, number: int, who: str) -> None:
        parent, parent_id = self._pick(number)
        kind = "drop" if parent.kind == "create" else "create"
        plan = make_plan(kind=kind, index_oid=OID if kind == "drop" else None)
        code = self.model.propose(kind, who, parent)
        kept = (OID, canonical(plan), parent_id)  # as its executor would have left them
        self.bench.conn.execute("update indexpilot.changes set index_oid = %s, way_back = %s where id = %s", kept)
        answer = self._same("propose", who, (canonical(plan), "prod", "slower", parent_id, True), code)
        if not code:
            self.ids.append(answer)

    @precondition(lambda self: self.ids)
    @rule(number=pick, who=someone)
    def approve(self, number: int, who: str) -> None:
        change, change_id = self._pick(number)
        sha = self.bench.row(change_id)["plan_sha256"]
        self._same("approve", who, (change_id, sha, timedelta(hours=1)), self.model.approve(change, who))

    @precondition(lambda self: self.ids)
    @rule(number=pick, who=someone)
    def reject(self, number: int, who: str) -> None:
        change, change_id = self._pick(number)
        self._same("reject", who, (change_id, "no"), self.model.reject(change, who))

    @precondition(lambda self: self.ids)
    @rule(number=pick, who=operator)
    def withdraw(self, number: int, who: str) -> None:
        change, change_id = self._pick(number)
        self._same("withdraw", who, (change_id, "no"), self.model.withdraw(change, who))

    @precondition(lambda self: self.ids)
    @rule(number=pick)
    def time_passes(self, number: int) -> None:
        """Its approval is over, or without one its proposal."""
        change, change_id = self._pick(number)
        change.stale = True
        self.bench.conn.execute("update indexpilot.approvals set expires_at = at where change_id = %s", (change_id,))
        self.bench.conn.execute(
            "update indexpilot.changes set requested_at = now() - interval '8 d' where id = %s", (change_id,)
        )

    @rule(who=someone)
    def expire(self, who: str) -> None:
        code = self.model.member(who)
        count = self._same("expire", who, (), code)
        assert code or count == self.model.expire()

    @precondition(lambda self: self.ids)
    @rule(number=pick, who=operator)
    def claim(self, number: int, who: str) -> None:
        change, change_id = self._pick(number)
        self._same("claim", who, (*self.bench.terms(change_id)[:3], CEILING, 3600.0, 30.0), self.model.claim(change, who))

    @precondition(lambda self: self.ids)
    @rule(number=pick, who=operator, to=a_state, off=off_by)
    def advance(self, number: int, who: str, to: str, off: int) -> None:
        change, change_id = self._pick(number)
        epoch, here = change.epoch + off, change.state
        code = self.model.advance(change, epoch, here, to)
        self._same("advance", who, (change_id, epoch, here, to, "phase", "{}"), code)

    @precondition(lambda self: self.ids)
    @rule(number=pick, who=operator, off=off_by)
    def renew(self, number: int, who: str, off: int) -> None:
        change, change_id = self._pick(number)
        epoch = change.epoch + off
        assert self._same("renew", who, (change_id, epoch, 30.0), "") == self.model.renew(change, epoch)

    @precondition(lambda self: self.ids)
    @rule(number=pick)
    def executor_dies(self, number: int) -> None:
        change, change_id = self._pick(number)
        change.lease = False
        self.bench.conn.execute("update indexpilot.changes set lease_until = now() where id = %s", (change_id,))

    @precondition(lambda self: self.ids)
    @rule(number=pick, who=operator)
    def takeover(self, number: int, who: str) -> None:
        change, change_id = self._pick(number)
        assert self._same("takeover", who, (change_id, 30.0), "") == self.model.takeover(change, who)

    @precondition(lambda self: self.ids)
    @rule(number=pick, who=someone)
    def abort(self, number: int, who: str) -> None:
        change, change_id = self._pick(number)
        self._same("request_abort", who, (change_id, "stop"), self.model.abort(change, who))

    @precondition(lambda self: self.ids)
    @rule(number=pick, who=someone, choice=a_choice)
    def resolve(self, number: int, who: str, choice: str) -> None:
        change, change_id = self._pick(number)
        self._same("resolve", who, (change_id, choice, "looked at it"), self.model.resolve(change, who, choice))

    @rule(who=someone, stop=st.sampled_from([False, False, True]))
    def kill_switch(self, who: str, stop: bool) -> None:
        self._same("stop_starts" if stop else "allow_starts", who, ("x",), self.model.switch(who, stop=stop))

    @rule(who=someone, on=st.booleans())
    def bypass(self, who: str, on: bool) -> None:
        if on != self.model.bypassed:
            args = (["rate"], "x", 600.0) if on else (None, "x")
            self._same("bypass_on" if on else "bypass_off", who, args, self.model.bypass(who, on=on))

    @rule()
    def an_hour_passes(self) -> None:
        """For the slots of the rate limit."""
        self.bench.conn.execute("update indexpilot.rate_slots set at = at - interval '1 hour'")
        for change in self.model.changes:
            change.slot = False

    @rule(who=st.sampled_from(["j_bob", "j_zoe"]))
    def rights_are_given_and_taken(self, who: str) -> None:
        if who in self.model.approvers:
            self.bench.conn.execute(f"revoke indexpilot_approver from {who}; grant indexpilot_monitor to {who}".encode())
        else:
            self.bench.conn.execute(f"grant indexpilot_approver to {who}".encode())
        self.model.approvers ^= {who}

    @invariant()
    def both_sides_agree(self) -> None:
        if not hasattr(self, "ids"):
            return
        rows = self.bench.conn.execute("select id, state, epoch, attempts from indexpilot.changes order by id").fetchall()
        told = {(c.state, c.epoch, c.attempts, i) for c, i in zip(self.model.changes, self.ids, strict=True)}
        assert {(r["state"], r["epoch"], r["attempts"], r["id"]) for r in rows} == told
        assert self.bench.head()[0] == self.start + self.model.rows

    def teardown(self) -> None:
        if not hasattr(self, "case"):
            return
        verifier = Verifier()
        for row in self.bench.conn.execute("select * from indexpilot.mutation_log order by seq"):
            verifier.feed(row)
        report = verifier.report(self.bench.head())
        self.case.__exit__(None, None, None)
        assert report.ok, report


@pytest.fixture
def bench(cluster18: LocalCluster) -> Iterator[Bench]:
    """A control schema for the walk, which is no coroutine: the room lives in a thread with a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    room = make_room(cluster18)
    try:
        made = Bench.of(asyncio.run_coroutine_threadsafe(room.__aenter__(), loop).result(60))
        yield made
        made.conn.close()
    finally:
        asyncio.run_coroutine_threadsafe(room.__aexit__(None, None, None), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_random_walks(bench: Bench) -> None:
    Site.bench = bench
    run_state_machine_as_test(
        Site,
        settings=settings(
            max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
        ),
    )

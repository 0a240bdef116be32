"""What a change may do, written a second time and in another way, for the random walk to compare with: no SQL, no table."""

from __future__ import annotations

from dataclasses import dataclass, field

AT_WORK = ("starting", "running", "cancelling", "unknown", "verifying", "cleaning")
WAITING = ("proposed", "approved", "queued")
OVER = ("done", "failed", "rolled_back", "rejected", "expired", "withdrawn")
EXECUTORS_MOVES = {
    "approved": {"queued"},
    "queued": {"cleaning", "failed", "needs_operator"},
    "starting": {"queued", "running", "cancelling", "unknown", "failed", "needs_operator"},
    "running": {"queued", "cancelling", "unknown", "verifying", "cleaning", "failed", "needs_operator"},
    "cancelling": {"queued", "unknown", "verifying", "cleaning", "failed", "needs_operator"},
    "unknown": {"queued", "running", "cancelling", "verifying", "cleaning", "failed", "needs_operator"},
    "verifying": {"unknown", "cleaning", "observing", "done", "failed", "needs_operator"},
    "cleaning": {"queued", "unknown", "verifying", "failed", "needs_operator"},
    "observing": {"unknown", "done", "needs_operator"},
}


@dataclass
class ModelChange:
    """One change. `approver` is who approved it last; `slot`: it has one that is in the window."""

    kind: str
    requested_by: str
    parent: ModelChange | None = None
    state: str = "proposed"
    epoch: int = 0
    approver: str | None = None
    stale: bool = False  # its approval, or the proposal, is over
    aborted: bool = False
    attempts: int = 0
    claimed_by: str | None = None
    lease: bool = False
    slot: bool = False
    decision: str | None = None

    @property
    def begun(self) -> bool:
        return self.state == "queued" and (self.decision is not None or (self.kind == "drop" and self.attempts > 0))


@dataclass
class Model:
    """Everything at one site. Each method answers with the code of the refusal, or an empty string and has done it."""

    operators: set[str]
    approvers: set[str]
    changes: list[ModelChange] = field(default_factory=list)
    stopped: bool = False
    bypassed: bool = False
    ceiling: int = 3
    rows: int = 0  # of the log

    def member(self, who: str) -> str:
        return "" if who in self.operators | self.approvers else "42501"

    def propose(self, kind: str, who: str, parent: ModelChange | None = None) -> str:
        if parent is not None:
            twins = [c for c in self.changes if c.parent is parent and c.state not in
                     ("failed", "rejected", "expired", "withdrawn", "rolled_back")]  # fmt: skip
            if parent.state not in ("observing", "done", "needs_operator") or parent.kind == kind or twins:
                return "rollback"
        self.changes.append(ModelChange(kind, who, parent))
        self.rows += 1
        return ""

    def approve(self, c: ModelChange, who: str) -> str:
        if who not in self.approvers:
            return "42501"
        if who == c.requested_by:
            return "self_approval"
        if c.state != "proposed":
            return "state"
        c.state, c.approver, c.stale = "approved", who, False
        self.rows += 1
        return ""

    def _end(self, c: ModelChange, to: str) -> str:
        if c.begun or c.state not in WAITING:
            return "state"
        c.state = to
        self.rows += 1
        return ""

    def reject(self, c: ModelChange, who: str) -> str:
        return self._end(c, "rejected") if who in self.approvers else "42501"

    def withdraw(self, c: ModelChange, who: str) -> str:
        return self._end(c, "withdrawn") if who == c.requested_by else "not_requester"

    def expire(self) -> int:
        return len([c for c in self.changes if c.stale and not self._end(c, "expired")])

    def claim(self, c: ModelChange, who: str) -> str:
        code = self._may_claim(c)
        if code:
            return code
        if c.parent is None and c.decision is None:
            c.slot = True
        self.rows += 1 + self.bypassed
        c.state, c.epoch, c.attempts, c.claimed_by, c.lease = "starting", c.epoch + 1, c.attempts + 1, who, True
        return ""

    def _may_claim(self, c: ModelChange) -> str:
        if self.stopped:
            return "kill_switch"
        if c.state == "expired":
            return "approval_expired"
        if c.state == "proposed" and c.parent is None:
            return "not_approved"
        if c.state not in WAITING:
            return "state"
        if c.aborted:
            return "aborted"
        code = self._covered(c)
        if code:
            return code
        if any(other is not c and other.state in AT_WORK for other in self.changes):
            return "busy"
        spent = len([other for other in self.changes if other.slot])
        if c.parent is None and c.decision is None and not c.slot and spent >= self.ceiling and not self.bypassed:
            return "rate_limit"
        return ""

    def _covered(self, c: ModelChange) -> str:
        """By an approval of its own, else (a rollback) by that of its parent."""
        source = c if c.approver is not None or c.parent is None else c.parent
        if source.approver is None:
            return "not_approved"
        if source is c and c.stale:
            return "approval_expired"
        if source.approver == source.requested_by:
            return "self_approval"
        return "" if source.approver in self.approvers else "approver_revoked"

    def advance(self, c: ModelChange, epoch: int, here: str, to: str) -> str:
        if epoch != c.epoch or here != c.state:
            return "IX001"
        if c.state == "proposed" and c.parent is None:
            return "not_approved"
        allowed = EXECUTORS_MOVES.get(c.state, set()) | ({"queued"} if c.state == "proposed" else set())
        if to not in allowed:
            return "state"
        back = c.parent if to == "done" else None
        if back is not None:
            if back.state not in ("observing", "done", "needs_operator", "unknown", "verifying", "cleaning"):
                return "state"
            back.state, back.epoch = "rolled_back", back.epoch + 1
        c.state = to
        self.rows += 2 if back is not None else 1
        return ""

    def renew(self, c: ModelChange, epoch: int) -> bool:
        held = epoch == c.epoch and c.state in (*AT_WORK, "observing", "queued")
        c.lease = c.lease or held
        return held

    def takeover(self, c: ModelChange, who: str) -> int | None:
        if c.state not in (*AT_WORK, "observing") or c.lease:
            return None
        c.epoch, c.claimed_by, c.lease = c.epoch + 1, who, True
        self.rows += 1
        return c.epoch

    def abort(self, c: ModelChange, who: str) -> str:
        if self.member(who):
            return "42501"
        if c.state not in (*AT_WORK, "queued"):
            return "state"
        self.rows += not c.aborted
        c.aborted = True
        return ""

    def resolve(self, c: ModelChange, who: str, choice: str) -> str:
        if who not in self.approvers:
            return "42501"
        if who in (c.requested_by, c.claimed_by):
            return "self_approval"
        if choice in ("queued", "cleaning" if c.kind == "drop" else "repair"):
            return "decision"
        to = "queued" if choice in ("finish", "repair") else choice
        if c.state != "needs_operator" or to not in ("queued", "verifying", "cleaning", "failed", "done"):
            return "state"
        c.state, c.epoch, c.lease, c.aborted = to, c.epoch + 1, False, False
        c.decision = choice if to == "queued" else None
        if c.decision is not None:
            c.approver, c.stale = who, False
        self.rows += 1
        return ""

    def switch(self, who: str, *, stop: bool) -> str:
        if self.member(who) or (not stop and who not in self.approvers):
            return "42501"
        self.stopped = stop
        self.rows += 1
        return ""

    def bypass(self, who: str, *, on: bool) -> str:
        if self.member(who):
            return "42501"
        self.bypassed = on
        self.rows += 1
        return ""

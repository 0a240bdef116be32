"""The hash chain of the mutation log, computed again outside the database.

hash = hex(sha256(utf8(prev_hash || field(seq) || field(at) || field(change_id) || field(epoch) || field(actor) ||
field(client_addr) || field(claimed) || field(action) || field(detail) || field(tenant_id)))), where field(v) is the
netstring of the value's text ("5:hello,"; NULL is "-,") and `at` is UTC with microseconds. The first row's prev_hash is
64 zeros.

Retention removes rows from the beginning and leaves a row `log.cut` with the last removed row's number and hash: the chain
then begins there. Anchors are heads that were kept elsewhere: they alone show that a tail was cut off, that the whole chain
was written anew, or that an old copy of the log was put in its place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import Any

GENESIS = "0" * 64
CUT = "log.cut"
RESTORED = "restored"


@dataclass(frozen=True, slots=True)
class Cut:
    """What retention removed last: everything up to row `last_seq`, with the `log.cut` row that says so."""

    seq: int
    at: str
    actor: str
    last_seq: int
    last_hash: str
    last_at: str
    older_than_days: int


@dataclass(frozen=True, slots=True)
class Restored:
    """A row that says that this log goes on from the head of another chain, as a backup had it."""

    chain_before: str
    seq_before: int


@dataclass(frozen=True, slots=True)
class ChainReport:
    """`ok` with the number of rows read and the head (seq, hash); else the first row that is wrong, and why.

    `cut`: where the log begins now, if retention removed its beginning. `anchors_met`: how many heads that were kept
    elsewhere agree; `anchors_before_cut`: how many speak of rows that retention removed since.
    A consistent rewrite by a superuser, or a tail cut with its head, is found only with anchors.
    """

    ok: bool
    rows: int
    first_bad_seq: int | None
    head: tuple[int, str]
    reason: str = ""
    chain_id: str = ""
    cut: Cut | None = None
    anchors_met: int = 0
    anchors_before_cut: int = 0
    anchors_lost: int = 0  # of a chain that this log was restored from, beyond what the backup had

    def replaced(self, why: str) -> ChainReport:
        """The same of a log that is not the one that the anchors are of."""
        return replace(self, ok=False, first_bad_seq=1, reason=why)


def _field(value: object) -> bytes:
    if value is None:
        return b"-,"
    data = str(value).encode()
    return b"%d:%s," % (len(data), data)


def row_hash(row: Mapping[str, Any]) -> str:
    """The hash that this row must have; `row` has the columns of indexpilot.mutation_log."""
    at = row["at"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    values = (
        row["seq"],
        at,
        *(row[k] for k in ("change_id", "epoch", "actor", "client_addr", "claimed", "action", "detail", "tenant_id")),
    )
    return hashlib.sha256(row["prev_hash"].encode() + b"".join(_field(value) for value in values)).hexdigest()


@dataclass(slots=True)
class Verifier:
    """Feed it the rows in order of seq; it remembers the first fault. `anchors`: heads kept elsewhere, hash by seq."""

    anchors: Mapping[int, str] = field(default_factory=dict)
    seq: int = 0
    hash: str = GENESIS
    rows: int = 0
    fault: tuple[int, str] | None = None
    cut: Cut | None = None
    met: int = 0
    watched: frozenset[int] = frozenset()  # seqs whose hashes are remembered, in `hashes`
    hashes: dict[int, str] = field(default_factory=dict)
    restored: dict[str, Restored] = field(default_factory=dict)  # by the chain before
    _begins: tuple[int, str] | None = None

    def feed(self, row: Mapping[str, Any]) -> None:
        """Check one row against the one before it."""
        if self._begins is None:  # the first row says where it continues; a cut further on has to say the same
            self._begins = (row["seq"] - 1, row["prev_hash"])
            if self._begins[0] > 0:
                self.seq, self.hash = self._begins
        if self.fault is None:
            self.fault = self._fault(row)
        if row["action"] == CUT:
            self.cut = _cut(row)
        if row["action"] == RESTORED and (found := _restored(row)) is not None:
            self.restored[found.chain_before] = found
        if row["seq"] in self.watched:
            self.hashes[row["seq"]] = row["hash"]
        self.seq, self.hash, self.rows = row["seq"], row["hash"], self.rows + 1

    def _fault(self, row: Mapping[str, Any]) -> tuple[int, str] | None:
        seq = row["seq"]
        if seq != self.seq + 1:
            return self.seq + 1, f"row {self.seq + 1} is missing"
        if row["prev_hash"] != self.hash:
            return seq, f"row {seq} does not continue row {self.seq}"
        if row["hash"] != row_hash(row):
            return seq, f"row {seq} was changed after it was written"
        kept = self.anchors.get(seq)
        if kept is not None and kept != row["hash"]:
            return seq, f"row {seq} is not the one whose hash was kept outside: the chain was written anew"
        self.met += kept is not None
        return None

    def _beginning(self) -> tuple[int, str] | None:
        """The log may begin later than at row 1 only where its newest cut says."""
        begins = self._begins or (0, GENESIS)
        told = (self.cut.last_seq, self.cut.last_hash) if self.cut is not None else (0, GENESIS)
        if begins == told:
            return None
        if begins[0] > told[0]:
            what = f"row {told[0] + 1} is" if begins[0] == told[0] + 1 else f"rows {told[0] + 1} to {begins[0]} are"
            return told[0] + 1, f"{what} missing, and no cut of the log accounts for that"
        return begins[0] + 1, f"row {begins[0] + 1} does not continue what the newest cut says was removed"

    def report(self, head: tuple[int, str], chain_id: str = "") -> ChainReport:
        """The result, given where the database says that the chain ends."""
        faults = [fault for fault in (self._beginning(), self.fault, self._ending(head), self._anchored()) if fault]
        first = min(faults, default=None)
        before_cut = len([seq for seq in self.anchors if seq < (self._begins or (0, GENESIS))[0]])
        end = (self.seq, self.hash)
        if first is None:
            return ChainReport(True, self.rows, None, end, "", chain_id, self.cut, self.met, before_cut)
        return ChainReport(False, self.rows, first[0], end, first[1], chain_id, self.cut, self.met, before_cut)

    def _ending(self, head: tuple[int, str]) -> tuple[int, str] | None:
        if (self.seq, self.hash) == head:
            return None
        if self.seq == head[0]:
            return self.seq, "the last row is not the chain's head"
        return min(self.seq, head[0]) + 1, f"the log ends at row {self.seq}, the chain's head says row {head[0]}"

    def _anchored(self) -> tuple[int, str] | None:
        begins = self._begins or (0, GENESIS)
        kept = self.anchors.get(begins[0])
        if begins[0] and kept is not None and kept != begins[1]:
            return begins[0] + 1, f"the log does not begin behind the row {begins[0]} whose hash was kept outside"
        newest = max(self.anchors, default=0)
        if newest <= self.seq:
            return None
        why = f"the log ends at row {self.seq}, and outside a head of row {newest} was kept: its tail was cut off"
        return self.seq + 1, why


def _restored(row: Mapping[str, Any]) -> Restored | None:
    """None where the row names another head than the one that it continues."""
    try:
        detail = json.loads(row["detail"])
        if (detail["seq_before"], detail["hash_before"]) != (row["seq"] - 1, row["prev_hash"]):
            return None
        return Restored(str(detail["chain_before"]), int(detail["seq_before"]))
    except (ValueError, KeyError, TypeError):
        return None


def _cut(row: Mapping[str, Any]) -> Cut | None:
    try:
        detail = json.loads(row["detail"])
        return Cut(
            row["seq"], row["at"].isoformat(), str(row["actor"]), int(detail["last_seq"]), str(detail["last_hash"]),
            str(detail["last_at"]), int(detail["older_than_days"]),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError):
        return None  # not ours: the row's own hash, or the beginning, then tells

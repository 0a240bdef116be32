"""The hash chain of the mutation log, computed again outside the database.

hash = hex(sha256(utf8(prev_hash || field(seq) || field(at) || field(change_id) || field(epoch) || field(actor) ||
field(client_addr) || field(claimed) || field(action) || field(detail)))), where field(v) is the netstring of the value's
text ("5:hello,"; NULL is "-,") and `at` is UTC with microseconds. The first row's prev_hash is 64 zeros.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class ChainReport:
    """`ok` with the number of rows read and the head (seq, hash); else the first row that is wrong, and why.

    A consistent rewrite by a superuser is found only against a head that was kept elsewhere.
    """

    ok: bool
    rows: int
    first_bad_seq: int | None
    head: tuple[int, str]
    reason: str = ""


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
        *(row[k] for k in ("change_id", "epoch", "actor", "client_addr", "claimed", "action", "detail")),
    )
    return hashlib.sha256(row["prev_hash"].encode() + b"".join(_field(value) for value in values)).hexdigest()


@dataclass(slots=True)
class Verifier:
    """Feed it the rows in order of seq; it remembers the first fault."""

    seq: int = 0
    hash: str = GENESIS
    fault: tuple[int, str] | None = None

    def feed(self, row: Mapping[str, Any]) -> None:
        """Check one row against the one before it."""
        if self.fault is None:
            self.fault = self._fault(row)
        self.seq, self.hash = row["seq"], row["hash"]

    def _fault(self, row: Mapping[str, Any]) -> tuple[int, str] | None:
        seq = row["seq"]
        if seq != self.seq + 1:
            return self.seq + 1, f"row {self.seq + 1} is missing"
        if row["prev_hash"] != self.hash:
            return seq, f"row {seq} does not continue row {self.seq}"
        if row["hash"] != row_hash(row):
            return seq, f"row {seq} was changed after it was written"
        return None

    def report(self, head: tuple[int, str]) -> ChainReport:
        """The result, given where the database says that the chain ends."""
        fault = self.fault
        if fault is None and (self.seq, self.hash) != head:
            reason = f"the log ends at row {self.seq}, the chain's head says row {head[0]}"
            fault = min(self.seq, head[0]) + 1, reason if self.seq != head[0] else "the last row is not the chain's head"
        if fault is None:
            return ChainReport(True, self.seq, None, (self.seq, self.hash))
        return ChainReport(False, self.seq, fault[0], (self.seq, self.hash), fault[1])

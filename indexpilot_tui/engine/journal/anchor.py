"""The head of the chain, kept outside of the database: in a file that only grows, or by a program that takes it.

One JSON object a line: at, chain_id, system_identifier, database, seq, hash, change, state.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from indexpilot_tui.engine.journal.chain import ChainReport, Restored
from indexpilot_tui.errors import ServerError, UsageError
from indexpilot_tui.settings.model import AnchorPolicy

_TAIL = 64 * 1024  # bytes of an anchor file that are looked at before a head is added


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain of one control schema ends. `whole`: this login sees all rows; one that acts for a tenant does not."""

    chain_id: str
    system_identifier: str
    database: str
    seq: int
    hash: str
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Kept:
    """One head that was kept outside; `line`: where in the file, which alone says what came first (a clock can be set)."""

    chain_id: str
    seq: int
    hash: str
    line: int


@dataclass(frozen=True, slots=True)
class Anchors:
    """What a file says of one log: hashes of its own heads by seq, and the heads of other chains that were kept of the same
    place. `begins`: the line of its own first head (None: there is none)."""

    hashes: Mapping[int, str]
    others: tuple[Kept, ...] = ()
    begins: int | None = None

    def judged(self, report: ChainReport, restored: Mapping[str, Restored], hashes: Mapping[int, str]) -> ChainReport:
        """The report, broken where the log is another one than the heads of this place were of. A log takes the place of
        another only by a `restored` row that names that chain and its head; the heads that were kept up to there must be of
        the rows that are in this log, and no head of the old chain may come after one of the new. `hashes`: of this log's
        rows, by seq."""
        lost = 0
        for chain in dict.fromkeys(kept.chain_id for kept in self.others):
            heads = [kept for kept in self.others if kept.chain_id == chain]
            row = restored.get(chain)
            if row is None:
                return report.replaced(
                    f"the anchors of this database are of the chain {chain}, this log is {report.chain_id or 'another one'},"
                    " and no row of it says that it was restored from that one"
                )
            before = [kept for kept in heads if kept.seq <= row.seq_before]
            if not before:
                return report.replaced(
                    f"the log says that it was restored from row {row.seq_before} of the chain {chain}, and no head up to"
                    " there was ever kept outside"
                )
            wrong = next((kept for kept in before if hashes.get(kept.seq, kept.hash) != kept.hash), None)
            if wrong is not None:
                return report.replaced(f"row {wrong.seq} is not the one of the chain {chain} whose hash was kept outside")
            late = next((kept for kept in heads if self.begins is not None and kept.line > self.begins), None)
            if late is not None:
                return report.replaced(
                    f"line {late.line} of the anchors is a head of the chain {chain}, after this log took its place: there"
                    " are two of them"
                )
            lost += sum(kept.seq > row.seq_before for kept in heads)
        return replace(report, anchors_lost=lost)


class Anchor:
    """Writes heads to the place that the settings name. `required`: no change starts while that fails."""

    def __init__(self, policy: AnchorPolicy) -> None:
        self.policy = policy

    @classmethod
    def of(cls, policy: AnchorPolicy) -> Anchor | None:
        """None where the settings name no place."""
        return cls(policy) if policy.file is not None or policy.command else None

    @property
    def required(self) -> bool:
        return self.policy.required

    async def write(self, head: Head, change_id: int | None, state: str) -> None:
        """Keep a head. Raises ServerError when it is not kept, also for a log that is shorter than one that was."""
        line = {
            "at": datetime.now(UTC).isoformat(),
            "chain_id": head.chain_id,
            "system_identifier": head.system_identifier,
            "database": head.database,
            "seq": head.seq,
            "hash": head.hash,
            "change": change_id,
            "state": state,
        }
        data = (json.dumps(line, ensure_ascii=True) + "\n").encode()
        if self.policy.file is not None:
            await asyncio.to_thread(_append, self.policy.file, head, data)
        else:
            await self._run(data)

    async def _run(self, data: bytes) -> None:
        program = self.policy.command[0]
        try:
            process = await asyncio.create_subprocess_exec(
                *self.policy.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as exc:
            raise _failed(f"the command cannot be started ({exc.strerror})", program) from None
        try:
            async with asyncio.timeout(self.policy.timeout_seconds):
                await process.communicate(data)
        except TimeoutError:
            raise _failed(f"the command gave no answer in {self.policy.timeout_seconds:g} s", program) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise _failed(f"the command ended with status {process.returncode}", program)


def _failed(why: str, value: str) -> ServerError:
    return ServerError(
        f"the head of the log was not kept outside: {why}",
        field="control.anchor",
        value=value,
        remedy="make that place writable; without it a tail that is cut off the log would not be noticed",
    )


def _append(path: Path, head: Head, data: bytes) -> None:
    """One line, on disk when this returns. A line that a crash cut short stays alone on its own."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode) or facts.st_mode & 0o022:
                raise _failed("others may write that file, so it proves nothing", str(path))
            tail = os.pread(fd, _TAIL, max(0, facts.st_size - _TAIL))
            _must_not_shrink(tail, head, path)
            whole = b"" if not tail or tail.endswith(b"\n") else b"\n"
            written = os.write(fd, whole + data)
            if written != len(whole + data):
                raise _failed("the line was not written whole", str(path))
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as exc:
        raise _failed(str(exc.strerror), str(path)) from exc


def _must_not_shrink(tail: bytes, head: Head, path: Path) -> None:
    """The file must not say that this log was longer once, or had another row here."""
    for line in tail.splitlines():
        kept = _parsed(line)
        if kept is None or kept["chain_id"] != head.chain_id:
            continue
        if kept["seq"] > head.seq or (kept["seq"] == head.seq and kept["hash"] != head.hash):
            raise _failed(f"the log ends at row {head.seq}, and the head of row {kept['seq']} was kept before", str(path))


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        kept = json.loads(line)
        if isinstance(kept["seq"], int) and all(isinstance(kept[k], str) for k in ("chain_id", "hash", "system_identifier",
                                                                                   "database")):  # fmt: skip
            return dict(kept)
    except (ValueError, KeyError, TypeError):
        pass
    return None


def read_anchors(path: Path, head: Head) -> Anchors:
    """The anchors of the log that `head` is of, and of those that were in its place. Raises UsageError for a file that
    cannot be read or says two things."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as exc:
        raise UsageError(f"cannot be read ({exc.strerror})", field="--anchor", value=str(path)) from None
    found: list[tuple[Kept, tuple[str, str]]] = []
    for number, line in enumerate(lines, 1):
        kept = _parsed(line)
        if kept is not None:
            place = (kept["system_identifier"], kept["database"])
            found.append((Kept(kept["chain_id"], kept["seq"], kept["hash"], number), place))
        elif line.strip() and number < len(lines):  # only the last line can have been cut short by a crash
            raise UsageError("is not an anchor", field="--anchor", value=f"{path}, line {number}")
    told: dict[tuple[str, int], str] = {}
    for kept_head, _ in found:
        if told.setdefault((kept_head.chain_id, kept_head.seq), kept_head.hash) != kept_head.hash:
            where = f"{path}, line {kept_head.line}"
            raise UsageError(f"says two things of row {kept_head.seq}", field="--anchor", value=where)
    own = [kept_head for kept_head, _ in found if kept_head.chain_id == head.chain_id]
    places = {place for kept_head, place in found if kept_head.chain_id == head.chain_id}
    places.add((head.system_identifier, head.database))
    others = tuple(kept_head for kept_head, place in found if kept_head.chain_id != head.chain_id and place in places)
    if not own and not others:
        raise UsageError(
            f"has no head of this log (chain {head.chain_id})",
            field="--anchor",
            value=str(path),
            remedy="name the file that control.anchor.file names on the machines that change this target",
        )
    return Anchors({kept_head.seq: kept_head.hash for kept_head in own}, others, own[0].line if own else None)

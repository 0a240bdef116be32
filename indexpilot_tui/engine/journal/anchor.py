"""The head of the chain, kept outside of the database: in a file that only grows, or by a program that takes it.

One JSON object a line: at, chain_id, system_identifier, database, seq, hash, change, state.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
class Anchors:
    """What a file says of one log: hashes by seq, and whether the newest head of this place is of another chain."""

    hashes: Mapping[int, str]
    replaced_by: str = ""  # why the log cannot be the one that the anchors are of


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
    """The anchors of the log that `head` is of. Raises UsageError for a file that cannot be read or says two things."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as exc:
        raise UsageError(f"cannot be read ({exc.strerror})", field="--anchor", value=str(path)) from None
    hashes: dict[int, str] = {}
    elsewhere = ""
    for number, line in enumerate(lines, 1):
        kept = _parsed(line)
        if kept is None:
            if line.strip() and number < len(lines):  # only the last line can have been cut short by a crash
                raise UsageError("is not an anchor", field="--anchor", value=f"{path}, line {number}")
            continue
        place = (kept["system_identifier"], kept["database"])
        if kept["chain_id"] != head.chain_id:
            if place == (head.system_identifier, head.database):
                elsewhere = kept["chain_id"]
            continue
        if place == (head.system_identifier, head.database):
            elsewhere = ""
        if hashes.setdefault(kept["seq"], kept["hash"]) != kept["hash"]:
            raise UsageError(f"says two things of row {kept['seq']}", field="--anchor", value=f"{path}, line {number}")
    if not hashes and not elsewhere:
        raise UsageError(
            f"has no head of this log (chain {head.chain_id})",
            field="--anchor",
            value=str(path),
            remedy="name the file that control.anchor.file names on the machines that change this target",
        )
    replaced = f"the anchors of this database are of the chain {elsewhere}, this log is {head.chain_id}" if elsewhere else ""
    return Anchors(hashes, replaced)

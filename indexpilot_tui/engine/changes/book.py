"""The second copy of the log: one file a change on this machine, each line on disk before the deed it speaks of."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from indexpilot_tui.errors import ServerError


def state_dir() -> Path:
    """Where this machine's copies are: the user's state directory, mode 0700. Raises ServerError when it cannot be."""
    import platformdirs

    path = platformdirs.user_state_path("indexpilot") / "changes"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise _unwritable(path, exc) from exc
    return path


def _unwritable(path: Path, exc: OSError) -> ServerError:
    return ServerError(
        f"the local copy of the log cannot be written ({exc.strerror})",
        field="state directory",
        value=str(path),
        remedy="free space or rights there, or set XDG_STATE_HOME; without a log there is no deed",
    )


class Book:
    """Append-only JSON lines, mode 0600. It is read by people after trouble; no decision rests on it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, system_identifier: str, database: str, change_id: int) -> Book:
        """The book of one change of one cluster. Raises ServerError when it cannot be written here."""
        safe = "".join(c if c.isalnum() else "_" for c in database)[:40]
        book = cls(state_dir() / f"{system_identifier}-{safe}-{change_id}.jsonl")
        book.write("opened", {})
        return book

    def write(self, action: str, detail: dict[str, Any], at: datetime | None = None) -> None:
        """One line, on disk when this returns. `at`: when it happened, if not now. Raises ServerError when it is not there:
        then nothing may be begun."""
        when = (at or datetime.now(UTC)).isoformat()
        line = {"at": when, "pid": os.getpid(), "action": action, "detail": detail}
        data = (json.dumps(line, default=str, ensure_ascii=True) + "\n").encode()
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                size = os.fstat(fd).st_size
                if size and os.pread(fd, 1, size - 1) != b"\n":  # a line that a full disk or a crash cut short stays alone
                    data = b"\n" + data
                if os.write(fd, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as exc:
            raise _unwritable(self.path.parent, exc) from exc

    def jot(self, action: str, detail: dict[str, Any]) -> None:
        """A line that nothing rests on, if it can be written."""
        with contextlib.suppress(ServerError):
            self.write(action, detail)

    def lines(self) -> Iterator[dict[str, Any]]:
        """All lines, oldest first; one that was cut short as action `torn`."""
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                try:
                    yield json.loads(line)
                except ValueError:
                    yield {"action": "torn", "detail": {"text": line.rstrip("\n")}}

"""Files that others will trust: there whole or not at all, and for nobody else to read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from indexpilot_tui.errors import UsageError


@contextmanager
def replacing(path: Path, check: Callable[[Path], None] | None = None) -> Iterator[BinaryIO]:
    """A file to write, mode 0600, that takes the place of `path` when the block ends well: by one rename, and on disk.
    `check` looks at it before that; if it raises, or the block does, `path` is as it was. Raises UsageError when the file
    cannot be written."""
    folder = path.parent
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=folder)
    except OSError as exc:
        raise _unwritable(path, exc) from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if check is not None:
            check(temporary)
        temporary.replace(path)
        folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder_fd)
        finally:
            os.close(folder_fd)
    except OSError as exc:
        raise _unwritable(path, exc) from exc
    finally:
        with suppress(FileNotFoundError):  # renamed by now, if all went well
            temporary.unlink()


def _unwritable(path: Path, exc: OSError) -> UsageError:
    return UsageError(
        f"cannot be written ({exc.strerror})", field="--output", value=str(path), remedy="name a place with room and rights"
    )

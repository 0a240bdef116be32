"""Relation files, made and read by a process that is the server's user and can touch nothing else.

We never open a file of a server's folder ourselves: the server owns that folder and could have put anything there. The
keeper forks a process, gives it the server's user and confines it to the folder `base`; it does what is asked on a pipe.
A file is made only where none is (O_EXCL), and none is followed (O_NOFOLLOW); all below a descriptor of the folder.
Standard library only: the keeper loads this file by its path.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from socket import socket

PAGE = 8192
SEGMENT_PAGES = 131_072  # RELSEG_SIZE: 1 GiB a file
# What is read is an index as built on an empty table: a few pages. A hash index has most, and it has ten.
READ_LIMIT = 128 * PAGE
_HEAD = struct.Struct("<II")  # bytes of JSON, bytes of content
_JSON_LIMIT, _CONTENT_LIMIT = 4096, 64 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class RelationFiles:
    """The owner's end. Its methods block for a fraction of a millisecond, and raise OSError: what the process met, or that
    it is gone. `database` and `file` are OIDs."""

    def __init__(self, connection: socket, pid: int) -> None:
        connection.settimeout(60.0)
        self._connection = connection
        self._lock = threading.Lock()
        self.pid = pid

    def write(self, database: int, file: int, image: bytes, pages: int) -> None:
        """Make a new relation file of `pages` pages that begins with `image`; the rest is a hole."""
        self._ask({"do": "write", "database": database, "file": file, "pages": pages}, image)

    def read(self, database: int, file: int) -> bytes:
        """The content of a relation file, whole pages. OSError when it is not a plain file of at most READ_LIMIT bytes."""
        content = self._ask({"do": "read", "database": database, "file": file})
        if len(content) % PAGE:
            raise OSError(f"relation file {file} does not end with a whole page")
        return content

    def remove(self, database: int, file: int) -> None:
        """Remove a relation file with its segments; nothing happens where there is none."""
        self._ask({"do": "remove", "database": database, "file": file})

    def close(self) -> None:
        self._connection.close()

    def _ask(self, question: dict[str, Any], content: bytes = b"") -> bytes:
        with self._lock:
            try:
                self._connection.sendall(_packed(question, content))
                answer, found = _received(self._connection.recv)
            except (ValueError, TimeoutError) as error:  # from here on it would be the answer to another question
                self._connection.close()
                raise OSError(f"the process for relation files does not answer: {error}") from error
        if "errno" in answer:
            raise OSError(answer["errno"], str(answer["text"]), f"relation file {question['file']}")
        return found


def _packed(message: dict[str, Any], content: bytes) -> bytes:
    text = json.dumps(message).encode()
    return _HEAD.pack(len(text), len(content)) + text + content


def _received(receive: Callable[[int], bytes]) -> tuple[dict[str, Any], bytes]:
    """One message. Raises ConnectionError at the end of the other side, ValueError for what is no message."""

    def exactly(count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            chunk = receive(min(count - len(parts), 1 << 20))
            if not chunk:
                raise ConnectionError("the process for relation files has ended")
            parts += chunk
        return bytes(parts)

    length, count = _HEAD.unpack(exactly(_HEAD.size))
    if length > _JSON_LIMIT or count > _CONTENT_LIMIT:
        raise ValueError("a message of impossible size")
    message = json.loads(exactly(length))
    if not isinstance(message, dict):
        raise ValueError("not a message")
    return message, exactly(count)


def serve(descriptor: int, base: Path) -> None:
    """The other end: answer on the socket `descriptor` about files below `base` until the owner closes it."""
    top = os.open(base, _FOLDER)
    while True:
        try:
            question, content = _received(lambda count: os.read(descriptor, count))
        except ConnectionError:
            return
        answer: dict[str, Any] = {}
        found = b""
        try:
            found = _do(top, question, content)
        except OSError as error:
            answer = {"errno": error.errno or 0, "text": error.strerror or str(error)}
        left = memoryview(_packed(answer, found))
        while left:
            left = left[os.write(descriptor, left) :]


def _do(top: int, question: dict[str, Any], content: bytes) -> bytes:
    name = str(int(question["file"]))
    folder = os.open(str(int(question["database"])), _FOLDER, dir_fd=top)
    try:
        if question["do"] == "read":
            return read_regular(name, READ_LIMIT, folder)
        if question["do"] == "remove":
            _remove(folder, name)
        else:
            _write(folder, name, content, int(question["pages"]))
        return b""
    finally:
        os.close(folder)


def _segment(name: str, number: int) -> str:
    return name if number == 0 else f"{name}.{number}"


def _write(folder: int, name: str, image: bytes, pages: int) -> None:
    left, number = max(pages, len(image) // PAGE), 0
    while True:
        part = os.open(_segment(name, number), _NEW, 0o600, dir_fd=folder)
        try:
            rest = memoryview(image if number == 0 else b"")
            while rest:
                rest = rest[os.write(part, rest) :]
            os.ftruncate(part, min(left, SEGMENT_PAGES) * PAGE)
        except OSError:
            _remove(folder, name)  # all of it is ours: each was made where there was none
            raise
        finally:
            os.close(part)
        left, number = left - SEGMENT_PAGES, number + 1
        if left <= 0:
            return


def _remove(folder: int, name: str) -> None:
    number = 0
    with contextlib.suppress(FileNotFoundError):
        while True:
            os.unlink(_segment(name, number), dir_fd=folder)
            number += 1


def read_regular(path: Path | str, limit: int, folder: int | None = None) -> bytes:
    """The content of a plain file of another user's: no link is followed, no pipe waited for, nothing larger than `limit`
    bytes read. Raises OSError."""
    descriptor = os.open(path, _OLD, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a plain file")
        if status.st_size > limit:
            raise OSError(f"{path} has {status.st_size} bytes, more than the {limit} that are read")
        content = bytearray()
        while len(content) <= limit and (chunk := os.read(descriptor, limit + 1 - len(content))):
            content += chunk
        if len(content) > limit:
            raise OSError(f"{path} grows")
        return bytes(content)
    finally:
        os.close(descriptor)

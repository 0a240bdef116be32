"""A door before a server's unix socket that lets everything through and counts the server's "ready for query": round trips."""

from __future__ import annotations

import asyncio
import struct
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

_HEADER = 5


@dataclass
class Counting:
    """`host` is the folder of the socket to connect to. `round_trips` counts all sessions, their log-ins left out."""

    server_socket: Path
    port: int = 5432
    round_trips: int = 0
    bytes_from_server: int = 0
    _folder: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def __enter__(self) -> Counting:
        Path(self._folder.name).chmod(0o755)
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._folder.cleanup()

    @property
    def host(self) -> str:
        return self._folder.name

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        path = f"{self.host}/.s.PGSQL.{self.port}"
        self._loop.run_until_complete(asyncio.start_unix_server(self._session, path))
        Path(path).chmod(0o777)
        started.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(str(self.server_socket))
        try:
            await asyncio.gather(self._up(reader, inner_writer), self._down(inner_reader, writer))
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            for each in (writer, inner_writer):
                each.close()

    @staticmethod
    async def _up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pending = b""
        skip = 0  # bytes of the message under way that are still to come
        first = True
        while data := await reader.read(65536):
            self.bytes_from_server += len(data)
            writer.write(data)
            await writer.drain()
            pending += data
            while pending:
                if skip:
                    taken = min(skip, len(pending))
                    skip, pending = skip - taken, pending[taken:]
                    continue
                if len(pending) < _HEADER:
                    break
                kind, length = pending[:1], struct.unpack("!i", pending[1:_HEADER])[0]
                if kind == b"Z":
                    self.round_trips += 0 if first else 1
                    first = False
                pending, skip = pending[_HEADER:], length - 4
        writer.close()

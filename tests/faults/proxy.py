"""A TCP proxy between the engine and its server, in a thread of its own: it can cut, swallow and slow down what passes.

A connection is known by the port from which the proxy itself talks to the server: `client_port` in pg_stat_activity.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

CHUNK = 65_536


@dataclass(eq=False)
class Wire:
    """One proxied connection. `silent`: nothing passes any more, in either direction, and nobody is told."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    port: int
    silent: bool = False
    open: bool = True
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Proxy:
    """Use as a context manager. `port` is where the engine connects; `to` where it is passed on, and may be changed."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.port = 0
        self.wires: list[Wire] = []
        self.delay_s = 0.0  # for each chunk, in each direction
        self.silent = False  # new connections are accepted and never answered
        self.refusing = False  # new connections are reset at once
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._in_loop(self._close).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # -- what a test does to it ----------------------------------------------------------------------------------------

    def reset(self, ports: Iterable[int] | None = None) -> int:
        """RST on both sides of these connections (None: of all). How many there were."""
        return self._each(ports, self._reset)

    def swallow(self, ports: Iterable[int] | None = None) -> int:
        """From now on nothing passes on these, and nobody is told: a half-open connection."""

        def silence(wire: Wire) -> None:
            wire.silent = True

        return self._each(ports, silence)

    def _each(self, ports: Iterable[int] | None, deed: Callable[[Wire], None]) -> int:
        wanted = None if ports is None else set(ports)

        async def do() -> int:
            hit = [w for w in self.wires if w.open and (wanted is None or w.port in wanted)]
            for wire in hit:
                deed(wire)
            return len(hit)

        return int(self._in_loop(do).result(10))

    # -- inside --------------------------------------------------------------------------------------------------------

    def _in_loop(self, what: Callable[[], Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(what(), self._loop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = int(server.sockets[0].getsockname()[1])
        self._ready.set()
        self._loop.run_forever()
        server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            _linger_zero(writer)
            writer.close()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            _linger_zero(writer)
            writer.close()
            return
        wire = Wire(writer, far_writer, int(far_writer.get_extra_info("sockname")[1]), silent=self.silent)
        self.wires.append(wire)
        wire.tasks = [
            asyncio.create_task(self._pass_on(wire, reader, far_writer)),
            asyncio.create_task(self._pass_on(wire, far_reader, writer)),
        ]

    async def _pass_on(self, wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if wire.silent:
                    continue
                writer.write(data)
                await writer.drain()
            if wire.silent:
                return  # that one side hung up is not passed on either
        self._shut(wire)

    def _reset(self, wire: Wire) -> None:
        for writer in (wire.near, wire.far):
            _linger_zero(writer)
        self._shut(wire)

    def _shut(self, wire: Wire) -> None:
        wire.open = False
        for writer in (wire.near, wire.far):
            writer.transport.abort()

    async def _close(self) -> None:
        for wire in self.wires:
            for task in wire.tasks:
                task.cancel()
            self._shut(wire)
        await asyncio.sleep(0)


def _linger_zero(writer: asyncio.StreamWriter) -> None:
    """Closing will then send RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

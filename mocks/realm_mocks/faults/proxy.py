"""The proxy: bytes from one side to the other, with a fault or none on each connection."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from random import Random
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from realm_mocks.faults.fault import Fault

_PIECE: Final = 64 * 1024
_START_SECONDS: Final = 10.0
_MIDDLE_BYTES: Final = 600  # into an answer: past its head and its first events
_BEHIND_SECONDS: Final = 0.05  # a held answer leaves so long after the one that overtook it began
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: drop what is unsent and send RST

_Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class FaultProxy:
    """Stands before a server on a loopback port, with an event loop and a thread of its own.

    >>> with FaultProxy("http://127.0.0.1:8000", [Fault("stall", 200, share=0.1)]) as proxy:
    ...     print(proxy.url)  # doctest: +SKIP

    Each connection draws at most one fault, by the shares and the seed, in the order of the connections;
    `counts` says how many had which ("none" too). Works on bytes: it knows no HTTP.

    Args:
        target: base URL of the server, http only.
        faults: shares together are at most 1.
        seed: equal seeds give equal connections equal faults.
        port: 0 takes a free one.

    Raises:
        ValueError: the target is no http URL, or the shares exceed 1.
        OSError: the port is taken.
    """

    def __init__(self, target: str, faults: Iterable[Fault], *, seed: int = 0, port: int = 0) -> None:
        parts = urlsplit(target)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{target!r} is no http:// URL")
        self.faults = tuple(faults)
        if sum(fault.share for fault in self.faults) > 1 + 1e-9:
            raise ValueError("the shares of the faults are more than 100% together")
        self.counts: Counter[str] = Counter()
        self._target = (parts.hostname, parts.port or 80)
        self._random = Random(seed)
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._live: set[asyncio.Task[None]] = set()
        self._held: asyncio.Event | None = None  # lets the connection go on that waits for another's answer
        self._thread = threading.Thread(target=self._serve, name="fault-proxy", daemon=True)
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        """The proxy's base URL."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_START_SECONDS):
            raise TimeoutError("the fault proxy did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_START_SECONDS)

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._listener)
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in self._live:
            task.cancel()
        await asyncio.gather(*self._live, return_exceptions=True)

    def _draw(self) -> Fault | None:
        """The fault of the next connection."""
        drawn = self._random.random()
        for fault in self.faults:
            drawn -= fault.share
            if drawn < 0:
                return fault
        return None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = self._draw()
        self.counts[fault.kind if fault else "none"] += 1
        task = asyncio.current_task()
        assert task is not None
        self._live.add(task)
        try:
            with suppress(OSError):
                server = await asyncio.open_connection(*self._target)
                try:
                    await self._both_ways((reader, writer), server, fault)
                finally:
                    await _close(server[1])
        finally:
            await _close(writer)
            self._live.discard(task)

    async def _both_ways(self, client: _Pipe, server: _Pipe, fault: Fault | None) -> None:
        """Until either side ends: the server's end ends the answers, the client's end both."""
        asking = asyncio.ensure_future(self._ask(client[0], server[1]))
        answering = asyncio.ensure_future(self._answer(server[0], client[1], fault))
        try:
            await asyncio.wait({asking, answering}, return_when=asyncio.FIRST_COMPLETED)
            if fault is not None and fault.kind == "half-close" and answering.done():
                await asking
        finally:
            for task in (asking, answering):
                task.cancel()
                with suppress(asyncio.CancelledError, OSError):
                    await task

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None
    ) -> None:
        passed, kind, value = 0, fault.kind if fault else "", fault.value if fault else 0
        if kind == "blackhole":
            await asyncio.Event().wait()
        while piece := await reader.read(_PIECE):
            if kind == "hold" and not passed:
                await self._change_order(value / 1000)
            elif kind == "delay" or (kind == "stall" and passed <= _MIDDLE_BYTES < passed + len(piece)):
                await asyncio.sleep(value / 1000)
            elif kind in ("reset", "truncate", "half-close") and passed + len(piece) >= value:
                await self._cut(writer, piece[: value - passed], kind)
                return
            passed += len(piece)
            for part in _single(piece) if kind == "trickle" else (piece,):
                writer.write(part)
                await writer.drain()
                if kind == "trickle":
                    await asyncio.sleep(0)

    async def _change_order(self, longest_s: float) -> None:
        """The first of two waits for the second, which goes on at once and lets the first follow."""
        if self._held is not None:
            other, self._held = self._held, None
            self._loop.call_later(_BEHIND_SECONDS, other.set)
            return
        self._held = mine = asyncio.Event()
        with suppress(TimeoutError):
            await asyncio.wait_for(mine.wait(), longest_s)
        if self._held is mine:
            self._held = None

    async def _cut(self, writer: asyncio.StreamWriter, last: bytes, kind: str) -> None:
        writer.write(last)
        await writer.drain()
        if kind == "half-close":
            writer.write_eof()
        elif kind == "reset":
            connection: socket.socket = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def _single(piece: bytes) -> Iterable[bytes]:
    return (piece[at : at + 1] for at in range(len(piece)))

"""MockServer: an OpenAI chat server with a known schedule and, when asked, one planted defect."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from types import TracebackType

from aiohttp import web

from realm_mocks.server.adapters import MODEL
from realm_mocks.server.app import MockApp, run_options
from realm_mocks.server.catalogue import find_variations
from realm_mocks.server.connection import Site
from realm_mocks.server.records import RequestRecord
from realm_mocks.server.schedule import Schedule
from realm_mocks.server.tenants import Tenants

START_SECONDS = 10.0


class MockServer:
    """A server on a loopback port with an event loop and a thread of its own.

    >>> with MockServer(Schedule(ttft=0.02, itl=0.005, tokens=32)) as server:
    ...     print(server.url)  # doctest: +SKIP

    Args:
        schedule: when tokens are sent; the default sends at once. A defect that needs a latency to be seen
            brings its own schedule, which holds when none is given.
        defects: ids out of `realm_mocks.server.DEFECTS`.
        habits: ids out of `realm_mocks.server.HABITS`: innocent ways to differ.
        api_key: when given, every API route asks for it, or for the key of another of its `tenants`.
        host: address to listen on.
        port: 0 takes a free one.
        slots: answers generated at a time; further requests wait.

    Raises:
        ValueError: an id is unknown.
        OSError: the port is taken.
    """

    model = MODEL

    def __init__(
        self,
        schedule: Schedule | None = None,
        *,
        defects: Iterable[str] = (),
        habits: Iterable[str] = (),
        api_key: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        slots: int = 64,
    ) -> None:
        self.variations = find_variations(defects, habits)
        wanted = (variation.schedule for variation in self.variations if variation.schedule is not None)
        self.schedule = schedule or next(wanted, Schedule())
        self.api_key = api_key
        self.tenants = Tenants(api_key)
        self.host = host
        self.port = port
        self._slots = slots
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="mock-server", daemon=True)
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._stop: asyncio.Event | None = None
        self._app: MockApp | None = None

    @property
    def url(self) -> str:
        """The server's base URL, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    @property
    def records(self) -> list[RequestRecord]:
        """What the server saw of each chat request, oldest first."""
        return list(self._app.records) if self._app else []

    @property
    def in_flight(self) -> int:
        """Chat requests being answered now."""
        return self._app.state.in_flight if self._app else 0

    def start(self) -> MockServer:
        """Start listening; returns when connections are accepted."""
        self._thread.start()
        if not self._started.wait(START_SECONDS):
            raise TimeoutError("the mock server did not start")
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        """Stop listening, cut what is running, and wait for the thread to end."""
        if self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_SECONDS)

    def __enter__(self) -> MockServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _serve(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main())
        except BaseException as error:  # handed to start(), which raises it where the user is
            self._failure = error
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        self._app = MockApp(self.schedule, self.variations, self.tenants, self._slots)
        runner = web.AppRunner(self._app.application(), **run_options())
        await runner.setup()
        try:
            await Site(runner, self.host, self.port, self.variations).start()
            self.port = runner.addresses[0][1]
            self._started.set()
            await self._stop.wait()
        finally:
            await runner.cleanup()

"""Asking the server for its own metrics before, during and after the load.

A thread beside the locust process, in the process that waits for it: nothing is parsed while the load runs,
because the clients' clocks may share its core. A page that stops answering is no failure of the test.
"""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from realm_loadtests.figures.metricnames import only_known
from realm_loadtests.records.scrapes import Scrape
from realm_loadtests.wire.websocket import is_websocket

MOST_SCRAPES: Final = 120
_TIMEOUT_S: Final = 5.0
_LONGEST_PAGE: Final = 8 << 20


def metrics_url(url: str) -> str:
    """The page that belongs to a base URL: /metrics, beside its /v1."""
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    path = "" if is_websocket(url) else parts.path.rstrip("/").removesuffix("/v1")
    return f"{scheme}://{parts.netloc}{path}/metrics"


class Scraper:
    """Scrapes into `folder` while it is entered, if the page at `url` has anything that is known.

    Once a second, `MOST_SCRAPES` times in `duration_s` at most, from the first `align` on, and once at the
    end. An empty URL asks for nothing.
    """

    def __init__(self, url: str, api_key: str | None, folder: Path, duration_s: float) -> None:
        self._url, self._folder = url, folder
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._every_s = max(1.0, duration_s / MOST_SCRAPES)
        # The target is asked directly, as its users ask it.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self._begin: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        if self._url and self._scrape():
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()
            self._scrape()

    def align(self, on_progress: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
        """Take the users' clock from the states that pass here to `on_progress`."""

        def passed_on(state: dict[str, Any]) -> None:
            if not state["stopping"]:
                self._begin = time.monotonic() - state["elapsed_s"]
            on_progress(state)

        return passed_on

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            if self._begin is not None:
                self._scrape()

    def _scrape(self) -> bool:
        """Whether there was a page with something in it."""
        begin = self._begin
        request = urllib.request.Request(self._url, headers=self._headers)
        with suppress(OSError, ValueError, HTTPException):
            with self._open(request, timeout=_TIMEOUT_S) as response:
                page = only_known(response.read(_LONGEST_PAGE).decode("utf-8", "replace"))
            at_s = 0.0 if begin is None else time.monotonic() - begin
            if page:
                Scrape(round(at_s, 3), self._url, page).append_to(self._folder)
                return True
        return False

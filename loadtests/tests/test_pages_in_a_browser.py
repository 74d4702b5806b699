"""The pages as a browser shows them, as wide as a phone and as a desk's window: whole and without network."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from realm_loadtests.report.page import render_knee
from realm_loadtests.report.plots import draw_knee

NAMES = ("chromium", "chromium-browser", "google-chrome")
_COMPLAINTS = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")


@dataclass
class Seen:
    """What opening a page showed: its width and the window's, what it fetched and what it complained of."""

    width: int
    window: int
    text: str
    fetched: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


class Browser:
    """A headless Chromium, told over a pipe what to do: no port, no library. A context manager."""

    def __init__(self, program: str, profile: Path) -> None:
        ours, theirs = os.pipe(), os.pipe()
        # The program reads its orders from descriptor 3 and answers on 4; a shell puts them there.
        script = f'exec "$@" 3<&{ours[0]} 4>&{theirs[1]}'
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            "--disable-dev-shm-usage",
        ]
        self._process = subprocess.Popen(
            ["bash", "-c", script, "browser", program, *flags, f"--user-data-dir={profile}"],
            pass_fds=(ours[0], theirs[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._orders, self._answers = ours[1], os.fdopen(theirs[0], "rb")
        self._number, self._events, self._session = 0, list[dict[str, Any]](), ""

    def __enter__(self) -> Browser:
        target = self.order("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.order("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.order(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._orders)
        self._answers.close()

    def open(self, page: Path, width: int, picture: Path | None = None) -> Seen:
        """Load the page from its file in a window so many CSS pixels wide and look at it; `picture` is where
        its whole length is drawn.
        """
        self.order(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=True
        )
        self._events.clear()
        self.order("Page.navigate", url=page.as_uri())
        self._wait_for("Page.loadEventFired")
        root = "document.documentElement"
        seen = Seen(
            *(self._value(text) for text in (f"{root}.scrollWidth", "innerWidth", f"{root}.innerText"))
        )
        for event in self._events:
            if event["method"] == "Network.requestWillBeSent":
                seen.fetched.append(event["params"]["request"]["url"])
            elif event["method"] in _COMPLAINTS:
                seen.complaints.append(json.dumps(event["params"]))
        if picture is not None:
            drawn = self.order("Page.captureScreenshot", captureBeyondViewport=True)
            picture.write_bytes(base64.b64decode(drawn["data"]))
        return seen

    def order(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one order and wait for its result; events that come before it are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._orders, json.dumps(message).encode() + b"\0")
        while (found := self._read()).get("id") != self._number:
            self._events.append(found)
        assert "error" not in found, found
        result: dict[str, Any] = found["result"]
        return result

    def _value(self, expression: str) -> Any:
        return self.order("Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]

    def _wait_for(self, method: str) -> None:
        while not any(event["method"] == method for event in self._events):
            self._events.append(self._read())

    def _read(self) -> dict[str, Any]:
        data = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "the browser has ended"
            data += byte
        found: dict[str, Any] = json.loads(data)
        return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next((path for name in NAMES if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"none of {', '.join(NAMES)} is on PATH: pages are looked at in one")
    with Browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def looked_at(browser: Browser, page: Path) -> str:
    """The page's text, once it has been seen to fit and to need nothing."""
    for width in (360, 1100):
        seen = browser.open(page, width)
        assert (seen.window, seen.width) == (width, width)
        assert not seen.complaints
        assert [url for url in seen.fetched if not url.startswith("data:image/svg+xml")] == [page.as_uri()]
    return seen.text


def test_a_run_fits_a_phone_and_needs_no_network(browser: Browser, reported: Callable[..., Path]) -> None:
    folder = reported("--slo", "ttft_p99<300ms,itl_p99<1ms", tenants=("alice", "a-name-" * 9))
    text = looked_at(browser, folder / "report.html")
    for words in ("1 of 2 objectives missed", "Time to first token", "Tenants", "Every definition"):
        assert words in text


def test_a_search_for_the_knee_fits_a_phone(browser: Browser, tmp_path: Path) -> None:
    figures = {"ttft_p50_ms": 20.0, "ttft_p99_ms": 1234.5, "itl_p99_ms": 7.25, "tokens_per_second": 12345.0}
    steps = [
        {"rate": rate, "holds": holds, "client_limited": rate > 8, "figures": figures}
        for rate, holds in ((1.0, 1.0), (2.0, 1.0), (4.0, 0.6), (16.0, 0.0))
    ]
    knee = {"schema": "realm-knee/1", "rate": 5.1, "low": 2.0, "high": 16.0, "steps": steps}
    page = tmp_path / "knee.html"
    page.write_text(render_knee(knee, "The objectives hold up to 5.1 requests a second", draw_knee(knee)))
    assert "16.0" in looked_at(browser, page)

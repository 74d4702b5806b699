"""The reference server as a process: started on a free port, watched until ready, stopped by its own pid."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from realm_harness.prove.options import KEY_VARIABLE, LIMITED_VARIABLE, OTHER_VARIABLE, Options
from realm_harness.prove.processes import Child, realm_command
from realm_harness.report.text import visible

READY_SECONDS = 600.0  # a first start compiles
_POLL_SECONDS = 0.05
_ADAPTERS = ("--adapter", "one=seed:1", "--adapter", "two=seed:2")  # or adapters could not be judged
_LIMITS = "[tenants.limited]\nrequests_per_minute = 60\nrequests_burst = 3\n"


class ServerFailed(Exception):
    """The server did not become ready; `tail` holds the last lines of its log."""

    def __init__(self, message: str, tail: tuple[str, ...]) -> None:
        super().__init__(message)
        self.tail = tail


class Server:
    """A running reference server: its URL, and whether it still lives."""

    def __init__(self, child: Child, url: str) -> None:
        self._child = child
        self.url = url

    def death(self) -> str:
        """How the server ended by itself, or "" while it runs."""
        code = self._child.poll()
        return "" if code is None else f"the server ended by itself {_cause(code)}"

    def tail(self) -> tuple[str, ...]:
        """The last lines of its log."""
        return tuple(self._child.tail)


def _cause(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


@contextmanager
def reference_server(
    options: Options, work: Path, on_wait: Callable[[], None], ready_seconds: float = READY_SECONDS
) -> Iterator[Server]:
    """Run `realm serve` while the context is open, locked with the run's key; its log goes to server.log.

    Raises ServerFailed.
    """
    ready, keys, tenants = work / "ready.json", work / "keys.json", work / "tenants.toml"
    names = {KEY_VARIABLE: "prove", OTHER_VARIABLE: "other", LIMITED_VARIABLE: "limited"}
    entries = [{"key": key, "tenant_id": names[of]} for of, key in options.tenant_keys.items()]
    keys.write_text(json.dumps(entries), encoding="utf-8")
    tenants.write_text(_LIMITS, encoding="utf-8")
    command = realm_command(
        *("serve", "--http", "--host", "127.0.0.1", "--http-port", "0"),
        *("--model", options.served_model, "--ready-file", str(ready)),
        *_ADAPTERS,
        *("--auth", "--api-keys", str(keys), "--tenants", str(tenants)),
        *options.computing,
    )
    with (options.out / "server.log").open("w", encoding="utf-8", buffering=1) as log:

        def keep(line: str) -> None:
            log.write(visible(line) + "\n")

        with Child(command, options.environment(), keep) as child:
            yield Server(child, _wait_until_ready(child, ready, on_wait, ready_seconds))


def _wait_until_ready(child: Child, ready: Path, on_wait: Callable[[], None], seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while True:
        if (url := _url_in(ready)) is not None:
            return url
        if (code := child.poll()) is not None:
            child.wait(0)
            raise ServerFailed(f"the server ended {_cause(code)} before it was ready", tuple(child.tail))
        if time.monotonic() > deadline:
            raise ServerFailed(f"the server was not ready after {seconds:.0f} s", tuple(child.tail))
        on_wait()
        time.sleep(_POLL_SECONDS)


def _url_in(ready: Path) -> str | None:
    """The URL in the ready file, None while it is not there or half written."""
    try:
        found = json.loads(ready.read_text(encoding="utf-8"))
        return str(found["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None

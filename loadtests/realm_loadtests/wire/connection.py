"""A kept-alive connection to the target, and the clock's place on it.

Everything that a client library does between the kernel and the caller ends up in the latencies that it
reports (iterating lines over a buffered reader blocks until its buffer is full; a client that waits for the
whole body sees no tokens). So a user has the bare socket, whose reads come with the moment at which the bytes
arrived (`stamps.py`), and parses after that. It is the standard library's socket: inside locust, gevent has
replaced it by its own.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from time import perf_counter_ns
from urllib.parse import urlsplit

from realm_loadtests.wire.failures import ExchangeFailure, connect_failure, transfer_failure
from realm_loadtests.wire.stamps import StampedReader


@dataclass(frozen=True)
class Target:
    """Where the API is: `prefix` is the path under which `/chat/completions` is found."""

    host: str
    port: int
    tls: bool
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Target:
        """Parse a base URL, with or without the `/v1` that the API's paths begin with; else ValueError."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an http://, https://, ws:// or wss:// URL")
        tls = parts.scheme == "https"
        path = parts.path.rstrip("/")
        prefix = path if path.endswith("/v1") else f"{path}/v1"
        return cls(parts.hostname, parts.port or (443 if tls else 80), tls, prefix)

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def build_request(
    target: Target, method: str, path: str, *, body: bytes = b"", api_key: str | None = None
) -> bytes:
    """Build the bytes of one request; `path` is below the API's prefix."""
    lines = [f"{method} {target.prefix}{path} HTTP/1.1", f"Host: {target.authority}"]
    lines += ["User-Agent: realm-load", "Accept-Encoding: identity"]
    if api_key:
        lines.append(f"Authorization: Bearer {api_key}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Connection:
    """One connection, opened when needed and kept between requests.

    `deadline` arguments are on the clock of `perf_counter_ns`; None leaves the limit to the caller, because a
    timer for each read costs gevent as much as the read does. Socket errors, and a `TimeoutError` that the
    caller's timer raises while a method waits, leave as `ExchangeFailure`.
    """

    def __init__(self, target: Target, *, ca_file: str | None = None) -> None:
        self._target = target
        self._tls = ssl.create_default_context(cafile=ca_file) if target.tls else None
        self._socket: socket.socket | None = None
        self._reader: StampedReader | None = None

    def ensure_open(self, deadline: int | None) -> int:
        """Connect, unless a usable connection was kept; return the nanoseconds that it took (0: kept)."""
        if self._socket is not None and not self._is_stale(self._socket):
            return 0
        self.close()
        begin = perf_counter_ns()
        try:
            self._socket = self._connect(_seconds_left(deadline, begin))
        except OSError as error:
            raise connect_failure(error) from error
        self._reader = StampedReader(self._socket, tls=self._tls is not None)
        return perf_counter_ns() - begin

    def send(self, request: bytes, deadline: int | None) -> int:
        """Send the request; return the moment before its first byte left."""
        assert self._socket is not None, "ensure_open comes first"
        begin = perf_counter_ns()
        try:
            self._socket.settimeout(_seconds_left(deadline, begin))
            self._socket.sendall(request)
        except OSError as error:
            raise transfer_failure(error) from error
        return begin

    def receive(self, deadline: int | None, now: int) -> tuple[bytes, int]:
        """Wait for the next bytes; return them (empty: closed) with the moment at which they were there.

        `now` is the moment of what came before: no step of the system's clock makes time go back.
        """
        assert self._socket is not None, "ensure_open comes first"
        assert self._reader is not None
        try:
            if deadline is not None:
                self._socket.settimeout(_seconds_left(deadline, now))
            data, arrived = self._reader.read(wait=deadline is None)
            return data, arrived if arrived > now else now
        except OSError as error:
            raise transfer_failure(error) from error

    def close(self) -> None:
        """Close, if open."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self, timeout: float | None) -> socket.socket:
        raw = socket.create_connection((self._target.host, self._target.port), timeout=timeout)
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                return raw
            return self._tls.wrap_socket(raw, server_hostname=self._target.host)
        except BaseException:
            raw.close()
            raise

    @staticmethod
    def _is_stale(kept: socket.socket) -> bool:
        """Tell whether the server has closed an idle connection, or has sent what nobody asked for."""
        try:
            kept.settimeout(0.0)
            kept.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
        return True


def _seconds_left(deadline: int | None, now: int) -> float | None:
    if deadline is None:
        return None
    left = (deadline - now) / 1e9
    if left <= 0:
        raise ExchangeFailure("timeout", "no complete response within the time limit")
    return left

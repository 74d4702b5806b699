"""One HTTP exchange as plain values: where it went, what was sent, what came back, how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit


class Ending(StrEnum):
    """How an exchange ended, seen from the socket."""

    COMPLETE = "complete"  # the body ended where its framing says
    CLOSED = "closed"  # the body has no framing; the server closed the connection
    CUT = "cut"  # the server closed the connection before the body's end
    RESET = "reset"  # the server reset the connection
    TIMEOUT = "timeout"  # nothing came for too long
    ENDLESS = "endless"  # bytes came, but no end
    MALFORMED = "malformed"  # what came is not HTTP/1.1
    LEFT = "left"  # this client closed the connection, on purpose
    OPEN = "open"  # not ended yet


@dataclass(frozen=True)
class Timeouts:
    """Seconds that the client waits: to connect, for the next byte, for the whole exchange."""

    connect: float = 10.0
    silence: float = 60.0
    total: float = 300.0


@dataclass(frozen=True)
class Sent:
    """The request of an exchange, as sent; `raw` has the bytes of one that no HTTP client would send."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    raw: bytes = b""


@dataclass
class Exchange:
    """One request and what came back. Times are `time.perf_counter_ns()`.

    Attributes:
        status: HTTP status, None when no reply came.
        version: of HTTP, from the status line, such as "1.1".
        headers: (lower-case name, value) pairs of the reply.
        segments: (time, bytes) of each piece of the body, as read.
        ending: how it ended; `detail` says more where there is more to say.
    """

    request: Sent
    sent_ns: int = 0
    status: int | None = None
    version: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    segments: list[tuple[int, bytes]] = field(default_factory=list)
    ending: Ending = Ending.OPEN
    detail: str = ""
    ended_ns: int = 0

    @property
    def body(self) -> bytes:
        """The body so far."""
        return b"".join(data for _, data in self.segments)

    def header(self, name: str) -> str | None:
        """The first reply header of that name, or None."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    @property
    def media_type(self) -> str:
        """The reply's media type without parameters, lower-case; "" when there is none."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()


class Unreachable(Exception):
    """No connection could be made; the message is one line for a person."""


@dataclass(frozen=True)
class Address:
    """Where a server's API lives: `prefix` is what stands before `/v1`."""

    scheme: str
    host: str
    port: int
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a base URL, with or without `/v1`; ValueError says what is wrong with it."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"'{url}' is not a server's URL; give one such as http://localhost:8080")
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise ValueError(f"'{url}' has a bad port; give one such as http://localhost:8080") from None
        path = parts.path.rstrip("/")
        return cls(parts.scheme, parts.hostname, port, path.removesuffix("/v1"))

    @property
    def netloc(self) -> str:
        """Host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == (443 if self.scheme == "https" else 80)
        return host if usual else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL, without `/v1`."""
        return f"{self.scheme}://{self.netloc}{self.prefix}"


def curl(address: Address, request: Sent, secret_headers: Sequence[str] = ("authorization",)) -> str:
    """A command line that sends the same request; secrets become `$REALM_API_KEY`."""
    if request.raw:
        return _telnet(address, request.raw)
    words = ["curl", "-i", "-N"]
    if request.method != ("POST" if request.body else "GET"):
        words += ["-X", request.method]
    for name, value in request.headers:
        if name.lower() in secret_headers:
            words += ["-H", f'"{name}: Bearer $REALM_API_KEY"']
        elif name.lower() == "content-type":
            words += ["-H", _quoted(f"{name}: {value}")]
    if request.body:
        words += ["--data-binary", _quoted(_clip(request.body.decode("utf-8", "backslashreplace")))]
    origin = f"{address.scheme}://{address.netloc}"
    return " ".join([*words, _quoted(origin + request.path)])


def _telnet(address: Address, raw: bytes) -> str:
    """Bytes that curl sends only if it is told that they are no HTTP."""
    plain = (32 <= byte < 127 and byte not in b"%\\'" for byte in raw)
    shown = "".join(chr(byte) if fine else f"\\{byte:03o}" for byte, fine in zip(raw, plain, strict=True))
    return f"curl --max-time 9 telnet://{address.netloc} < <(printf '{_clip(shown)}')"


def _clip(text: str, limit: int = 2000) -> str:
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"

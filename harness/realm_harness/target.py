"""The server under test, as the cases see it: ask, stream, send anything, do things together."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from realm_harness.answers import Answer, Json, Stream, is_done, shown
from realm_harness.case import Broken, Case, Unjudged, Unsupported
from realm_harness.exchange import Address, Ending, Exchange, Sent, Timeouts, Unreachable, curl
from realm_harness.results import Evidence, TargetFacts
from realm_harness.sse import Parser
from realm_harness.wire import Call, Connection
from realm_harness.wirelog import WireLog

CHAT = "/v1/chat/completions"
MODELS = "/v1/models"
USER_AGENT = "realm-harness"
NEVER_UNSUPPORTED = frozenset({"model", "messages", "stream"})
"""Parameters without which a server is no chat server."""

Result = TypeVar("Result")


@dataclass
class Target:
    """A server and how to talk to it.

    Attributes:
        address: where its API is.
        model: the name that requests carry.
        api_key: the key, None for none.
        other_key: of another tenant, None when not known.
        limited_key: of a tenant with small limits, None when not known.
        timeouts: how long to wait, scaled by a warm-up request.
        cap_parameter: what the server calls the cap on an answer's tokens.
        server_header: the Server header of its replies.
        precision: how it says that its model computes; None where it does not.
        websocket: where its WebSocket was said to be; None for the usual place, if it has one at all.
    """

    address: Address
    model: str
    api_key: str | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    cap_parameter: str = "max_tokens"
    server_header: str | None = None
    precision: str | None = None
    websocket: Address | None = None
    log: WireLog = field(default_factory=WireLog)
    last: Exchange | None = None
    other_key: str | None = None
    limited_key: str | None = None
    _settled: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys, which nothing may show."""
        return tuple(key for key in (self.other_key, self.limited_key, self.api_key) if key)

    def begin_case(self) -> None:
        """Forget the wire log and the last exchange: a new case starts."""
        self.log = WireLog(self.keys)
        self.last = None

    def evidence(self, _case: Case) -> Evidence:
        """The wire log since `begin_case`, and its last exchange."""
        last = self.last
        repro = curl(self.address, last.request) if last else ""
        if self.api_key:
            repro = repro.replace(self.api_key, "***")
        return Evidence(str(last.ending) if last else "", repro, self.log.entries())

    @property
    def facts(self) -> TargetFacts:
        """What is known of the server."""
        return TargetFacts(self.address.url, self.model, self.server_header, self.precision)

    # Requests

    def request(
        self, method: str, path: str, body: bytes = b"", *, key: str | None = "", accept: str = "*/*"
    ) -> Sent:
        """A request with the usual headers; `key` replaces the Authorization, None leaves it out."""
        headers = [("User-Agent", USER_AGENT), ("Accept", accept), ("Accept-Encoding", "identity")]
        if body:
            headers.append(("Content-Type", "application/json"))
        authorization = (f"Bearer {self.api_key}" if self.api_key else None) if key == "" else key
        if authorization is not None:
            headers.append(("Authorization", authorization))
        return Sent(method, self.address.prefix + path, tuple(headers), body)

    def body(self, prompt: str | list[Json], tokens: int | None = None, **params: Any) -> Json:
        """The JSON of a chat request; `tokens` caps the answer under the name that the server knows."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        cap = {} if tokens is None else {self.cap_parameter: tokens}
        return {"model": self.model, "messages": messages, **cap, **params}

    def connect(self) -> Connection:
        """A connection, to be closed by the caller; Broken when the server no longer accepts one."""
        try:
            return Connection(self.address, self.timeouts, self.log)
        except Unreachable as error:
            raise Broken(f"the server no longer accepts connections: {error}") from None

    def send(self, request: Sent, pieces: int = 1) -> Exchange:
        """Send a request on a connection of its own and read what comes; Broken when no reply came."""
        with self.connect() as connection:
            call = connection.call(request, pieces)
            self.last = call.exchange
            return replied(call.read())

    def raw(self, raw: bytes, method: str = "POST") -> Sent:
        """A request that is these bytes, whatever they are; `method` says which reply they should get."""
        return Sent(method, self.address.prefix + CHAT, (), b"", raw)

    def send_bytes(self, raw: bytes, method: str = "POST") -> Exchange:
        """Send these bytes on a connection of their own and read what comes, if anything does."""
        with self.connect() as connection:
            call = connection.call_bytes(self.raw(raw, method))
            self.last = call.exchange
            return call.read()

    def post(self, body: Json | bytes, *, key: str | None = "", pieces: int = 1) -> Exchange:
        """Send a chat request with this body, whatever it is."""
        return self.send(self.request("POST", CHAT, encode(body), key=key), pieces)

    def post_to(self, path: str, body: Json | bytes) -> Exchange:
        """Send a body, whatever it is, to another route than the chat's."""
        return self.send(self.request("POST", path, encode(body)))

    def get(self, path: str, *, key: str | None = "") -> Exchange:
        """Send a GET."""
        return self.send(self.request("GET", path, key=key))

    # Answers

    def ask(self, prompt: str | list[Json], tokens: int | None = None, **params: Any) -> Answer:
        """A whole answer; Broken or Unsupported when the request is refused."""
        exchange = self.post(self.body(prompt, tokens, **params))
        accepted(exchange, params)
        return Answer.read(exchange)

    def stream(self, prompt: str | list[Json], tokens: int | None = None, **params: Any) -> Stream:
        """A streamed answer read to its end; Unjudged when there is nothing in it that could be read."""
        stream = self.raw_stream(prompt, tokens, **params)
        if not stream.chunks:
            begins = shown(stream.exchange.body[:100])
            raise Unjudged(f"no event of the stream is a JSON object (see CHAT-STREAM-002): {begins}")
        return stream

    def raw_stream(self, prompt: str | list[Json], tokens: int | None = None, **params: Any) -> Stream:
        """A stream read to its end, whatever is in it."""
        with self.open_stream(prompt, tokens, **params) as live:
            return live.read()

    @contextmanager
    def open_stream(
        self, prompt: str | list[Json], tokens: int | None = None, **params: Any
    ) -> Iterator[LiveStream]:
        """A stream to be read event by event, or left in the middle."""
        body = self.body(prompt, tokens, stream=True, **params)
        request = self.request("POST", CHAT, encode(body), accept="text/event-stream")
        with self.connect() as connection:
            call = connection.call(request)
            self.last = call.exchange
            yield LiveStream(call, params)

    def settled(self, prompt: str, tokens: int | None, **params: Any) -> str:
        """The answer at temperature 0, once two requests in a row gave the same one; else Unjudged."""
        name = json.dumps([prompt, tokens, params])
        if name not in self._settled:
            before = None
            for _ in range(4):
                text = self.ask(prompt, tokens, temperature=0, **params).text()
                if text == before:
                    break
                before = text
            else:
                raise Unjudged(
                    "answers at temperature 0 differ from one request to the next: nothing to compare"
                )
            self._settled[name] = text
        return self._settled[name]

    def together(self, tasks: Sequence[Callable[[], Result]]) -> list[Result]:
        """Run the tasks at the same time, a thread each; the first error is raised when all have ended."""
        with ThreadPoolExecutor(len(tasks)) as pool:
            futures = [pool.submit(task) for task in tasks]
        return [future.result() for future in futures]


class LiveStream:
    """A stream while it comes. `events` yields its data as they arrive; `leave` closes the connection."""

    def __init__(self, call: Call, params: Json) -> None:
        self._call = call
        self._params = params
        self._parser = Parser()
        self.exchange = call.exchange

    def contents(self) -> Iterator[tuple[int, str]]:
        """(time, text) of each event that brings text to the first choice, as it comes."""
        for t_ns, data in self._call.segments():
            accepted(self.exchange, self._params)
            for event in self._parser.feed(data, t_ns):
                text = "" if is_done(event) else _first_content(event.data)
                if text:
                    yield event.t_ns, text
        replied(self.exchange)
        accepted(self.exchange, self._params)

    def first_content(self) -> int:
        """Read up to the first text; its time. Unjudged when the stream ends without one."""
        for t_ns, _ in self.contents():
            return t_ns
        raise Unjudged("the stream ended without any text")

    def read(self) -> Stream:
        """Read the rest to the end; the whole stream."""
        self._call.read()
        replied(self.exchange)
        accepted(self.exchange, self._params)
        return Stream.read(self.exchange)

    def leave(self) -> None:
        """Close the connection in the middle."""
        self._call.leave()


def _first_content(data: str) -> str:
    try:
        choices = json.loads(data)["choices"]
        return str(choices[0]["delta"].get("content") or choices[0]["delta"].get("reasoning_content") or "")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return ""


def encode(body: Json | bytes) -> bytes:
    """The bytes of a request body; lone surrogates stay as escapes."""
    return body if isinstance(body, bytes) else json.dumps(body).encode("ascii")


def replied(exchange: Exchange) -> Exchange:
    """The exchange, or Broken when no HTTP reply came at all."""
    if exchange.status is None:
        waited = (exchange.ended_ns - exchange.sent_ns) / 1e9
        why = {
            Ending.TIMEOUT: f"nothing came for {waited:.1f} s",
            Ending.RESET: "the connection was reset",
            Ending.MALFORMED: f"what came is not HTTP/1.1 ({exchange.detail})",
        }.get(exchange.ending, "the connection was closed without a reply")
        raise Broken(f"no reply to {exchange.request.method} {exchange.request.path}: {why}")
    return exchange


def accepted(exchange: Exchange, params: Json) -> None:
    """Nothing when a chat request got a 200; Unsupported when the reply names one of `params`; or Broken."""
    if exchange.status == 200 or exchange.status is None:
        return
    said = exchange.body.decode("utf-8", "replace")
    named = [name for name in params if name not in NEVER_UNSUPPORTED and name in said]
    if exchange.status in (400, 404, 422, 501) and named:
        raise Unsupported(f"the server does not take `{named[0]}`: {exchange.status} {shown(said)}")
    raise Broken(f"a plain chat request was refused: {exchange.status} {shown(said)}")


def clock_ms(later_ns: int, earlier_ns: int) -> float:
    """Milliseconds between two `perf_counter_ns` times."""
    return (later_ns - earlier_ns) / 1e6


def wait_until(condition: Callable[[], bool], seconds: float, step: float = 0.02) -> bool:
    """Poll until the condition holds; False when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(step)
    return True

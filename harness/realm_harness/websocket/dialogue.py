"""Realm's protocol on a WebSocket: the handshake, calls, and what came of each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING

from realm_harness.answers import Json, shown
from realm_harness.case import Broken, Unjudged, Unsupported
from realm_harness.exchange import Sent, Unreachable
from realm_harness.websocket.socket import SocketClosed, SwitchingConnection, WebSocket, upgrade

if TYPE_CHECKING:
    from realm_harness.target import Target

PATH = "/ws"
"""Where the reference has it; another place is named with --websocket."""

USER_AGENT = "realm-harness"
ENDS = ("complete", "error", "cancelled")


@dataclass
class CallLog:
    """All that came of one call, in order, with times."""

    id: str
    sent_ns: int = 0
    messages: list[tuple[int, Json]] = field(default_factory=list)

    @property
    def replies(self) -> list[Json]:
        """The messages without their times."""
        return [message for _, message in self.messages]

    @property
    def end(self) -> Json:
        """The message that ended it; Broken when none has."""
        for message in self.replies:
            if message.get("status") in ENDS:
                return message
        raise Broken(f"the call {self.id} has not ended; what came of it is {shown(self.replies)}")

    @property
    def pieces(self) -> list[Json]:
        """The data of its streaming messages."""
        found = [m.get("data") for m in self.replies if m.get("status") == "streaming"]
        return [data if isinstance(data, dict) else {} for data in found]

    @property
    def text(self) -> str:
        """The text of its pieces, put together."""
        return "".join(str(piece.get("text", "")) for piece in self.pieces)

    @property
    def result(self) -> Json:
        """The data of its end, which has to be complete."""
        end = self.end
        if end.get("status") != "complete":
            raise Broken(f"a plain call was not completed: {shown(end)}")
        data = end.get("data")
        if not isinstance(data, dict):
            raise Broken(f"the reply of a complete call has no object `data`: {shown(end)}")
        return data

    @property
    def error(self) -> Json:
        """The error of its end, which has to be one."""
        end = self.end
        error = end.get("error")
        if end.get("status") != "error" or not isinstance(error, dict):
            raise Broken(f"the call should have ended with an error, and ended with {shown(end)}")
        return error


class Dialogue:
    """A conversation with a server, a context manager; `logs` are the calls by id."""

    def __init__(self, target: Target, socket: WebSocket) -> None:
        self.socket = socket
        self.logs: dict[str, CallLog] = {}
        self.strays: list[Json] = []
        self.before: list[Json] = []  # what came before the welcome, and the welcome
        self._target = target

    def __enter__(self) -> Dialogue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.leave()

    @property
    def guarded(self) -> bool:
        """Whether the server asked for a key."""
        return bool(self.before) and self.before[0].get("type") == "auth_required"

    def greet(self) -> Dialogue:
        """Go through the handshake, up to and with the welcome."""
        self.before.append(self.receive()[1])
        if self.guarded:
            if self._target.api_key is None:
                raise Unjudged("the WebSocket asks for an API key; pass one with --api-key")
            self.authenticate(self._target.api_key)
            self.before.append(self.receive()[1])
            if self.before[-1].get("type") == "auth_failed":
                raise Broken(f"the key that opens the HTTP API is refused: {shown(self.before[-1])}")
            self.before.append(self.receive()[1])
        return self

    def authenticate(self, key: str) -> None:
        """Send a key."""
        self.send({"type": "auth", "api_key": key})

    def send(self, message: Json) -> None:
        """Send any message."""
        self.socket.send(json.dumps(message))

    def expect(self, id: str) -> CallLog:
        """The log of a call that is about to be sent."""
        self.logs[id] = CallLog(id, time.perf_counter_ns())
        return self.logs[id]

    def call(self, id: str, function: str, /, **params: object) -> CallLog:
        """Start a call; its log fills while anything is received."""
        log = self.expect(id)
        self.send({"id": id, "function": function, "params": params})
        return log

    def ask(self, function: str, /, **params: object) -> CallLog:
        """A call and all that comes until its end."""
        log = self.call(f"ask-{len(self.logs)}", function, **params)
        self.until(lambda: ended(log))
        return log

    def ask_as(self, tenant: str, function: str, /) -> CallLog:
        """As `ask`, for a tenant that the call names."""
        log = self.expect(f"ask-{len(self.logs)}")
        self.send({"id": log.id, "function": function, "params": {}, "tenant_id": tenant})
        self.until(lambda: ended(log))
        return log

    def receive(self, seconds: float | None = None) -> tuple[int, Json]:
        """(time, message) of the next message, filed under its call. TimeoutError, SocketClosed; Broken for
        what is no JSON object.
        """
        t_ns, text = self.socket.message(seconds)
        try:
            message = json.loads(text)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise Broken(f"a message is no JSON object: {shown(text)}")
        log = self.logs.get(str(message.get("id")))
        if log is not None:
            log.messages.append((t_ns, message))
        elif isinstance(message.get("id"), str):
            self.strays.append(message)
        return t_ns, message

    def until(self, done: Callable[[], bool]) -> None:
        """Receive until `done`; Broken when the server falls silent or closes before."""
        while not done():
            try:
                self.receive()
            except TimeoutError:
                raise Broken(f"the server fell silent; open: {self._open()}") from None
            except SocketClosed as closed:
                raise Broken(f"{closed}; open: {self._open()}") from None

    def next(self) -> Json:
        """The next message; Broken when none comes."""
        got = self.reply_or_close()
        if got is None:
            raise Broken("the server closes in place of an answer")
        return got

    def reply_or_close(self) -> Json | None:
        """The next message; None when the server closes instead. Broken when it does neither."""
        try:
            return self.receive()[1]
        except SocketClosed:
            return None
        except TimeoutError:
            raise Broken("the server answers with nothing, and stays connected") from None

    def quiet(self, seconds: float) -> list[Json]:
        """All that still comes within `seconds`, or until the server closes."""
        got: list[Json] = []
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                got.append(self.receive(left)[1])
            except (TimeoutError, SocketClosed):
                break
        return got

    def _open(self) -> str:
        return ", ".join(id for id, log in self.logs.items() if not ended(log)) or "nothing"


def ended(log: CallLog) -> bool:
    """Whether a call's end has come."""
    return any(message.get("status") in ENDS for message in log.replies)


def open_socket(target: Target) -> WebSocket:
    """An upgraded connection; Unsupported where the server has none, Broken where it should."""
    address = target.websocket or replace(target.address, prefix=target.address.prefix + PATH)
    try:
        connection = SwitchingConnection(address, target.timeouts, target.log)
    except Unreachable as error:
        raise Broken(f"the server no longer accepts connections: {error}") from None
    got = upgrade(connection, Sent("GET", address.prefix or "/", (("User-Agent", USER_AGENT),), b""))
    if isinstance(got, WebSocket):
        target.last = got.exchange
        return got
    connection.close()
    target.last = got
    where = f"{address.url} answers an upgrade to WebSocket with {got.status or got.ending}"
    if target.websocket is not None:
        raise Broken(where)
    raise Unsupported(f"{where}; if it is elsewhere, say where with --websocket")


def open_dialogue(target: Target) -> Dialogue:
    """A conversation after its handshake."""
    dialogue = Dialogue(target, open_socket(target))
    try:
        return dialogue.greet()
    except SocketClosed as closed:
        dialogue.socket.leave()
        raise Broken(f"no welcome came: {closed}") from None
    except TimeoutError:
        dialogue.socket.leave()
        raise Broken(f"no welcome came; before it came {shown(dialogue.before)}") from None
    except BaseException:
        dialogue.socket.leave()
        raise

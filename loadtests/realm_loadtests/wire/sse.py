"""Server-sent events, read in whatever pieces the connection gives (WHATWG HTML, section 9.2.6).

Tolerant on purpose: comments, all three line ends, several events a read and one event in many reads are
all what real servers and proxies do, and none of them may change a figure.
"""

from __future__ import annotations

from typing import NamedTuple

from realm_loadtests.wire.failures import ExchangeFailure

MAX_EVENT = 8 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """A dispatched event: its type (empty means `message`) and its data, lines joined by a line feed."""

    name: bytes
    data: bytes


class EventReader:
    """Turns pieces of a stream's body into events."""

    def __init__(self) -> None:
        self._tail = b""
        self._after_cr = False
        self._first_line = True
        self._name = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[Event]:
        """Take the next piece; return the events that it completed, in order.

        An event counts as complete at its empty line: before it, a client may not act on the event. A last
        event without an empty line is dropped, as the standard asks.
        """
        if not piece:
            return []
        if self._is_one_event(piece):
            return [Event(b"", piece[6:-2])]
        if self._after_cr and piece[:1] == b"\n":
            piece = piece[1:]
        self._after_cr = piece.endswith(b"\r") if piece else False
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in piece:
            self._tail += piece
            if len(self._tail) > MAX_EVENT:
                raise ExchangeFailure("malformed_event", f"an event is longer than {MAX_EVENT} bytes")
            return []
        *lines, tail = (self._tail + piece).split(b"\n")
        self._tail = tail
        events: list[Event] = []
        for line in lines:
            self._take_line(line, events)
        return events

    def _is_one_event(self, piece: bytes) -> bool:
        """The usual case, a piece that is one whole event of one line, is worth a short cut."""
        return (
            piece.startswith(b"data: ")
            and piece.endswith(b"\n\n")
            and piece.count(b"\n") == 2
            and b"\r" not in piece
            and not (self._tail or self._data or self._name or self._first_line or self._after_cr)
        )

    def _take_line(self, line: bytes, events: list[Event]) -> None:
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append(Event(self._name, b"\n".join(self._data)))
            self._name, self._data = b"", []
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value

"""A strict parser of server-sent events (WHATWG HTML, section 9.2.6), fed with bytes as they are read.

It accepts all that the standard allows (comments, CR, LF or CR LF, a byte order mark, fields without a
space, data over several lines, events in any pieces) and keeps a list of `faults` for what it does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_LINE = re.compile(rb"\r\n|\n|\r")
_FIELDS = frozenset({"data", "event", "id", "retry"})


@dataclass(frozen=True)
class Event:
    """One dispatched event.

    Attributes:
        t_ns: when the read that completed it came.
        data: the data lines, joined with LF.
        name: the event's name; "" is the default, "message".
    """

    t_ns: int
    data: str
    name: str = ""


@dataclass
class Parser:
    """An incremental parser. After the stream's end, `rest` holds what no blank line completed."""

    faults: list[str] = field(default_factory=list)
    comments: int = 0
    _buffer: bytes = b""
    _data: list[str] = field(default_factory=list)
    _name: str = ""
    _begun: bool = False

    def feed(self, raw: bytes, t_ns: int) -> list[Event]:
        """Take the bytes of one read; returns the events that they complete."""
        self._buffer += raw
        if not self._begun and len(self._buffer) >= 3:
            self._begun = True
            self._buffer = self._buffer.removeprefix(b"\xef\xbb\xbf")
        events: list[Event] = []
        while (match := _LINE.search(self._buffer)) is not None:
            # A CR at the very end may be half of a CR LF: wait for the next read.
            if match.group() == b"\r" and match.end() == len(self._buffer):
                break
            line, self._buffer = self._buffer[: match.start()], self._buffer[match.end() :]
            event = self._line(line, t_ns)
            if event is not None:
                events.append(event)
        return events

    @property
    def rest(self) -> bytes:
        """Bytes behind the last complete event that would still have to become one."""
        pending = "\n".join(f"data: {line}" for line in self._data).encode()
        return pending + (b"\n" if pending and self._buffer else b"") + self._buffer.strip(b"\r\n")

    def _line(self, raw: bytes, t_ns: int) -> Event | None:
        if not raw:
            return self._dispatch(t_ns)
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            self.faults.append(f"a line is not UTF-8 ({error.reason} at byte {error.start}): {raw[:120]!r}")
            line = raw.decode("utf-8", "replace")
        if line.startswith(":"):
            self.comments += 1
            return None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name not in _FIELDS:
            self.faults.append(f"a line is no field of an event: {line[:120]!r}")
        return None

    def _dispatch(self, t_ns: int) -> Event | None:
        data, name = self._data, self._name
        self._data, self._name = [], ""
        return Event(t_ns, "\n".join(data), name) if data else None

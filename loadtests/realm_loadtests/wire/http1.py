"""One HTTP/1.1 response, read in whatever pieces the socket gives.

h11 would do this as well, at about ten times the cost for each event of a stream; the tests hold this reader
to h11's answers. Only what a client of a streaming server meets is here: RFC 9112 sections 4 to 7.
"""

from __future__ import annotations

from dataclasses import dataclass

from realm_loadtests.wire.failures import ExchangeFailure

MAX_HEAD = 64 * 1024
MAX_LINE = 4 * 1024
_HEX = frozenset(b"0123456789abcdefABCDEF")


@dataclass(frozen=True)
class ResponseHead:
    """Status and headers; header names are in lower case, repeated headers joined by a comma."""

    status: int
    version: str
    headers: dict[str, str]

    @property
    def keep_alive(self) -> bool:
        """Whether the server lets the connection be used again (RFC 9112, section 9.3)."""
        options = self.headers.get("connection", "").lower()
        return "close" not in options if self.version == "1.1" else "keep-alive" in options


class ResponseReader:
    """Turns reads into the body of one response.

    `head` is None until the head has been read; `complete` tells that nothing more belongs to this response.
    Bytes that break the protocol raise `ExchangeFailure("malformed_http")`.
    """

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.complete = False
        self._buffer = b""
        self._chunked = False
        self._left: int | None = None  # bytes left of the body, or of the chunk; None: until the close
        self._state = "head"

    @property
    def surplus(self) -> bytes:
        """Bytes that came after the end of this response; a server that sends any cannot be used again."""
        return self._buffer if self.complete else b""

    def feed(self, data: bytes) -> bytes:
        """Take one read; return the body bytes that it made available."""
        if self._state == "size" and not self._buffer and (whole := _whole_chunk(data)):
            return whole
        self._buffer += data
        if self.head is None and not self._read_head():
            return b""
        return self._read_chunks() if self._chunked else self._read_plain()

    def end_of_input(self) -> None:
        """Tell that the server closed; an error unless the close is what ends this response."""
        if self.head is None:
            detail = "before any response" if not self._buffer else "within the response's head"
        elif self._chunked or self._left is not None:
            detail = "within the response's body"
        else:
            self.complete = True
            return
        raise ExchangeFailure("connection_closed", f"the server closed the connection {detail}")

    def _read_head(self) -> bool:
        while True:
            raw, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if len(raw) > MAX_HEAD:
                raise _malformed(f"the head is longer than {MAX_HEAD} bytes")
            if not b"HTTP/1.".startswith(self._buffer[:7]):
                raise _malformed(f"the response begins with {self._buffer[:40]!r}")
            if not separator:
                return False
            self._buffer = rest
            head = parse_head(raw)
            if head.status >= 200 or head.status == 101:
                break  # the others are interim responses (RFC 9110, section 15.2)
        self.head = head
        self._frame(head)
        return True

    def _frame(self, head: ResponseHead) -> None:
        """Decide how the body ends (RFC 9112, section 6.3)."""
        coding = head.headers.get("transfer-encoding", "").lower()
        length = head.headers.get("content-length")
        if head.status in (204, 304):
            self._left = 0
        elif coding:
            if coding != "chunked":
                raise _malformed(f"transfer-encoding {coding!r}")
            self._chunked, self._state = True, "size"
        elif length is not None:
            if not (length.isascii() and length.isdigit()):
                raise _malformed(f"content-length {length!r}")
            self._left = int(length)

    def _read_plain(self) -> bytes:
        if self._left is None:
            body, self._buffer = self._buffer, b""
            return body
        body, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
        self._left -= len(body)
        self.complete = self._left == 0
        return body

    def _read_chunks(self) -> bytes:
        """Take whole and partial chunks off the buffer (RFC 9112, section 7.1)."""
        parts: list[bytes] = []
        buffer, at = self._buffer, 0
        while not self.complete:
            if self._state == "data":
                part = buffer[at : at + (self._left or 0)]
                parts.append(part)
                at += len(part)
                self._left = (self._left or 0) - len(part)
                if self._left:
                    break
                self._state = "data end"
            end = buffer.find(b"\r\n", at)
            if end < 0:
                if len(buffer) - at > MAX_LINE:
                    raise _malformed("a line of the chunked body does not end")
                if self._state == "data end" and buffer[at:] not in (b"", b"\r"):
                    raise _malformed("a chunk is longer than its size says")
                break
            self._take_line(buffer[at:end])
            at = end + 2
        self._buffer = buffer[at:]
        return b"".join(parts)

    def _take_line(self, line: bytes) -> None:
        if self._state == "size":
            digits = line.split(b";", 1)[0].strip()
            if not digits or len(digits) > 15 or not _HEX.issuperset(digits):
                raise _malformed(f"chunk size {line[:40]!r}")
            self._left = int(digits, 16)
            self._state = "data" if self._left else "trailers"
        elif self._state == "data end":
            if line:
                raise _malformed("a chunk is longer than its size says")
            self._state = "size"
        elif not line:
            self.complete = True


def _whole_chunk(data: bytes) -> bytes:
    """The data of a read that is one chunk and nothing else, as a stream's reads usually are: a short cut.
    Empty if the read is anything else, or not quite as it should be.
    """
    at = data.find(b"\r\n", 1, 8)
    if at < 0 or not data.endswith(b"\r\n") or not _HEX.issuperset(data[:at]):
        return b""
    begin, end = at + 2, len(data) - 2
    return data[begin:end] if int(data[:at], 16) == end - begin > 0 else b""


def parse_head(raw: bytes) -> ResponseHead:
    """Parse a response's head, without its closing empty line."""
    status_line, *lines = raw.decode("latin-1").split("\r\n")
    protocol, _, rest = status_line.partition(" ")
    code = rest[:3]
    if protocol not in ("HTTP/1.1", "HTTP/1.0") or not (code.isascii() and code.isdigit() and len(code) == 3):
        raise _malformed(f"status line {status_line[:80]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise _malformed(f"header line {line[:80]!r}")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return ResponseHead(int(code), protocol.removeprefix("HTTP/"), headers)


def _malformed(detail: str) -> ExchangeFailure:
    return ExchangeFailure("malformed_http", detail)

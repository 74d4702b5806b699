"""Between the socket and aiohttp's HTTP parser: bounds on a request's head, and names for its faults.

aiohttp's parser knows the grammar and refuses what two readers could read in two ways (two lengths, a length
beside chunks, line ends of other kinds). It has no bound on a whole head and one status for all failures, and
a body that breaks in the middle it reports to nobody who reads it: those three are mended here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from aiohttp import StreamReader, http_exceptions, web
from aiohttp.http_parser import RawRequestMessage

from realm_reference.server.errors import ApiError

Messages: TypeAlias = Sequence[tuple[RawRequestMessage, StreamReader]]
Feed: TypeAlias = tuple[Messages, bool, bytes]

MAX_LINE: Final = 8190
"""Bytes of a request line's target, and of one header field."""
MAX_FIELDS: Final = 100
MAX_HEAD: Final = 32 << 10
"""Bytes of a whole head, give or take what one read brings."""

_VERSIONS: Final = ((1, 0), (1, 1))


class Refused(http_exceptions.HttpProcessingError):
    """A request that is not passed on, with the answer that it gets."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(code=error.status, message=error.message)
        self.error = error


def refusal(status: int, message: str, code: str) -> ApiError:
    """An error that ends the connection: where the next request would begin is unknown."""
    return ApiError(status, message, code=code, close=True)


class Heads:
    """An aiohttp request parser with bounds; `give_up` makes the next read fail."""

    def __init__(self, parser: Any) -> None:
        self._parser = parser
        self._body: StreamReader | None = None
        self._given_up: ApiError | None = None
        self._line_bytes = 0
        self._line_open = True
        self.head_bytes = 0
        self.broken = False

    def __getattr__(self, name: str) -> Any:
        """The rest of the parser's surface is used as it is."""
        return getattr(self._parser, name)

    def give_up(self, error: ApiError) -> None:
        """Refuse whatever comes next with `error`."""
        self._given_up = error

    @property
    def unread(self) -> bool:
        """Whether the latest request's body has not come to its end."""
        return self._body is not None and not self._body.is_eof()

    def abandon(self) -> None:
        """Read nothing more of a body: what comes is dropped, and the connection is to end."""
        self.broken = True
        if self._body is not None:
            self._body.feed_eof()

    def feed_data(self, data: bytes) -> Feed:
        """Parse `data`; Refused where the parser cannot go on, after which all else is dropped."""
        if self.broken:
            return (), False, b""
        in_head = not self.unread
        try:
            if self._given_up is not None:
                raise Refused(self._given_up)
            if in_head:
                self._measure(data)
            feed: Feed = self._parser.feed_data(data)
            self._note(feed[0], in_head, len(data))
            return feed
        except http_exceptions.HttpProcessingError as error:
            self.broken = True
            if in_head or not self.unread:
                raise error if isinstance(error, Refused) else Refused(self._named(error)) from error
            self._break_body()
            return (), False, b""

    def _measure(self, data: bytes) -> None:
        """Count the bytes of the request line, by which a long target is told from a long header."""
        if self._line_open:
            end = data.find(b"\n")
            self._line_bytes += end if end >= 0 else len(data)
            self._line_open = end < 0

    def _note(self, messages: Messages, in_head: bool, n: int) -> None:
        for message, body in messages:
            _check(message)
            self._body = body
            self.head_bytes, self._line_bytes, self._line_open = 0, 0, True
        if not messages and in_head:
            self.head_bytes += n
            if self.head_bytes > MAX_HEAD:
                raise Refused(refusal(431, "The request's head is too large.", "headers_too_large"))
        elif self._body is not None and self._body.exception() is not None:
            self._break_body()

    def _break_body(self) -> None:
        """Tell the body's reader, who would otherwise wait for the rest for ever."""
        self.broken = True
        assert self._body is not None
        if self._body.exception() is None:
            self._body.set_exception(web.RequestPayloadError("the body's encoding is broken"))
        self._body.feed_eof()

    def _named(self, error: http_exceptions.HttpProcessingError) -> ApiError:
        if isinstance(error, http_exceptions.LineTooLong):
            if self._line_bytes > MAX_LINE:
                return refusal(414, f"The request's target is longer than {MAX_LINE} bytes.", "uri_too_long")
            return refusal(431, f"A header is longer than {MAX_LINE} bytes.", "headers_too_large")
        if error.message.startswith("Too many headers"):
            return refusal(431, f"The request has more than {MAX_FIELDS} headers.", "headers_too_large")
        # The first words only: what follows quotes the request, which may hold a key.
        reason = error.message.partition("\n")[0].partition(":")[0].rstrip(".")
        return refusal(400, f"The request is not valid HTTP/1.1: {reason}.", "bad_request")


def _check(message: RawRequestMessage) -> None:
    if tuple(message.version) not in _VERSIONS:
        raise Refused(refusal(505, "This server speaks HTTP/1.1.", "http_version_not_supported"))
    expected = message.headers.get("Expect")
    if expected is not None and expected.lower() != "100-continue":
        raise Refused(refusal(417, "The only Expect is 100-continue.", "expectation_failed"))

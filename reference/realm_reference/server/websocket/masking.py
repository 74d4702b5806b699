"""A check that aiohttp's WebSocket parser does not make: every frame of a client's has to be masked.

RFC 6455 section 5.1: "a server MUST close the connection upon receiving a frame that is not masked", so that
no script in a browser can make a frame look like another protocol to a proxy on the way.
"""

from __future__ import annotations

from typing import Any, Final

_LENGTH_BYTES: Final = {126: 2, 127: 8}
_MASK_BYTES: Final = 4
# A frame with a reserved bit: what the parser answers to it, 1002, is the answer to an unmasked one too.
_REFUSED: Final = b"\xf1\x80"


class MaskedOnly:
    """A parser of frames that passes on whole heads, and a faulty frame in place of one without a mask."""

    def __init__(self, parser: Any) -> None:
        self._parser = parser
        self._held = b""  # a head that has not come whole
        self._left = 0  # bytes until the next head

    def __getattr__(self, name: str) -> Any:
        """The rest of the parser's surface is used as it is."""
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """As the parser's."""
        data, self._held = self._held + bytes(data), b""
        at = 0
        while at < len(data):
            if self._left == 0:
                head = data[at : at + 10]
                length = _LENGTH_BYTES.get(head[1] & 0x7F, 0) if len(head) > 1 else 0
                if len(head) > 1 and not head[1] & 0x80:
                    return self._pass_on(data[:at] + _REFUSED)
                if len(head) < 2 + length:
                    self._held = head
                    return self._pass_on(data[:at])
                payload = int.from_bytes(head[2 : 2 + length]) if length else head[1] & 0x7F
                self._left = 2 + length + _MASK_BYTES + payload
            step = min(self._left, len(data) - at)
            self._left -= step
            at += step
        return self._pass_on(data)

    def _pass_on(self, data: bytes) -> tuple[bool, bytes]:
        result: tuple[bool, bytes] = self._parser.feed_data(data)
        return result

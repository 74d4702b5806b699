"""Two checks that aiohttp's WebSocket parser does not make: every frame of a client's has to be masked, and a
stranger may not send as much as a client whose key is known.

RFC 6455 section 5.1: "a server MUST close the connection upon receiving a frame that is not masked", so that
no script in a browser can make a frame look like another protocol to a proxy on the way.
"""

from __future__ import annotations

from typing import Any, Final

_LENGTH_BYTES: Final = {126: 2, 127: 8}
_MASK_BYTES: Final = 4
# What is passed on in place of a frame that is refused: its answer is the refusal. A reserved bit is answered
# with 1002, a length beyond all limits with 1009.
_FAULTY: Final = b"\xf1\x80"
_ENDLESS: Final = b"\x81\xff\x7f" + b"\xff" * 7


class CheckedFrames:
    """A parser of frames behind the checks. `allowance` is how many bytes of payload may still come; None is
    any number of them.
    """

    def __init__(self, parser: Any) -> None:
        self.allowance: int | None = None
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
                    return self._pass_on(data[:at] + _FAULTY)
                if len(head) < 2 + length:
                    self._held = head
                    return self._pass_on(data[:at])
                payload = int.from_bytes(head[2 : 2 + length]) if length else head[1] & 0x7F
                if self._is_too_much(payload):
                    return self._pass_on(data[:at] + _ENDLESS)
                self._left = 2 + length + _MASK_BYTES + payload
            step = min(self._left, len(data) - at)
            self._left -= step
            at += step
        return self._pass_on(data)

    def _is_too_much(self, payload: int) -> bool:
        if self.allowance is not None:
            self.allowance -= payload
        return self.allowance is not None and self.allowance < 0

    def _pass_on(self, data: bytes) -> tuple[bool, bytes]:
        result: tuple[bool, bytes] = self._parser.feed_data(data)
        return result

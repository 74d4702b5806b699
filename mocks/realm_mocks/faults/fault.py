"""The faults, as they are written: a kind, maybe a value, maybe the share of connections that get it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

KINDS: Final = {
    "delay": ("ms", "every piece of an answer comes so many milliseconds late"),
    "stall": ("ms", "an answer stops once, in its middle, for so many milliseconds"),
    "reset": ("bytes", "the connection is reset (RST) after so many bytes of answers"),
    "truncate": ("bytes", "the connection is closed after so many bytes of answers"),
    "half-close": ("bytes", "after so many bytes the proxy ends its side and goes on reading"),
    "trickle": ("", "answers come byte by byte, each in a segment of its own"),
    "hold": ("ms", "an answer waits for the next connection's, so long at most: two change their order"),
    "blackhole": ("", "requests are taken and never answered"),
}
"""Kind -> what its value counts ("" takes none), and what it does."""

_DEFAULT: Final = {
    "delay": 50,
    "stall": 200,
    "hold": 1000,
    "reset": 1000,
    "truncate": 1000,
    "half-close": 1000,
}
_FORM: Final = re.compile(
    r"(?P<kind>[a-z-]+)(?::(?P<value>\d{1,9})(?P<unit>ms|))?(?:@(?P<share>\d+(?:\.\d+)?)%)?"
)


class FaultError(ValueError):
    """The text is no fault; one line."""


@dataclass(frozen=True)
class Fault:
    """One fault: `value` in milliseconds or bytes (see `KINDS`), `share` the part of connections, 0 to 1."""

    kind: str
    value: int = 0
    share: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read `KIND[:VALUE][@SHARE%]`, such as `stall:200ms@10%`; raises FaultError."""
        match = _FORM.fullmatch(text)
        if match is None or match["kind"] not in KINDS:
            raise FaultError(
                f"{text!r} is no fault; write KIND[:VALUE][@SHARE%], KIND one of {', '.join(KINDS)}"
            )
        kind, share = match["kind"], float(match["share"] or 100) / 100
        counts = KINDS[kind][0]
        if match["value"] and (not counts or (match["unit"] == "ms") > (counts == "ms")):
            raise FaultError(f"{text!r}: {kind} takes {counts or 'no value'}")
        if share > 1:
            raise FaultError(f"{text!r}: a share is at most 100%")
        return cls(kind, int(match["value"] or _DEFAULT.get(kind, 0)), share)

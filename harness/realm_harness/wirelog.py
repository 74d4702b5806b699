"""The timed log of what went over a case's connections, both ways, with the API key blotted out."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

MAX_ENTRIES = 400
MAX_ENTRY_CHARS = 4000


@dataclass
class WireLog:
    """Collects entries of all connections of one case; safe to use from several threads.

    Attributes:
        secrets: texts that are replaced wherever they appear.
    """

    secrets: tuple[str, ...] = ()
    _start_ns: int = field(default_factory=time.perf_counter_ns)
    _entries: list[tuple[int, int, str, bytes]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _connections: int = 0

    def next_tag(self) -> int:
        """A number for a new connection."""
        with self._lock:
            self._connections += 1
            return self._connections

    def add(self, tag: int, direction: str, data: bytes) -> None:
        """Note bytes sent (">"), received ("<"), or a remark (".") on connection `tag`, now."""
        with self._lock:
            self._entries.append((time.perf_counter_ns(), tag, direction, data))

    def entries(self) -> list[dict[str, object]]:
        """What the results file holds: `t_ms` since the log began, `dir`, `text`.

        Bytes that are not UTF-8 appear as escapes. With several connections each text begins with "#n".
        The middle of a long log is left out, and it says so.
        """
        with self._lock:
            listed = list(self._entries)
            several = self._connections > 1
        if len(listed) > MAX_ENTRIES:
            head, tail = listed[: MAX_ENTRIES // 2], listed[-MAX_ENTRIES // 2 :]
            left_out = len(listed) - len(head) - len(tail)
            gap = (tail[0][0], 0, "<", f"({left_out} reads and writes left out)".encode())
            listed = [*head, gap, *tail]
        return [self._entry(*entry, several=several) for entry in listed]

    def _entry(self, at: int, tag: int, direction: str, data: bytes, *, several: bool) -> dict[str, object]:
        text = data.decode("utf-8", "backslashreplace")
        for secret in self.secrets:
            text = text.replace(secret, "***")
        if len(text) > MAX_ENTRY_CHARS:
            text = f"{text[:MAX_ENTRY_CHARS]}... ({len(text)} characters)"
        shown = ">" if direction == ">" else "<"
        label = f"#{tag} " if several and tag else ""
        return {"t_ms": round((at - self._start_ns) / 1e6, 3), "dir": shown, "text": label + text}

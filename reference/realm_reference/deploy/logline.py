"""One line of a replica's log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_HEAD: Final = ("time", "level", "logger", "message", "replica")


@dataclass(frozen=True)
class Entry:
    """One line of a log: its time ("" when it is no JSON line of ours), its fields, and as it was written."""

    time: str
    replica: str
    fields: Mapping[str, Any]

    def text(self) -> str:
        """For a person."""
        fields = " ".join(f"{name}={value}" for name, value in self.fields.items() if name not in _HEAD)
        level = str(self.fields.get("level", "")).upper()
        return f"{self.time} {self.replica} {level} {self.fields.get('message', '')} {fields}".rstrip()

    def json(self) -> str:
        """For a program: the fields, and the replica among them."""
        return json.dumps({**self.fields, "replica": self.replica}, ensure_ascii=False)


def parse(line: str, replica: str, last_time: str) -> Entry:
    """One line. What is no JSON object (a traceback, a library's print) belongs to the line before it."""
    try:
        fields = json.loads(line)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        return Entry(last_time, replica, {"message": line})
    return Entry(str(fields.get("time", last_time)), str(fields.get("replica", replica)), fields)

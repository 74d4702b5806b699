"""What a server's /metrics page said, each time that it was asked, one line of JSON a scrape."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from realm_loadtests.records.records import read_lines

SCRAPES_FILE = "server.jsonl"


@dataclass(frozen=True)
class Scrape:
    """Seconds after the start of the users (0: before them), the URL, and the page's lines that are known."""

    at_s: float
    url: str
    page: str

    def append_to(self, folder: Path) -> None:
        """Write it behind the earlier ones; raises OSError."""
        with (folder / SCRAPES_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(self)) + "\n")


def read_scrapes(folder: Path) -> Iterator[Scrape]:
    """Read the scrapes of a run."""
    return read_lines(folder / SCRAPES_FILE, Scrape)

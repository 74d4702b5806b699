"""What a run is, written before its first request: with its records enough for a report if it is killed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from realm_loadtests.settings import Settings

RUN_FILE = "run.json"


class NoRun(Exception):
    """A folder holds no load test that could be reported; one line."""


@dataclass(frozen=True)
class Begun:
    """A run at its begin: its settings as the look at the target left them, how the server names itself, and
    when it began.
    """

    settings: Settings
    server_header: str | None
    started: datetime

    def write(self, folder: Path) -> None:
        """Put it into the run's folder."""
        document = {
            "settings": asdict(self.settings),
            "server_header": self.server_header,
            "started": self.started.isoformat(),
        }
        (folder / RUN_FILE).write_text(json.dumps(document, indent=1), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Begun:
        """Read what `write` wrote; raises NoRun."""
        path = folder / RUN_FILE
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            settings = Settings(**document["settings"])
            return cls(settings, document["server_header"], datetime.fromisoformat(document["started"]))
        except FileNotFoundError:
            raise NoRun(f"{folder} holds no load test: it has no {RUN_FILE}; realm load writes it") from None
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise NoRun(
                f"{path} is not what realm load writes ({error}); its run cannot be reported"
            ) from None

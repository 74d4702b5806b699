"""What a load test is told, and how the locust process is told the same.

Everything but the key travels as one JSON document in an environment variable; the key has a variable of its
own and is never an argument, where any user of the machine could read it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

SETTINGS_VARIABLE = "REALM_LOAD_SETTINGS"
KEY_VARIABLE = "REALM_API_KEY"
JOINED_VARIABLE = "REALM_LOAD_JOINED"
"""Set in a worker of another machine's master: the folder for its copy of what it records."""


@dataclass(frozen=True)
class Settings:
    """One load test.

    `prompt` None means the built-in prompts; `include_usage` whether the server is asked for its token count;
    `timeout_s` bounds one request, `drain_s` the wait for streams still open when the duration is over;
    `arrivals` is an arrival process (`Arrivals.parse`) for an open loop, in which `users` is the most streams
    at a time; None is the closed loop. `processes` share the users or the arrivals. `scenario` is a key of
    `SCENARIOS`, `adapters` are those that its requests may name, `tenants` a file of tenants' keys (see
    `tenants.py`), `stall_factor` the multiple of the run's median gap that is a stall, `metrics` the
    page of the server's own metrics (None: /metrics of the URL; empty: none is asked for). `prompt_tokens`
    and `output_tokens` are the lengths of scenario `lengths` (see `scenarios/spread.py`), `pieces` texts of
    one token each, and `prompt_overhead` the tokens of a prompt beside them, both as the target counts.
    `folder` is where
    records and measures go (None: nowhere, for a locust run by hand).
    """

    url: str
    model: str
    users: int = 1
    duration_s: int = 30
    spawn_rate: float = 1.0
    max_tokens: int = 64
    prompt: str | None = None
    seed: int = 0
    timeout_s: float = 120.0
    drain_s: float = 10.0
    include_usage: bool = True
    arrivals: str | None = None
    processes: int = 1
    scenario: str = "chat"
    adapters: tuple[str, ...] = ()
    tenants: str | None = None
    stall_factor: float = 4.0
    metrics: str | None = None
    prompt_tokens: str | None = None
    output_tokens: str | None = None
    pieces: tuple[str, ...] = ()
    prompt_overhead: int = 0
    folder: str | None = None

    def to_environment(self, api_key: str | None) -> dict[str, str]:
        """The environment that a locust process started for this test has."""
        environment = {**os.environ, SETTINGS_VARIABLE: json.dumps(asdict(self))}
        environment.pop(KEY_VARIABLE, None)
        if api_key:
            environment[KEY_VARIABLE] = api_key
        return environment

    @classmethod
    def from_environment(cls, host: str | None = None) -> Settings:
        """The settings of this locust process.

        Without the variable (locust was started by hand) the defaults hold for the target `host`, and
        REALM_LOAD_MODEL names the model.
        """
        document = os.environ.get(SETTINGS_VARIABLE)
        if document:
            return cls(**json.loads(document))
        return cls(url=host or "http://127.0.0.1:8000", model=os.environ.get("REALM_LOAD_MODEL", "default"))

    @property
    def output(self) -> Path | None:
        """The folder for records and measures."""
        return Path(self.folder) if self.folder else None


def joined_folder() -> Path | None:
    """Where this process keeps its copy, if it is a worker of another machine's master."""
    folder = os.environ.get(JOINED_VARIABLE)
    return Path(folder) if folder else None

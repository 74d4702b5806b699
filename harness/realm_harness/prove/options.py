"""What `realm prove` was asked to do."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

KEY_VARIABLE = "REALM_API_KEY"
OTHER_VARIABLE = "REALM_OTHER_KEY"
LIMITED_VARIABLE = "REALM_LIMITED_KEY"
DEFAULT_MODEL = "smollm2-135m"
# Short answers, so that even a slow server completes requests in a short test.
LOAD_MAX_TOKENS = 32


@dataclass(frozen=True)
class Options:
    """The settings of one run; `target` None means the reference, started and stopped by the run."""

    out: Path
    target: str | None = None
    api_key: str | None = field(default=None, repr=False)
    model: str | None = None
    users: int = 4
    duration_s: int = 20
    level: str = "must"
    load: bool = True
    compute: str | None = None
    precision: str | None = None
    threads: int | None = None

    @property
    def served_model(self) -> str:
        """The model that the reference serves: a known name, or the path of a GGUF file."""
        return self.model or DEFAULT_MODEL

    @property
    def fetches(self) -> bool:
        """Whether the reference's model is a known one that may have to be fetched first."""
        return not Path(self.served_model).exists()

    @property
    def computing(self) -> list[str]:
        """The reference's flags for what computes; it has defaults of its own."""
        said = {"--compute": self.compute, "--precision": self.precision, "--threads": self.threads}
        return [word for flag, value in said.items() if value is not None for word in (flag, str(value))]

    @property
    def tenant_keys(self) -> dict[str, str]:
        """The keys of the reference's tenants, by variable; each holds the first, so that whoever hides that
        one hides them all.
        """
        if self.target is not None or self.api_key is None:
            return {}
        names = {KEY_VARIABLE: "", OTHER_VARIABLE: "-other", LIMITED_VARIABLE: "-limited"}
        return {variable: self.api_key + name for variable, name in names.items()}

    def environment(self) -> dict[str, str]:
        """The children's environment. The key travels here, for argument lists are public on a machine."""
        environment = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
        environment["PYTHONUNBUFFERED"] = "1"
        environment["PYTHONIOENCODING"] = "utf-8"
        if self.api_key:
            environment[KEY_VARIABLE] = self.api_key
        return environment | self.tenant_keys

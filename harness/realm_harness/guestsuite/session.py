"""A pytest session over guests: `pytest --realm-guest MODULE.wasm` judges the cases that are for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from realm_harness.case import case_of
from realm_harness.guestsuite import GUEST
from realm_harness.guestsuite.conform import GuestUnusable, open_guest
from realm_harness.guestsuite.subject import GuestSubject
from realm_harness.session import CaseSession

CHAPTER_FOLDER = Path(__file__).parent / "chapters"


class GuestSession(CaseSession):
    """The hooks of a run with --realm-guest; registered only then. Each guest has its own cases."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config, GUEST, CHAPTER_FOLDER)
        paths: list[str] = config.getoption("realm_guest")
        if config.getoption("--realm-json") and len(paths) > 1:
            raise pytest.UsageError("--realm-json takes the results of one guest; name one --realm-guest")
        try:
            self.guests = {path: open_guest(Path(path)) for path in paths}
        except GuestUnusable as unusable:
            raise pytest.UsageError(str(unusable)) from None

    def pytest_report_header(self) -> str:
        """Say what is tested."""
        shown = ", ".join(f"{guest.path} (ABI v{guest.version})" for guest in self.guests.values())
        return f"realm: {shown}, level {self.level}"

    def is_asked(self, item: pytest.Item) -> bool:
        """Whether the case is one for the guest that it is asked of."""
        found = case_of(getattr(item, "function", None))
        return found is None or self.guest_of(item).answers(found)

    def subject_of(self, item: pytest.Item) -> GuestSubject:
        """The guest that a case is asked of."""
        return self.guest_of(item)

    def guest_of(self, item: pytest.Item) -> GuestSubject:
        """The guest that an item was made for."""
        parameters: dict[str, Any] = getattr(item, "callspec").params  # noqa: B009 (only functions have one)
        return self.guests[parameters["guest_module"]]

    @property
    def facts(self) -> Any:
        """What is known of the first guest."""
        return next(iter(self.guests.values())).facts

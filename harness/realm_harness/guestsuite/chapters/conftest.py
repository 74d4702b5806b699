"""The one fixture of the chapters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from realm_abi.sandbox import GuestModule

    from realm_harness.guestsuite.subject import GuestSubject


@pytest.fixture(scope="session")
def guest(guest_module: GuestModule, request: pytest.FixtureRequest) -> GuestSubject:
    """The guest under test: each `--realm-guest PATH`."""
    from realm_harness.guestsuite.subject import GuestSubject

    return GuestSubject(guest_module, str(request.node.name))

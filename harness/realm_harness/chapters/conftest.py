"""The one fixture of the chapters."""

from __future__ import annotations

import pytest

from realm_harness.session import SESSION, ConformanceSession
from realm_harness.target import Target


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Target:
    """The server under test, found by `--realm-target`."""
    session = request.config.pluginmanager.get_plugin(SESSION)
    if not isinstance(session, ConformanceSession):
        pytest.fail("the chapters test a server: run pytest --realm-target URL", pytrace=False)
    return session.target

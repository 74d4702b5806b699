"""pytest fixtures for the MockServer; `realm_mocks.plugin` offers them to every test run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from realm_mocks.server.mock_server import MockServer


@pytest.fixture
def mock_server() -> Iterator[MockServer]:
    """A healthy MockServer that answers at once; `mock_server.url` is its address."""
    with MockServer() as server:
        yield server

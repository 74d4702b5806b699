"""pytest plugin: both mocks as fixtures, imported when a test asks for them.

`mock_server` is a healthy MockServer. `mock_host` makes a MockHost of a guest and a script. `guest_module` is
the guest under test: each `--realm-guest PATH`, or the built v1 and v2 guests, one test run for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from realm_abi.sandbox import GuestModule

    from realm_mocks.host import MockHost
    from realm_mocks.server import MockServer

BUILT = ("v1", "v2")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--realm-guest`."""
    parser.getgroup("realm").addoption(
        "--realm-guest",
        action="append",
        metavar="PATH",
        help="a guest module that tests with the fixture guest_module run on; may be repeated",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs every test that asks for `guest_module` once for each guest."""
    if "guest_module" in metafunc.fixturenames:
        guests = metafunc.config.getoption("realm_guest") or BUILT
        metafunc.parametrize("guest_module", guests, indirect=True, scope="session")


@pytest.fixture(scope="session")
def guest_module(request: pytest.FixtureRequest) -> GuestModule:
    """A guest under test, compiled."""
    from realm_abi.guests import guest_bytes

    from realm_mocks.host import load_guest, shared_runtime

    guest: str = request.param
    return load_guest(guest_bytes(guest) if guest in BUILT else Path(guest), shared_runtime())


@pytest.fixture
def mock_host() -> Callable[..., MockHost]:
    """MockHost itself: `mock_host(guest_module, "what it says")`."""
    from realm_mocks.host import MockHost

    return MockHost


@pytest.fixture
def mock_server() -> Iterator[MockServer]:
    """A healthy MockServer that answers at once; `mock_server.url` is its address."""
    from realm_mocks.server import MockServer

    with MockServer() as server:
        yield server

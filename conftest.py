"""What all tests of the repository share: how hypothesis runs, that servers compile nothing unasked, and the
sandbox on threads and on fibers.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from realm_abi.sandbox import Runtime

# How long an example takes says more about the machine than about the code. In a pipeline the examples are
# the same in each run, so that a red run means a change; at the desk they are new each time.
settings.register_profile(
    "realm",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("realm")

# A first start on a machine compiles the kernels for half a minute; tests that want that say --compute jit.
os.environ["REALM_COMPUTE"] = "numpy"


@pytest.fixture(scope="session")
def with_fibers() -> None:
    """Asked for by what needs them: skips where the host has none."""
    from realm_abi.sandbox import fibers_work  # not at the top: tests of the base install have no wasmtime

    if not fibers_work():
        pytest.skip("the installed wasmtime has no fibers for this host: the log says why")


@pytest.fixture(scope="session", params=["threads", "fibers"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """Guests end alike on threads of their own and all on one."""
    from realm_abi.sandbox import Runtime

    if request.param == "fibers":
        request.getfixturevalue("with_fibers")
    return Runtime(fibers=request.param == "fibers")

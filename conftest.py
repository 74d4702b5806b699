"""What all tests of the repository share: how hypothesis runs, and that servers compile nothing unasked."""

import os

from hypothesis import HealthCheck, settings

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

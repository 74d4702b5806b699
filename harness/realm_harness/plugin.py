"""The pytest plugin: `pytest --realm-target URL` runs the conformance chapters against a server.

`pytest --realm-guest MODULE.wasm` without paths runs the guest chapters on a module (the option is
realm_mocks').

pytest loads this module in every run of an environment in which realm-harness is installed. So it imports
nothing of the harness, and does nothing, until somebody gives one of the two.
"""

from __future__ import annotations

import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("realm", "conformance of an LLM inference server")
    group.addoption("--realm-target", metavar="URL", help="base URL of the server under test")
    group.addoption("--realm-websocket", metavar="URL", help="its WebSocket (default: /ws of the target)")
    group.addoption("--realm-api-key", metavar="KEY", help="its API key (default: REALM_API_KEY)")
    group.addoption(
        "--realm-model", metavar="NAME", help="model to ask for (default: the first in /v1/models)"
    )
    group.addoption(
        "--realm-level",
        choices=("must", "should"),
        default="must",
        help="fail on broken MUSTs only, or on SHOULDs too (default: must)",
    )
    group.addoption(
        "--realm-case", metavar="GLOB", action="append", default=[], help="only cases such as CHAT-STREAM-*"
    )
    group.addoption("--realm-json", metavar="FILE", help="write the results file")
    group.addoption(
        "--realm-timeout",
        metavar="SECONDS",
        type=float,
        help="silence after which the server counts as hanging (default: scaled by a warm-up)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Start a session when there is a server or a guest to test."""
    if config.getoption("--realm-target"):
        from realm_harness.session import SESSION, ConformanceSession

        key = config.getoption("--realm-api-key") or os.environ.get("REALM_API_KEY")
        config.pluginmanager.register(ConformanceSession(config, key), SESSION)
    elif config.getoption("realm_guest", None) and config.args_source is not pytest.Config.ArgsSource.ARGS:
        # With paths these are somebody's own tests, which have their guests from the fixture alone.
        from realm_harness.guestsuite.session import GuestSession

        config.pluginmanager.register(GuestSession(config), "realm-guest-session")

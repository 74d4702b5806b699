"""The fixtures, in a pytest run of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from realm_abi.guests import guest_bytes

pytest_plugins = ["pytester"]

SUITE = """
def test_says_hello(guest_module, mock_host):
    host = mock_host(guest_module, "hello")
    host.generate("a prompt").check()
    assert host.text == "hello"
"""


def test_a_suite_runs_on_both_built_guests(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-v", timeout=120)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_says_hello[[]v1[]]*", "*test_says_hello[[]v2[]]*"])


def test_a_suite_runs_on_the_guests_that_are_given(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUITE)
    guest = pytester.path / "mine.wasm"
    guest.write_bytes(guest_bytes("v2"))
    text = Path(__file__).parent / "guests" / "sessions.wat"
    pytester.makeconftest("")
    result = pytester.runpytest_subprocess("-v", f"--realm-guest={guest}", ".", timeout=120)
    result.assert_outcomes(passed=1)
    result = pytester.runpytest_subprocess("-v", f"--realm-guest={text}", ".", timeout=120)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*not a WebAssembly binary*"])

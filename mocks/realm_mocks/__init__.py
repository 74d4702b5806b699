"""Mocks for both sides of an inference server: MockHost for guests, MockServer for clients."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from realm_mocks.host import MockHost
    from realm_mocks.server import MockServer

__all__ = ["MockHost", "MockServer"]


def __getattr__(name: str) -> Any:
    """Imports each mock when it is asked for: MockHost needs wasmtime, which a client's tests do without."""
    if name == "MockHost":
        from realm_mocks.host import MockHost

        return MockHost
    if name == "MockServer":
        from realm_mocks.server import MockServer

        return MockServer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

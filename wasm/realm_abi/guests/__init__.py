"""The modules that this package ships: guests built from wasm/guest, probes of hosts from wasm/probes."""

from __future__ import annotations

from importlib import resources


def guest_bytes(version: str) -> bytes:
    """The built guest of one version of the ABI, `v1` or `v2`. Raises ValueError for another."""
    if version not in ("v1", "v2"):
        raise ValueError(f"there is no guest {version!r}: it is v1 or v2")
    return resources.files(__name__).joinpath(f"realm_{version}.wasm").read_bytes()


def probe_bytes(version: int) -> bytes:
    """The built probe of one version of the ABI, 1 or 2. Raises ValueError for another."""
    if version not in (1, 2):
        raise ValueError(f"there is no probe of version {version!r}: it is 1 or 2")
    return resources.files(__name__).joinpath(f"probe_v{version}.wasm").read_bytes()

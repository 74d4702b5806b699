"""The guests that this package ships, built from wasm/guest by its build.py."""

from __future__ import annotations

from importlib import resources


def guest_bytes(version: str) -> bytes:
    """The built guest of one version of the ABI, `v1` or `v2`. Raises ValueError for another."""
    if version not in ("v1", "v2"):
        raise ValueError(f"there is no guest {version!r}: it is v1 or v2")
    return resources.files(__name__).joinpath(f"realm_{version}.wasm").read_bytes()

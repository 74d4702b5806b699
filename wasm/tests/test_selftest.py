"""A wasmtime that lays values out in another way is refused before a guest sees it."""

from __future__ import annotations

import pytest
from realm_abi import _wasmtime
from realm_abi._selftest import verify_raw_calls


def test_the_installed_wasmtime_passes() -> None:
    verify_raw_calls.__wrapped__()


def test_another_layout_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wasmtime, "I32_PER_VALUE", _wasmtime.I32_PER_VALUE // 2)
    with pytest.raises(RuntimeError, match="pip install"):
        verify_raw_calls.__wrapped__()

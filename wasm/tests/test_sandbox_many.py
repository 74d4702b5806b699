"""A thousand tenants in one process: each sandbox has a memory, a host and an end of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import numpy as np
import pytest
from realm_abi.errors import FinishReason
from realm_abi.sandbox import GuestModule, Runtime

TENANTS = 1_000
MARK = 1_024
"""At the far end of the guest's stack, where it does not get."""


@pytest.mark.timeout(120)
def test_a_thousand_sandboxes_live_side_by_side(
    runtime: Runtime, guest_v2: GuestModule, scripted: Callable[..., Any]
) -> None:
    with ExitStack() as stack:
        hosts = [scripted([b"tenant ", str(tenant).encode()], "p") for tenant in range(TENANTS)]
        instances = [
            stack.enter_context(closing(runtime.instantiate(guest_v2, host))) for host in hosts
        ]  # fmt: skip
        for tenant, instance in enumerate(instances):
            instance.memory.data()[MARK : MARK + 4] = np.frombuffer(tenant.to_bytes(4, "little"), np.uint8)
        assert len({instance.memory.data().ctypes.data for instance in instances}) == TENANTS
        for tenant in range(0, TENANTS, 10):
            answer = instances[tenant].generate_v2("p", model=1, max_tokens=8, temperature=0.0)
            assert answer == FinishReason.stop_token
            assert "".join(emitted.text for emitted in hosts[tenant].emitted) == f"tenant {tenant}"
        for tenant, instance in enumerate(instances):
            assert int.from_bytes(instance.memory.data()[MARK : MARK + 4].tobytes(), "little") == tenant

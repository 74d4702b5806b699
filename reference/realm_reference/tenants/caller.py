"""Who a request comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

TENANT_ID: Final = re.compile(r"[A-Za-z0-9_-]{3,64}")


@dataclass(frozen=True)
class Caller:
    """A tenant and the key that it came with. `key_id` names a key without holding any secret of it."""

    tenant: str
    key_id: str | None = None


ANONYMOUS: Final = Caller("default")

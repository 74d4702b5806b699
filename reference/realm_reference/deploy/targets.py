"""The platforms whose manifests can be written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from realm_reference.deploy import compose, kubernetes, systemd
from realm_reference.deploy.deployment import Deployment
from realm_reference.deploy.files import Rendered

RENDERERS: Final[Mapping[str, Callable[[Deployment], Rendered]]] = {
    "compose": compose.render,
    "systemd": systemd.render,
    "kubernetes": kubernetes.render,
}

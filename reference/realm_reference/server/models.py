"""The models that clients may name: the loaded one, and it with each adapter, as `base:adapter`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from realm_abi.errors import AbiError, ErrorCode

from realm_reference.engine.adapters import Adapters, LoadedAdapter
from realm_reference.model.model import Model
from realm_reference.server.errors import ApiError

DefaultAdapter = Callable[[str], str | None]
"""The adapter of a tenant's requests that name none."""


@dataclass(frozen=True)
class Served:
    """What a request is computed with, and how its answer is labelled; "" is no adapter."""

    name: str
    adapter: str
    fingerprint: str


class ServedModels:
    """Looks names up for tenants: what is another's is refused, and not told of."""

    def __init__(self, model: Model, adapters: Adapters, default_of: DefaultAdapter) -> None:
        self._model = model
        self._adapters = adapters
        self._default_of = default_of

    def find(self, name: str | None, tenant: str) -> Served:
        """The model of that name, or for None the model itself, with the tenant's own adapter where the name
        says none. ApiError 404 for one that there is not, 403 for an adapter of another tenant's.
        """
        base = self._model.name
        if name is None or name == base:
            return self.with_adapter(self._default_of(tenant), tenant)
        if not name.startswith(f"{base}:"):
            message = f"The model '{name[:128]}' does not exist; this server has '{base}'."
            raise ApiError(404, message, param="model", code="model_not_found")
        return self.with_adapter(name.removeprefix(f"{base}:"), tenant)

    def with_adapter(self, adapter: str | None, tenant: str) -> Served:
        """The model with an adapter, or for None by itself; ApiError as in `find`."""
        if adapter is None:
            return Served(self._model.name, "", self._model.fingerprint)
        try:
            return self._served(self._adapters.find(adapter, tenant))
        except AbiError as error:
            raise self.refusal(error, adapter, tenant) from None

    def refusal(self, error: AbiError, adapter: str, tenant: str) -> ApiError:
        """What a client is told of an adapter that it cannot have."""
        if error.code is ErrorCode.permission_denied:
            message = f"The adapter '{adapter}' is another tenant's."
            return ApiError(403, message, param="model", code="model_forbidden")
        names = ", ".join(self._adapters.names(tenant)) or "none"
        message = f"The adapter '{adapter[:64]}' does not exist; '{self._model.name}' has: {names}."
        return ApiError(404, message, param="model", code="model_not_found")

    def cards(self, tenant: str, created: int) -> list[dict[str, Any]]:
        """The entries of /v1/models that the tenant may use: the model first."""
        alone = self.card(self.with_adapter(None, tenant), created)
        named = [self.with_adapter(name, tenant) for name in self._adapters.names(tenant)]
        return [alone, *(self.card(served, created) for served in named)]

    def card(self, served: Served, created: int) -> dict[str, Any]:
        """An entry of /v1/models; that of an adapter names its `parent`, as vLLM's does."""
        model = self._model
        card = {
            "id": served.name,
            "object": "model",
            "created": created,
            "owned_by": "realm",
            "context_length": model.context_length,
            "licence": model.licence,
            "fingerprint": served.fingerprint,
            "precision": model.compute.precision,
        }
        return {**card, "parent": model.name} if served.adapter else card

    def _served(self, loaded: LoadedAdapter) -> Served:
        name, digest = loaded.adapter.name, loaded.adapter.digest
        return Served(f"{self._model.name}:{name}", name, f"{self._model.fingerprint}-{digest[:8]}")

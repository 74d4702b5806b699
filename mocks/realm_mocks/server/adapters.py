"""The adapters of the scripted model, and who may use them: it says other things with each."""

from __future__ import annotations

from typing import Any, Final

from realm_mocks.server.errors import ApiError
from realm_mocks.server.tenants import Tenants

MODEL: Final = "scripted-1"
CONTEXT_LENGTH: Final = 8192
SHARED: Final = (f"{MODEL}:calm", f"{MODEL}:loud")
"""The model with adapters that everybody may use."""

OWN: Final = f"{MODEL}:theirs"
"""With an adapter of the second tenant's."""

ALL: Final = (MODEL, *SHARED, OWN)


def card_of(name: str) -> dict[str, Any]:
    """An entry of the list of models."""
    card = {
        "id": name,
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "realm",
        "context_length": CONTEXT_LENGTH,
    }
    return card if name == MODEL else {**card, "parent": MODEL}


def names_for(tenants: Tenants, header: str | None) -> tuple[str, ...]:
    """The models that whoever sends this Authorization header may use; the first is the model itself."""
    own = not tenants.keys or (header or "").endswith(f" {tenants.other_key}")
    return ALL if own else (MODEL, *SHARED)


def check_model(name: str, names: tuple[str, ...]) -> None:
    """ApiError 403 for a model of another tenant's, 404 for one that there is not."""
    if name in names:
        return
    if name in ALL:
        raise ApiError(403, f"The model '{name}' is not yours", param="model", code="model_forbidden")
    raise ApiError(404, f"The model '{name}' does not exist", param="model", code="model_not_found")

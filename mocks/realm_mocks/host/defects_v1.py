"""Planted defects behind the border of v1: layers, positions, models."""

from __future__ import annotations

import posixpath
from typing import Any

import numpy as np
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.hostapi import F32, U8, U32

from realm_mocks.host.defects import planted
from realm_mocks.host.functions_v1 import FunctionsV1
from realm_mocks.host.probed import Functions, ProbedMock


def _v1(functions: type[FunctionsV1]) -> type[ProbedMock]:
    """A host with other functions for v1 guests."""

    class Host(ProbedMock):
        def functions(self) -> Functions:
            return functions(self.scripted) if self.guest.version == 1 else super().functions()

    return Host


class _AppendOnly(FunctionsV1):
    def realm_forward_layer(self, model_id: int, layer: int, hidden: F32, position: int, out: F32, /) -> int:
        held = self.layers.held(layer) if layer < self.model.layers else position
        return super().realm_forward_layer(model_id, layer, hidden, max(held, position), out)


planted("position-is-ignored", "the cache only appends", "9", "EFFECT-010")(_v1(_AppendOnly))


class _LatePositions(FunctionsV1):
    def realm_forward_layer(self, model_id: int, layer: int, hidden: F32, position: int, out: F32, /) -> int:
        at = position - 1 if 0 < position < self.model.context_length else position
        return super().realm_forward_layer(model_id, layer, hidden, at, out)


planted("positions-slip", "positions are wrong after the first chunk", "19", "EFFECT-001")(
    _v1(_LatePositions)
)


class _PathsAreNames(FunctionsV1):
    def realm_host_load_model_by_name(self, name: str, /) -> int:
        return super().realm_host_load_model_by_name(posixpath.basename(name))


planted("names-are-paths", "a model's name may have ../ in it", "4", "REQUEST-010")(_v1(_PathsAreNames))


class _AnybodyRemoves(FunctionsV1):
    def realm_remove_model(self, model_id: int, /) -> int:
        self.check_model(model_id)
        return 0


planted("anybody-removes", "a guest may remove a model that is not its own", "5", "ISOLATE-006")(
    _v1(_AnybodyRemoves)
)


class _BelievesHeaders(FunctionsV1):
    def realm_store_model(self, gguf: U8, model_id: int, /) -> int:
        counts = gguf[8:24].view("<u8") if len(gguf) >= 24 else np.zeros(2, np.uint64)
        np.empty(min(int(counts.max()), 1 << 33), np.uint8)
        return super().realm_store_model(gguf, model_id)


planted("believes-a-header", "a count in a file's header goes into an allocation", "14", "REQUEST-011")(
    _v1(_BelievesHeaders)
)


class _AnyFile(FunctionsV1):
    def realm_store_model(self, gguf: U8, model_id: int, /) -> int:
        return model_id or self.model.handle + 1


planted("any-file-is-a-model", "bytes that are no GGUF file are stored", "14", "REQUEST-011")(_v1(_AnyFile))


class _KeepsFailed(FunctionsV1):
    def realm_forward_layer(self, model_id: int, layer: int, hidden: F32, position: int, out: F32, /) -> int:
        try:
            return super().realm_forward_layer(model_id, layer, hidden, position, out)
        except AbiError as error:
            if error.code is ErrorCode.invalid_argument and layer >= self.model.layers:
                self.layers.layer(0, hidden, 0, out.copy())
            raise


planted("failed-layers-stay", "a layer call that fails has changed the cache", "9", "EFFECT-004")(
    _v1(_KeepsFailed)
)


@planted("one-cache-for-a-model", "v1 guests of one model share its cache", "8", "ISOLATE-*")
class _OneV1Cache(ProbedMock):
    shared: FunctionsV1 | None = None

    def functions(self) -> Functions:
        made = super().functions()
        if isinstance(made, FunctionsV1):
            if self.shared is None:
                self.shared = made
            return _Sharing(self.scripted, self.shared)
        return made


class _Sharing(FunctionsV1):
    """Functions that use the layers of another instance."""

    def __init__(self, model: Any, other: FunctionsV1) -> None:
        self._other = other
        super().__init__(model)

    def begin(self, expected: Any, findings: Any) -> None:
        super().begin(expected, findings)
        self.layers = self._other.layers


class _AnyV1Model(FunctionsV1):
    def check_model(self, handle: int) -> None:
        del handle


planted("any-model-id", "every number is a model to a v1 guest", "5", "EMBED-TOKENS-HANDLE-*")(
    _v1(_AnyV1Model)
)


class _WrapsEmbedded(FunctionsV1):
    def realm_embed_tokens(self, model_id: int, ids: U32, out: F32, /) -> int:
        return super().realm_embed_tokens(model_id, ids % np.uint32(self.model.tokenizer.vocab_size), out)


planted(
    "embeds-any-ids", "realm_embed_tokens takes tokens outside the vocabulary", "3", "EMBED-TOKENS-IDS-*"
)(_v1(_WrapsEmbedded))


class _WrapsLayers(FunctionsV1):
    def realm_forward_layer(self, model_id: int, layer: int, hidden: F32, position: int, out: F32, /) -> int:
        return super().realm_forward_layer(model_id, layer % self.model.layers, hidden, position, out)


planted("layers-wrap", "a layer that is not there is taken for another", "3", "FORWARD-LAYER-RANGE-*")(
    _v1(_WrapsLayers)
)

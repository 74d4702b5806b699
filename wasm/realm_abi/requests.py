"""Lays out in guest memory what `generate` is called with: structs of the contract and what they point to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, cast

from realm_abi.contract import load_contract

ALIGNMENT = 16


class OptionsV1(TypedDict, total=False):
    """GenOptions by name; what is left out holds the contract's default."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    seed: int
    stop_tokens: Sequence[int]


class OptionsV2(TypedDict, total=False):
    """GenRequest by name, its flags as booleans; what is left out holds the contract's default."""

    model: int
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    prefill_chunk: int
    seed: int
    stop_tokens: Sequence[int]
    stop_strings: Sequence[str]
    add_bos: bool
    want_logprobs: bool
    plain_text: bool
    ignore_eos: bool
    draft_tokens: int
    draft_lookup: int


@dataclass(frozen=True, slots=True)
class PlacedV1:
    """Bytes for guest memory and the arguments of a v1 `generate` that point into them."""

    data: bytes
    prompt_ptr: int
    prompt_len: int
    options_ptr: int


def defaults_v1() -> OptionsV1:
    """What a v1 guest does without options: the contract's defaults, and no stop tokens."""
    fields = load_contract().structs["GenOptions"].fields
    named = {field.name: field.default for field in fields if field.name in OptionsV1.__annotations__}
    return cast(OptionsV1, {**named, "stop_tokens": ()})


def request_v1(base: int, prompt: str, options: OptionsV1 | None) -> PlacedV1:
    """A prompt and its GenOptions (none for None) as they lie from `base` on, the prompt first.

    How long the bytes are does not depend on `base`. Raises ValueError for a value that its field cannot
    hold.
    """
    block = _Block(base)
    encoded = prompt.encode("utf-8")
    prompt_ptr = block.add(encoded)
    options_ptr = 0
    if options is not None:
        fields: dict[str, Any] = dict(options)
        stop_tokens = fields.pop("stop_tokens", ())
        fields |= {"stop_token_count": len(stop_tokens), "stop_tokens_ptr": block.add(_u32s(stop_tokens))}
        options_ptr = block.add(load_contract().structs["GenOptions"].pack(**fields))
    return PlacedV1(bytes(block.data), prompt_ptr, len(encoded), options_ptr)


def request_v2(base: int, prompt: str, options: OptionsV2) -> bytes:
    """A GenRequest and all that it points to as they lie from `base` on, the GenRequest first.

    How long the bytes are does not depend on `base`. Raises ValueError for a value that its field cannot
    hold.
    """
    structs = load_contract().structs
    request, text_ref = structs["GenRequest"], structs["TextRef"]
    fields: dict[str, Any] = dict(options)
    stop_tokens = fields.pop("stop_tokens", ())
    stop_strings = [text.encode("utf-8") for text in fields.pop("stop_strings", ())]
    fields["flags"] = sum(request.flag(name) for name in request.flags if fields.pop(name, False))
    encoded = prompt.encode("utf-8")
    block = _Block(base)
    block.add(bytes(request.size))
    refs = [text_ref.pack(ptr=block.add(text), len=len(text)) for text in stop_strings]
    fields |= {
        "prompt_ptr": block.add(encoded),
        "prompt_len": len(encoded),
        "stop_tokens_ptr": block.add(_u32s(stop_tokens)),
        "stop_tokens_count": len(stop_tokens),
        "stop_strings_ptr": block.add(b"".join(refs)),
        "stop_strings_count": len(refs),
    }
    block.data[: request.size] = request.pack(**fields)
    return bytes(block.data)


class _Block:
    """Pieces one after the other from an address on, each aligned."""

    def __init__(self, base: int) -> None:
        self._base = base
        self.data = bytearray()

    def add(self, piece: bytes) -> int:
        """Appends a piece; answers its address."""
        self.data += bytes(-len(self.data) % ALIGNMENT)
        offset = len(self.data)
        self.data += piece
        return self._base + offset


def _u32s(values: Sequence[int]) -> bytes:
    try:
        return b"".join(value.to_bytes(4, "little") for value in values)
    except OverflowError:
        raise ValueError(f"{list(values)} are not all token ids") from None

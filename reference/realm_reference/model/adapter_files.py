"""Reading an adapter's file: a folder or .safetensors file of PEFT's, or a GGUF file as llama.cpp takes them.

Whatever a file asks for that would not be done is an error: an adapter that is half applied answers wrongly
and says nothing.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Final

from realm_reference.model.adapters import ADAPTER_NAME, Adapter, Part, Target, assemble
from realm_reference.model.config import LlamaConfig
from realm_reference.model.errors import AdapterFileError
from realm_reference.model.gguf import GGUFFile, open_gguf
from realm_reference.model.peft import read_peft
from realm_reference.model.weights import split_pairs

_REMEDY: Final = "train or convert it for this model again"
_GGUF_TARGETS: Final[dict[str, Target]] = {
    "attn_q": "q",
    "attn_k": "k",
    "attn_v": "v",
    "attn_output": "output",
    "ffn_gate": "gate",
    "ffn_up": "up",
    "ffn_down": "down",
}
_GGUF_TENSOR: Final = re.compile(r"(blk\.(\d{1,4})\.(\w+)\.weight)\.lora_([ab])")


def load_adapter(name: str, path: str | Path, config: LlamaConfig) -> Adapter:
    """Read the adapter at `path` for a model of these dimensions, and call it `name`.

    Raises AdapterFileError (and ModelFileError for a corrupt GGUF) with one line that names the file, the
    fault and the remedy.
    """
    path = Path(path)
    if not ADAPTER_NAME.fullmatch(name):
        raise AdapterFileError(
            f"{name[:80]!r} is no name for an adapter; take up to 64 letters, digits, '.', '_' and '-'"
        )
    if path.suffix == ".gguf":
        parts = _read_gguf(path, config.architecture)
        if config.interleaved_rope:
            parts = _in_split_order(parts, config.head_dim)
    else:
        parts = read_peft(path, config.n_layers)
    return assemble(name, parts, config, lambda fault: _error(path, fault))


def _error(path: Path, fault: str) -> AdapterFileError:
    return AdapterFileError(f"the adapter {path}: {fault}; {_REMEDY}")


def _read_gguf(path: Path, architecture: str) -> dict[tuple[int, Target], Part]:
    if not path.is_file():
        raise AdapterFileError(f"the adapter {path}: no such file; give a .gguf file or a folder of PEFT's")
    file = open_gguf(path)
    alpha = _alpha(file, architecture)
    parts: dict[tuple[int, Target], Part] = {}
    for tensor in file.tensors:
        match = _GGUF_TENSOR.fullmatch(tensor)
        if match is None or match[3] not in _GGUF_TARGETS:
            raise _error(path, f"the tensor {tensor[:80]!r} is no LoRA of a projection")
        a, b = f"{match[1]}.lora_a", f"{match[1]}.lora_b"
        for name in (a, b):
            if name not in file.tensors:
                raise _error(path, f"the tensor {name} is missing")
            if len(file.tensors[name].shape) != 2:
                raise _error(path, f"the tensor {name} is no matrix")
        if match[4] == "a":
            rank = file.tensors[a].shape[0]
            scale = alpha / rank if alpha else 1.0  # as llama.cpp takes an alpha of 0
            part = Part(match[1], file.tensor(a), file.tensor(b), scale)
            parts[int(match[2]), _GGUF_TARGETS[match[3]]] = part
    return parts


def _alpha(file: GGUFFile, architecture: str) -> float:
    """The file's alpha, after it has said that it is a plain LoRA for a model of this architecture."""
    wanted = {"general.type": "adapter", "adapter.type": "lora", "general.architecture": architecture}
    for key, value in wanted.items():
        if (given := file.metadata.get(key)) != value:
            said = "missing" if given is None else repr(str(given)[:40])
            raise _error(file.path, f"its {key} is {said}, not {value!r}")
    if file.metadata.get("adapter.alora.invocation_tokens"):
        raise _error(file.path, "it is an adapter that tokens switch on (aLoRA), which the reference has not")
    alpha = file.metadata.get("adapter.lora.alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha < math.inf:
        raise _error(file.path, f"its adapter.lora.alpha is {str(alpha)[:40]}, not a number from 0 on")
    return float(alpha)


def _in_split_order(parts: dict[tuple[int, Target], Part], head_dim: int) -> dict[tuple[int, Target], Part]:
    """The rows of q and k as the weights have them: the file's are in the GGUF's order, as its model's are.
    Rows that are not whole heads stay, for `assemble` to refuse.
    """
    return {
        key: Part(part.name, part.a, split_pairs(part.b, head_dim), part.scale)
        if key[1] in ("q", "k") and len(part.b) % head_dim == 0
        else part
        for key, part in parts.items()
    }

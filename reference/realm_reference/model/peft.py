"""Adapters as the PEFT library writes them: `adapter_config.json` beside `adapter_model.safetensors`.

The rows of q and k are those of Hugging Face's models, whose rotary pairs are (i, i + d/2): the order in
which the weights are held here, so nothing is reordered.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from realm_reference.model.adapters import Floats, Part, Target
from realm_reference.model.errors import AdapterFileError

CONFIG_FILE: Final = "adapter_config.json"
WEIGHTS_FILE: Final = "adapter_model.safetensors"
_MAX_CONFIG: Final = 1 << 20
_MAX_WEIGHTS: Final = 4 << 30
_PLACES: Final[dict[str, Target]] = {
    "self_attn.q_proj": "q",
    "self_attn.k_proj": "k",
    "self_attn.v_proj": "v",
    "self_attn.o_proj": "output",
    "mlp.gate_proj": "gate",
    "mlp.up_proj": "up",
    "mlp.down_proj": "down",
}
_TENSOR: Final = re.compile(
    r"(?:base_model\.model\.)?(?P<module>(?:model\.)?layers\.(?P<layer>\d{1,4})\.(?P<place>\w+\.\w+))"
    r"\.lora_(?P<factor>[AB])(?:\.default)?\.weight"
)
_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
# Settings that change the arithmetic in a way that is not done here. What is absent is off.
_REFUSED: Final = {
    "use_dora": "DoRA",
    "use_qalora": "QALoRA",
    "fan_in_fan_out": "transposed weights (fan_in_fan_out)",
    "lora_bias": "biases (lora_bias)",
    "modules_to_save": "modules trained as a whole (modules_to_save)",
    "trainable_token_indices": "trained embeddings (trainable_token_indices)",
    "target_parameters": "parameters that are no projections (target_parameters)",
    "alora_invocation_tokens": "tokens that switch it on (aLoRA)",
    "layer_replication": "repeated layers (layer_replication)",
}


def read_peft(path: Path, n_layers: int) -> dict[tuple[int, Target], Part]:
    """The parts of the adapter in the folder `path`, or in the .safetensors file `path` beside its
    configuration, for a model of `n_layers`. AdapterFileError for whatever is missing, unknown or not done.
    """
    if not path.exists():
        raise AdapterFileError(f"the adapter {path}: no such file; give a .gguf file or a folder of PEFT's")
    folder, weights = (path, path / WEIGHTS_FILE) if path.is_dir() else (path.parent, path)
    if weights.suffix != ".safetensors":
        raise AdapterFileError(f"the adapter {path}: only .safetensors and .gguf are read; convert it")
    config = _read_config(folder / CONFIG_FILE)
    parts: dict[tuple[int, Target], Part] = {}
    for module, pair in _pairs(weights).items():
        for factor in "AB":
            if factor not in pair:
                raise _error(weights, f"{module} has no lora_{factor}")
        a, b = pair["A"], pair["B"]
        if config.rank_of(module) != a.shape[0]:
            said = f"the configuration says {config.rank_of(module)}"
            raise _error(weights, f"the rank of {module} is {a.shape[0]}, and {said}")
        match = re.search(r"layers\.(\d+)\.(.+)", module)
        assert match is not None  # or `_pairs` had refused it
        key = int(match[1]), _PLACES[match[2]]
        if key in parts:
            raise _error(weights, f"{module} is there twice")
        parts[key] = Part(module, a, b, config.scale_of(module, a.shape[0]))
    config.check_whole({part.name for part in parts.values()}, n_layers)
    return parts


def _error(path: Path, fault: str) -> AdapterFileError:
    return AdapterFileError(f"the adapter {path}: {fault}; train or save it again")


@dataclass(frozen=True)
class _Config:
    """The settings of an adapter, with the values of single modules where they differ."""

    path: Path
    rank: int
    alpha: float
    root_scaled: bool
    targets: tuple[str, ...] | None  # ends of modules' names; None: not a list, so nothing to compare
    only_layers: tuple[int, ...] | None
    ranks: Mapping[str, Any]
    alphas: Mapping[str, Any]

    def rank_of(self, module: str) -> int:
        return int(_of_module(self.ranks, module, self.rank))

    def scale_of(self, module: str, rank: int) -> float:
        """alpha / rank, or with rank-stabilised LoRA alpha / sqrt(rank) (https://arxiv.org/abs/2312.03732)."""
        alpha = float(_of_module(self.alphas, module, self.alpha))
        return alpha / (math.sqrt(rank) if self.root_scaled else rank)

    def check_whole(self, found: set[str], n_layers: int) -> None:
        """Every module that the settings name is there, in every layer that they name, and no other."""
        if self.targets is None:
            return
        layers = range(n_layers) if self.only_layers is None else self.only_layers
        everywhere = [f"model.layers.{layer}.{place}" for layer in layers for place in _PLACES]
        wanted = {module for module in everywhere if any(_is_end(end, module) for end in self.targets)}
        for end in self.targets:
            if not any(_is_end(end, module) for module in wanted):
                raise _error(self.path, f"it targets {end[:80]!r}, which is no projection of the model")
        given = {module if module.startswith("model.") else f"model.{module}" for module in found}
        if missing := wanted - given:
            raise _error(self.path, f"it targets {min(missing)}, which has no weights")
        if extra := given - wanted:
            raise _error(self.path, f"there are weights of {min(extra)}, which it does not target")


def _is_end(end: str, module: str) -> bool:
    return module == end or module.endswith("." + end)


def _of_module(values: Mapping[str, Any], module: str, default: float) -> Any:
    return next((value for end, value in values.items() if _is_end(end, module)), default)


def _read_config(path: Path) -> _Config:
    try:
        with path.open("rb") as file:
            raw = json.loads(file.read(_MAX_CONFIG))
    except OSError as error:
        raise _error(path, f"cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise _error(path, "is not JSON") from None
    if not isinstance(raw, dict) or raw.get("peft_type") != "LORA":
        said = raw.get("peft_type") if isinstance(raw, dict) else None
        raise _error(path, f"its peft_type is {str(said)[:40]!r}, not 'LORA'")
    for key, what in _REFUSED.items():
        if raw.get(key):
            raise _error(path, f"it uses {what}, which the reference does not run")
    if raw.get("bias", "none") != "none":
        raise _error(path, "it trains biases, which the reference does not run")
    rank = raw.get("r")
    if type(rank) is not int or rank < 1:
        raise _error(path, f"its r is {str(rank)[:40]}, not a whole number from 1 on")
    return _Config(
        path=path,
        rank=rank,
        alpha=_number(path, "lora_alpha", raw.get("lora_alpha")),
        root_scaled=bool(raw.get("use_rslora")),
        targets=None if raw.get("exclude_modules") else _targets(path, raw.get("target_modules")),
        only_layers=_layers(path, raw.get("layers_to_transform")),
        ranks=_by_module(path, "rank_pattern", raw.get("rank_pattern")),
        alphas=_by_module(path, "alpha_pattern", raw.get("alpha_pattern")),
    )


def _number(path: Path, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise _error(path, f"its {key} is {str(value)[:40]}, not a positive number")
    return float(value)


def _targets(path: Path, value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return tuple(_PLACES) if value == "all-linear" else None
    if not isinstance(value, list) or not value or not all(isinstance(end, str) and end for end in value):
        raise _error(path, "its target_modules is no list of names")
    return tuple(value)


def _layers(path: Path, value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    layers = [value] if isinstance(value, int) else value
    if not isinstance(layers, list) or not all(type(i) is int and 0 <= i < 10000 for i in layers):
        raise _error(path, "its layers_to_transform is no list of layers")
    return tuple(layers)


def _by_module(path: Path, key: str, value: Any) -> dict[str, Any]:
    """Values of single modules, named by the ends of their names. PEFT takes regular expressions too, which
    are not run: a stranger wrote them.
    """
    entries = {} if value is None else value
    if not isinstance(entries, dict) or not all(re.fullmatch(r"[\w.]+", name) for name in entries):
        raise _error(path, f"its {key} is not made of plain names of modules")
    return {name: _number(path, f"{key} of {name[:80]}", given) for name, given in entries.items()}


def _pairs(path: Path) -> dict[str, dict[str, Floats]]:
    """The factors A and B by module; every tensor of the file is one."""
    try:
        if path.stat().st_size > _MAX_WEIGHTS:
            raise _error(path, f"it has more than {_MAX_WEIGHTS >> 30} GiB")
        tensors = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except OSError as error:
        raise _error(path, f"cannot be read ({error.strerror})") from None
    except SafetensorError as error:
        raise _error(path, f"is no sound safetensors file ({str(error)[:120]})") from None
    pairs: dict[str, dict[str, Floats]] = {}
    for name, view in tensors:
        match = _TENSOR.fullmatch(name)
        if match is None or match["place"] not in _PLACES:
            raise _error(path, f"the tensor {name[:120]!r} is no LoRA of a projection")
        if len(view["shape"]) != 2 or view["dtype"] not in _DTYPES:
            said = f"{view['dtype']} of shape {tuple(view['shape'])}"
            raise _error(path, f"{name} is {said}, not a matrix of F32, F16 or BF16")
        pairs.setdefault(match["module"], {})[match["factor"]] = _floats(view)
    return pairs


def _floats(view: Mapping[str, Any]) -> Floats:
    """A tensor's numbers as float32; bfloat16 is its upper half."""
    stored: NDArray[Any] = np.frombuffer(view["data"], dtype=_DTYPES[view["dtype"]]).reshape(view["shape"])
    if view["dtype"] == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)

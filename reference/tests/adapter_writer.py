"""Writes LoRA adapters with random factors, in PEFT's layout and as GGUF; tests load it with runpy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from realm_reference.model.adapters import TARGETS, Target, projection_shapes
from realm_reference.model.config import LlamaConfig
from safetensors.numpy import save_file

Floats = NDArray[np.float32]
Drawn = dict[tuple[int, Target], tuple[Floats, Floats]]
"""A [rank, inputs] and B [outputs, rank] by layer and projection, rows as in Hugging Face's models."""

_PEFT: Mapping[Target, str] = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "output": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
_GGUF: Mapping[Target, str] = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "output": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def draw(
    config: LlamaConfig, seed: int, *, rank: int = 4, targets: Iterable[Target] = TARGETS, size: float = 1.0
) -> Drawn:
    """Factors that change a projection by about `size` of what its weights do, with a scale of 1."""
    random = np.random.default_rng(seed)
    shapes = projection_shapes(config)
    drawn: Drawn = {}
    for layer in range(config.n_layers):
        for target in targets:
            outputs, inputs = shapes[target]
            a = random.standard_normal((rank, inputs)).astype(np.float32) / np.float32(np.sqrt(inputs))
            b = random.standard_normal((outputs, rank)).astype(np.float32) * np.float32(size / np.sqrt(rank))
            drawn[layer, target] = a, b
    return drawn


def write_peft(folder: Path, drawn: Drawn, alpha: float = 8.0, **settings: Any) -> Path:
    """PEFT's folder; `settings` replace those of its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    targets = sorted({_PEFT[target].split(".")[1] for _, target in drawn})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": len(next(iter(drawn.values()))[0]),
        "lora_alpha": alpha,
        "target_modules": targets,
        "bias": "none",
        "use_dora": False,
        "fan_in_fan_out": False,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config | settings))
    save_file(peft_tensors(drawn), folder / "adapter_model.safetensors")
    return folder


def peft_tensors(drawn: Drawn) -> dict[str, Floats]:
    """The tensors of PEFT's file by name."""
    tensors: dict[str, Floats] = {}
    for (layer, target), (a, b) in drawn.items():
        module = f"base_model.model.model.layers.{layer}.{_PEFT[target]}"
        tensors |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
    return tensors


def write_gguf(
    path: Path,
    drawn: Drawn,
    config: LlamaConfig,
    alpha: float = 8.0,
    *,
    metadata: Mapping[str, str] | None = None,
    tensors: Mapping[str, Floats | None] | None = None,
) -> Path:
    """An adapter as llama.cpp takes them, whose rows of q and k have rotary pairs as neighbours."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_float32("adapter.lora.alpha", alpha)
    for key, value in ({"general.type": "adapter", "adapter.type": "lora"} | dict(metadata or {})).items():
        writer.add_string(key, value)
    written: dict[str, Floats | None] = {}
    for (layer, target), (a, b) in drawn.items():
        name = f"blk.{layer}.{_GGUF[target]}.weight"
        rows = _neighbours(b, config.head_dim) if target in ("q", "k") else b
        written |= {f"{name}.lora_a": a, f"{name}.lora_b": rows}
    for name, values in (written | dict(tensors or {})).items():
        if values is not None:
            writer.add_tensor(name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _neighbours(b: Floats, head_dim: int) -> Floats:
    """Rows i and i + d/2 of each head beside each other."""
    outputs, rank = b.shape
    halves = b.reshape(outputs // head_dim, 2, head_dim // 2, rank)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(outputs, rank))

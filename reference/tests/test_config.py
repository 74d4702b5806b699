"""What the transformer cannot compute is refused by name, never ignored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from realm_reference.model.config import LayerConfig, LlamaConfig
from realm_reference.model.errors import ModelFileError
from realm_reference.model.gguf import open_gguf
from realm_reference.model.model import load_model
from realm_reference.model.rope import Rope


def test_reads_the_real_model(smollm2_path: Path) -> None:
    config = LlamaConfig.from_gguf(open_gguf(smollm2_path))
    assert (config.n_layers, config.hidden_size, config.n_heads, config.n_kv_heads) == (30, 576, 9, 3)
    assert (config.head_dim, config.intermediate_size, config.context_length) == (64, 1536, 8192)
    assert {(layer.window, layer.rope) for layer in config.layers} == {(0, Rope(100000.0))}
    assert config.rms_norm_eps == pytest.approx(1e-5)


_GEMMA3 = {
    "general.architecture": "gemma3",
    "gemma3.block_count": 12,
    "gemma3.context_length": 512,
    "gemma3.embedding_length": 72,
    "gemma3.feed_forward_length": 96,
    "gemma3.attention.head_count": 9,
    "gemma3.attention.key_length": 16,
    "gemma3.attention.value_length": 16,
    "gemma3.attention.sliding_window": 32,
    "gemma3.rope.freq_base": 1e6,
    "gemma3.rope.scaling.type": "linear",
    "gemma3.rope.scaling.factor": 8.0,
}


def test_what_gemma3_files_leave_out_is_known(make_gguf: Callable[..., Path]) -> None:
    """The layers' pattern, the base of the windowed ones, and how the largest size scales its scores."""
    config = LlamaConfig.from_gguf(open_gguf(make_gguf(_GEMMA3)))
    local, full = LayerConfig(32, Rope(1e4)), LayerConfig(0, Rope(1e6, 8.0))
    assert config.layers == ((local,) * 5 + (full,)) * 2
    assert (config.rope, config.attention_scale) == (full.rope, 0.25)
    assert config.embedding_scale == pytest.approx(72**0.5)
    stated = {"gemma3.attention.sliding_window_pattern": 2, "gemma3.block_count": 62}
    large = LlamaConfig.from_gguf(open_gguf(make_gguf(_GEMMA3 | stated)))
    assert large.layers == (local, full) * 31
    assert large.attention_scale == pytest.approx(8**-0.5), "hidden size over heads, not the head's own 16"


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"general.architecture": "mamba"}, "'mamba'; the reference runs llama, qwen2, qwen3, gemma3 only"),
        ({"llama.block_count": None}, r"llama\.block_count is missing"),
        ({"llama.block_count": 2**31}, "whole number"),
        ({"llama.embedding_length": "wide"}, "whole number"),
        ({"llama.attention.head_count_kv": 4}, "cannot share"),
        ({"llama.attention.head_count_kv": [3, 3]}, "whole number"),
        ({"llama.expert_count": 8}, "mixture of experts"),
        ({"llama.attention.sliding_window": 512}, "sliding-window"),
        ({"llama.rope.scaling.type": "longrope"}, "'longrope'"),
        (
            {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 0.5},
            "scales its positions by 0.5",
        ),
        ({"llama.rope.scaling.type": "yarn"}, r"original_context_length is missing"),
        ({"llama.final_logit_softcapping": 30.0}, "capped logits"),
        ({"llama.rope.dimension_count": 4}, "part of each head"),
        ({"llama.rope.freq_base": float("nan")}, "positive number"),
        ({"llama.attention.layer_norm_rms_epsilon": 0.0}, "positive number"),
    ],
)
def test_refuses_by_name(make_gguf: Callable[..., Path], metadata: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        load_model(make_gguf(metadata))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"output_norm.weight": None}, r"output_norm\.weight is missing"),
        ({"token_embd.weight": None}, r"token_embd\.weight is missing"),
        ({"rope_freqs.weight": np.array([1, 1, 0, 1], np.float32)}, "not positive numbers"),
        ({"blk.1.ffn_up.weight": np.zeros((96, 71), np.float32)}, "shape"),
        ({"blk.0.attn_q.bias": np.zeros(72, np.float32)}, r"blk\.0\.attn_q\.bias"),
        ({"output.weight": np.zeros((5, 72), np.float32)}, "shape"),
        ({"token_embd.weight": np.zeros((5, 72), np.float32)}, "tokens but logits for 5"),
    ],
)
def test_refuses_tensors_that_do_not_fit(
    make_gguf: Callable[..., Path], tensors: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelFileError, match=message):
        load_model(make_gguf(tensors=tensors))

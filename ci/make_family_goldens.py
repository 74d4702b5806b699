"""Make the goldens that hold the other architectures of the Llama family to Hugging Face transformers.

    python ci/make_family_goldens.py               writes family.npz: tiny random models of each variant
    python ci/make_family_goldens.py GEMMA.gguf    also gemma3.npz and gemma3-tokens.json, of gemma3-270m

Both go to reference/tests/data. A tiny model is drawn here and put into transformers' own classes, whose
settings are written out below: the GGUF metadata beside them say the same thing in the file's words. Needs
what make_goldens.py needs, and protobuf.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from golden_texts import PROMPTS
from make_goldens import DATA, HuggingFace, about, position_goldens, write_json

_VOCAB, _HIDDEN, _HEADS, _FFN, _CONTEXT, _POSITIONS = 48, 32, 4, 40, 128, 64
_COLUMNS = np.arange(0, _VOCAB, 5)
_YARN = {"factor": 4.0, "original_max_position_embeddings": 32}
_LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

# name: (text, how many of its tokens are used, of how many the logits are kept); gemma3's window is 512.
_GEMMA_PROMPTS = {
    "one-token": ("Hello", 2, 2),
    "emoji": (PROMPTS["emoji"][0], 80, 80),
    "json": (PROMPTS["json"][0], 64, 64),
    "cjk": (PROMPTS["cjk"][0], 80, 80),
    "code": (PROMPTS["code"][0], 128, 96),
    "prose": (PROMPTS["prose"][0], 640, 160),
}
_GEMMA_GREEDY, _GEMMA_GREEDY_TOKENS = "The lighthouse keeper woke before dawn and", 64


@dataclass(frozen=True)
class Variant:
    """A tiny model twice over: `metadata` for the GGUF file, `settings` for the class of transformers."""

    architecture: str
    model_class: str
    head_dim: int = 8
    n_kv_heads: int = 2
    n_layers: int = 2
    tied: bool = True
    norm_offset: float = 0.0  # transformers adds it to its norms' weights; GGUF files hold the sum
    metadata: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


VARIANTS = {
    "llama3-factors": Variant(
        "llama",
        "Llama",
        settings={"rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, **_LLAMA3}},
        metadata={"rope.freq_base": 500000.0},
    ),
    "qwen2": Variant(
        "qwen2", "Qwen2", tied=False, metadata={"rope.freq_base": 1e6}, settings={"rope_theta": 1e6}
    ),
    "qwen2-yarn": Variant(
        "qwen2",
        "Qwen2",
        metadata={
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 32,
        },
        settings={"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, **_YARN}},
    ),
    "qwen3": Variant(
        "qwen3", "Qwen3", head_dim=12, metadata={"rope.freq_base": 1e6}, settings={"rope_theta": 1e6}
    ),
    "gemma3": Variant(
        "gemma3",
        "Gemma3",
        head_dim=12,
        n_kv_heads=1,
        n_layers=7,
        norm_offset=1.0,
        metadata={
            "attention.sliding_window": 9,
            "rope.freq_base": 1e6,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
        },
        settings={
            "sliding_window": 9,
            "query_pre_attn_scalar": 12,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
}

# GGUF's name of a layer's tensor: transformers' name.
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GEMMA_NAMES = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def main() -> None:
    """Make the tiny models' goldens, and Gemma's if its file is given."""
    arrays: dict[str, Any] = {
        "about": np.array(json.dumps(about(None))),
        "columns": _COLUMNS.astype(np.uint16),
    }
    for name, variant in VARIANTS.items():
        arrays |= family_goldens(name, variant)
    np.savez_compressed(DATA / "family.npz", **arrays)
    if len(sys.argv) > 1:
        path = Path(sys.argv[1])
        processor = gemma_sentencepiece(path)
        np.savez_compressed(DATA / "gemma3.npz", **gemma_goldens(HuggingFace(path), processor))
        texts = [
            case["text"] for case in json.loads((DATA / "tokens.json").read_text(encoding="ascii"))["cases"]
        ]
        ids = [processor.encode(text) for text in texts]
        write_json("gemma3-tokens.json", {"about": about(path), "ids of the texts of tokens.json": ids})


def family_goldens(name: str, variant: Variant) -> dict[str, Any]:
    """A tiny model's metadata, tensors and logits."""
    import torch
    import transformers

    config = getattr(transformers, f"{variant.model_class}{'Text' * (name == 'gemma3')}Config")(
        vocab_size=_VOCAB,
        hidden_size=_HIDDEN,
        intermediate_size=_FFN,
        num_hidden_layers=variant.n_layers,
        num_attention_heads=_HEADS,
        num_key_value_heads=variant.n_kv_heads,
        head_dim=variant.head_dim,
        max_position_embeddings=_CONTEXT,
        rms_norm_eps=1e-5,
        tie_word_embeddings=variant.tied,
        **variant.settings,
    )
    model = getattr(transformers, f"{variant.model_class}ForCausalLM")(config).eval().float()
    draw = np.random.default_rng(sum(name.encode()))
    tensors = {
        key: drawn(draw, variant, key, tuple(value.shape)) for key, value in model.state_dict().items()
    }
    if variant.tied:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    model.load_state_dict({key: torch.from_numpy(value) for key, value in tensors.items()})
    ids = draw.integers(0, _VOCAB, _POSITIONS).astype(np.uint16)
    with torch.inference_mode():
        logits = model(torch.from_numpy(ids.astype(np.int64))[None], use_cache=False).logits[0].numpy()
    written = {f"{name}/tensors/{key}": value for key, value in gguf_tensors(variant, tensors).items()}
    metadata = np.array(json.dumps(gguf_metadata(variant)))
    return {f"{name}/metadata": metadata, **written, **position_goldens(name, ids, logits, _COLUMNS, 4)}


def drawn(draw: np.random.Generator, variant: Variant, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random multiples of 1/64, of which float16 loses nothing: the file may hold them in half the bytes."""
    if len(shape) == 2:
        values = draw.standard_normal(shape) * (1 if "embed" in key else 2 / math.sqrt(shape[1]))
    else:
        values = draw.uniform(-0.5, 0.5, shape) + (1 - variant.norm_offset if "norm" in key else 0)
    return (np.round(values * 64) / 64).astype(np.float32)


def gguf_metadata(variant: Variant) -> dict[str, Any]:
    """What the GGUF file says of the variant."""
    shape = {
        "block_count": variant.n_layers,
        "context_length": _CONTEXT,
        "embedding_length": _HIDDEN,
        "feed_forward_length": _FFN,
        "attention.head_count": _HEADS,
        "attention.head_count_kv": variant.n_kv_heads,
        "attention.key_length": variant.head_dim,
        "attention.value_length": variant.head_dim,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    entries = {f"{variant.architecture}.{key}": value for key, value in (shape | variant.metadata).items()}
    return {"general.architecture": variant.architecture} | entries


def gguf_tensors(variant: Variant, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same tensors under GGUF's names and in its order of rows."""
    names = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    names |= {} if variant.tied else {"output.weight": "lm_head.weight"}
    layer_names = _LAYER_NAMES | (_GEMMA_NAMES if variant.architecture == "gemma3" else {})
    for i in range(variant.n_layers):
        for ours, theirs in layer_names.items():
            names |= {
                f"blk.{i}.{ours}.{kind}": f"model.layers.{i}.{theirs}.{kind}" for kind in ("weight", "bias")
            }
    found = {ours: tensors[theirs] for ours, theirs in names.items() if theirs in tensors}
    for name, values in found.items():
        if "norm" in name:
            found[name] = values + np.float32(variant.norm_offset)
        elif variant.architecture == "llama" and ("attn_q." in name or "attn_k." in name):
            heads = values.reshape(-1, 2, variant.head_dim // 2, *values.shape[1:])
            found[name] = heads.swapaxes(1, 2).reshape(values.shape)
    if variant.architecture == "llama":
        found["rope_freqs.weight"] = llama3_factors(500000.0, variant.head_dim)
    return {
        n: values if n == "rope_freqs.weight" else values.astype(np.float16) for n, values in found.items()
    }


def llama3_factors(theta: float, head_dim: int) -> np.ndarray:
    """What Llama 3.1's files store as a tensor: what each rotary frequency is divided by."""
    wavelengths = 2 * math.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    turns = _LLAMA3["original_max_position_embeddings"] / wavelengths
    low, high = _LLAMA3["low_freq_factor"], _LLAMA3["high_freq_factor"]
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / (kept + (1 - kept) / _LLAMA3["factor"])).astype(np.float32)


def gemma_goldens(truth: HuggingFace, processor: Any) -> dict[str, Any]:
    """Logits of the prompts, and tokens by argmax."""
    columns = np.sort(np.random.default_rng(7).choice(processor.get_piece_size(), 12, replace=False))
    arrays = {"about": np.array(json.dumps(about(truth.path))), "columns": columns.astype(np.uint32)}
    for name, (text, length, kept) in _GEMMA_PROMPTS.items():
        ids = with_bos(processor, text)[:length]
        assert len(ids) == length, f"{name} has only {len(ids)} tokens"
        logits = truth.logits(ids)[-kept:]
        arrays |= position_goldens(name, np.array(ids, np.uint32), logits, columns, 4)
    prompt = with_bos(processor, _GEMMA_GREEDY)
    return arrays | {
        "greedy/prompt": np.array(prompt, np.uint32),
        "greedy/tokens": np.array(truth.greedy(prompt, _GEMMA_GREEDY_TOKENS), np.uint32),
    }


def with_bos(processor: Any, text: str) -> list[int]:
    """The ids as Gemma was trained to see them."""
    return [processor.bos_id(), *processor.encode(text)]


def gemma_sentencepiece(path: Path) -> Any:
    """SentencePiece itself on the file's vocabulary, with the settings of Gemma's own model of it."""
    import sentencepiece
    from gguf import GGUFReader
    from sentencepiece import sentencepiece_model_pb2

    fields = GGUFReader(path).fields
    tokens, scores, kinds = (
        fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "scores", "token_type")
    )
    model = sentencepiece_model_pb2.ModelProto()
    for token, score, kind in zip(tokens, scores, kinds, strict=True):
        # The file's converter has written the spaces of user-defined pieces (4) as spaces.
        piece = token.replace(" ", "\u2581") if kind == 4 else token
        model.pieces.add(piece=piece, score=score, type=2 if token == "<unk>" else kind)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type, trainer.byte_fallback = trainer.BPE, True
    trainer.pad_id, trainer.eos_id, trainer.bos_id, trainer.unk_id = 0, 1, 2, 3
    trainer.pad_piece, trainer.eos_piece, trainer.bos_piece = "<pad>", "<eos>", "<bos>"
    normalizer.name, normalizer.add_dummy_prefix, normalizer.remove_extra_whitespaces = (
        "identity",
        False,
        False,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


if __name__ == "__main__":
    main()

"""Adapters are read as they are, from either format, and whatever is wrong with one is told in one line."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from realm_reference.model.adapter_files import load_adapter
from realm_reference.model.adapters import TARGETS, Adapter
from realm_reference.model.config import LlamaConfig
from realm_reference.model.drawn_adapters import drawn_adapter
from realm_reference.model.errors import ModelError
from realm_reference.model.gguf import open_gguf
from realm_reference.serve_adapters import read_adapters
from safetensors import TensorSpec, serialize_file
from safetensors.numpy import save_file

WRITER = runpy.run_path(str(Path(__file__).with_name("adapter_writer.py")))
draw, write_peft, write_gguf, peft_tensors = (
    WRITER[name] for name in ("draw", "write_peft", "write_gguf", "peft_tensors")
)
PREFIX = "base_model.model.model.layers."


@pytest.fixture(scope="module")
def config(tiny_gguf: Path) -> LlamaConfig:
    return LlamaConfig.from_gguf(open_gguf(tiny_gguf))


@pytest.fixture
def folder(config: LlamaConfig, tmp_path: Path) -> Path:
    """A sound adapter of PEFT's, to be spoiled."""
    return Path(write_peft(tmp_path / "fr", draw(config, 1)))


def refused(path: Path, config: LlamaConfig, name: str = "fr") -> str:
    with pytest.raises(ModelError) as caught:
        load_adapter(name, path, config)
    message = str(caught.value)
    assert "\n" not in message
    assert ";" in message
    return message


def same(one: Adapter, other: Adapter) -> bool:
    return one.digest == other.digest


def spoil(folder: Path, **settings: Any) -> Path:
    """Replace settings of a written adapter."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


def test_both_formats_hold_the_same_adapter(config: LlamaConfig, tmp_path: Path) -> None:
    drawn = draw(config, 3)
    peft = load_adapter("fr", write_peft(tmp_path / "fr", drawn), config)
    ggml = load_adapter("fr", write_gguf(tmp_path / "fr.gguf", drawn, config), config)
    assert same(peft, ggml)
    assert (peft.name, peft.rank, len(peft.layers)) == ("fr", 4, config.n_layers)
    assert peft.nbytes == sum(a.nbytes + b.nbytes for a, b in drawn.values())
    for (layer, target), (a, b) in drawn.items():
        np.testing.assert_array_equal(peft.layers[layer][target].a, a)
        np.testing.assert_array_equal(peft.layers[layer][target].b, 2 * b)  # alpha 8 over rank 4
    assert same(peft, load_adapter("other", tmp_path / "fr" / "adapter_model.safetensors", config))


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({"lora_alpha": 6}, 1.5),
        ({"use_rslora": True}, 4.0),
        ({"alpha_pattern": {"q_proj": 2.0, "layers.1.mlp.up_proj": 4}}, 2.0),
    ],
)
def test_the_scale_is_that_of_the_settings(
    folder: Path, config: LlamaConfig, settings: dict[str, Any], scale: float
) -> None:
    plain = load_adapter("fr", folder, config)
    read = load_adapter("fr", spoil(folder, **settings), config)
    for layer, target in draw(config, 1):
        patterned = "alpha_pattern" in settings and (target == "q" or (layer, target) == (1, "up"))
        wanted = {"q": 0.5, "up": 1.0}[target] if patterned else scale
        np.testing.assert_allclose(
            read.layers[layer][target].b, plain.layers[layer][target].b * wanted / 2, rtol=1e-6
        )


def test_an_alpha_of_zero_in_a_gguf_is_no_scale(config: LlamaConfig, tmp_path: Path) -> None:
    drawn = draw(config, 3)
    read = load_adapter("fr", write_gguf(tmp_path / "a.gguf", drawn, config, alpha=0.0), config)
    np.testing.assert_array_equal(read.layers[0]["v"].b, drawn[0, "v"][1])


def test_some_projections_of_some_layers(config: LlamaConfig, tmp_path: Path) -> None:
    drawn = {key: pair for key, pair in draw(config, 1, targets=("q", "down")).items() if key[0] == 1}
    path = write_peft(tmp_path / "fr", drawn, layers_to_transform=[1])
    read = load_adapter("fr", path, config)
    assert [set(layer) for layer in read.layers] == [set(), {"q", "down"}]


def test_ranks_that_differ_are_in_the_settings(config: LlamaConfig, tmp_path: Path) -> None:
    drawn = draw(config, 1, targets=("q",)) | draw(config, 2, targets=("v",), rank=2)
    message = refused(write_peft(tmp_path / "fr", drawn), config)
    assert "v_proj is 2, and the configuration says 4" in message
    read = load_adapter("fr", spoil(tmp_path / "fr", rank_pattern={"v_proj": 2}), config)
    assert {len(read.layers[0][target].a) for target in ("q", "v")} == {4, 2}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_widened(folder: Path, config: LlamaConfig, dtype: str) -> None:
    tensors = peft_tensors(draw(config, 1))
    rounded = {
        name: values.astype(np.float16)
        if dtype == "float16"
        else (values.view(np.uint32) >> 16).astype(np.uint16)
        for name, values in tensors.items()
    }
    stored = {
        name: TensorSpec(dtype=dtype, shape=values.shape, data_ptr=values.ctypes.data, data_len=values.nbytes)
        for name, values in rounded.items()
    }
    serialize_file(stored, folder / "adapter_model.safetensors")
    read, name = load_adapter("fr", folder, config), f"{PREFIX}0.self_attn.k_proj.lora_A.weight"
    np.testing.assert_allclose(read.layers[0]["k"].a, tensors[name], rtol=1e-2, atol=1e-3)
    assert not np.array_equal(read.layers[0]["k"].a, tensors[name])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"peft_type": "IA3"}, "its peft_type is 'IA3', not 'LORA'"),
        ({"use_dora": True}, "it uses DoRA"),
        ({"bias": "all"}, "it trains biases"),
        ({"modules_to_save": ["lm_head"]}, "modules trained as a whole"),
        ({"r": 0}, "its r is 0"),
        ({"r": 8}, "is 4, and the configuration says 8"),
        ({"lora_alpha": None}, "its lora_alpha is None"),
        ({"lora_alpha": float("inf")}, "its lora_alpha is inf"),
        ({"target_modules": None}, "its target_modules is no list of names"),
        ({"target_modules": ["q_proj"]}, "weights of model.layers.0.mlp.down_proj, which it does not target"),
        ({"target_modules": ["q_proj", "lm_head"]}, "it targets 'lm_head', which is no projection"),
        ({"layers_to_transform": [0]}, "weights of model.layers.1."),
        ({"layers_to_transform": [0, 1, 2]}, "it targets model.layers.2."),
        ({"layers_to_transform": "all"}, "its layers_to_transform is no list"),
        ({"alpha_pattern": {"(a+)+$": 1}}, "its alpha_pattern is not made of plain names"),
    ],
)
def test_settings_that_are_not_done_are_refused(
    folder: Path, config: LlamaConfig, settings: dict[str, Any], said: str
) -> None:
    message = refused(spoil(folder, **settings), config)
    assert said in message
    assert str(folder) in message


def _without_b(tensors: dict[str, Any]) -> None:
    del tensors[PREFIX + "1.self_attn.v_proj.lora_B.weight"]


def _without_module(tensors: dict[str, Any]) -> None:
    for factor in "AB":
        del tensors[PREFIX + f"1.self_attn.v_proj.lora_{factor}.weight"]


def _wide_keys(tensors: dict[str, Any]) -> None:
    """As if every query head had a key of its own."""
    name = PREFIX + "0.self_attn.k_proj.lora_B.weight"
    tensors[name] = np.zeros((72, 4), np.float32)


def _foreign(tensors: dict[str, Any]) -> None:
    tensors["base_model.model.lm_head.lora_A.weight"] = np.zeros((4, 72), np.float32)


def _beyond(tensors: dict[str, Any]) -> None:
    for factor in "AB":
        name = f"self_attn.v_proj.lora_{factor}.weight"
        tensors[PREFIX + "2." + name] = tensors[PREFIX + "1." + name]


def _not_finite(tensors: dict[str, Any]) -> None:
    tensors[PREFIX + "0.mlp.up_proj.lora_A.weight"][0, 0] = np.inf


def _integers(tensors: dict[str, Any]) -> None:
    tensors[PREFIX + "0.mlp.up_proj.lora_A.weight"] = np.zeros((4, 72), np.int8)


def _flat(tensors: dict[str, Any]) -> None:
    tensors[PREFIX + "0.mlp.up_proj.lora_A.weight"] = np.zeros(288, np.float32)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_without_b, "1.self_attn.v_proj has no lora_B"),
        (_without_module, "it targets model.layers.1.self_attn.v_proj, which has no weights"),
        (_wide_keys, "B of model.layers.0.self_attn.k_proj has the shape (72, 4), not (24, 4)"),
        (_foreign, "the tensor 'base_model.model.lm_head.lora_A.weight' is no LoRA of a projection"),
        (_beyond, "model.layers.2.self_attn.v_proj"),
        (_not_finite, "0.mlp.up_proj holds numbers that are not finite"),
        (_integers, "is I8 of shape (4, 72), not a matrix of F32, F16 or BF16"),
        (_flat, "is F32 of shape (288,), not a matrix"),
    ],
)
def test_tensors_that_are_missing_or_misshapen_are_refused(
    folder: Path, config: LlamaConfig, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    tensors = peft_tensors(draw(config, 1))
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")
    assert said in refused(folder, config)


def test_files_that_are_none_are_refused(folder: Path, config: LlamaConfig, tmp_path: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    assert "is no sound safetensors file" in refused(folder, config)
    weights.unlink()
    assert "cannot be read" in refused(folder, config)
    weights.write_bytes(whole)
    (folder / "adapter_config.json").write_text("[" * 100_000)
    assert "is not JSON" in refused(folder, config)
    (folder / "adapter_config.json").unlink()
    assert "cannot be read" in refused(folder, config)
    assert "no such file" in refused(tmp_path / "none", config)
    assert "no such file" in refused(tmp_path / "none.gguf", config)
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x02")
    assert "only .safetensors and .gguf are read" in refused(tmp_path / "adapter_model.bin", config)
    for name in ("", "a:b", "a/b", "x" * 65, ".hidden"):
        assert "is no name for an adapter" in refused(folder, config, name)


def test_a_gguf_that_is_no_plain_adapter_is_refused(
    config: LlamaConfig, tiny_gguf: Path, tmp_path: Path
) -> None:
    def spoiled(drawn: Any = None, **changes: Any) -> str:
        path = tmp_path / "a.gguf"
        write_gguf(path, draw(config, 1) if drawn is None else drawn, config, **changes)
        return refused(path, config)

    assert "its general.type is missing, not 'adapter'" in refused(tiny_gguf, config)
    assert "its adapter.type is 'ia3', not 'lora'" in spoiled(metadata={"adapter.type": "ia3"})
    assert "lora_b is missing" in spoiled(tensors={"blk.0.attn_q.weight.lora_b": None})
    assert "lora_a is missing" in spoiled(tensors={"blk.0.attn_q.weight.lora_a": None})
    assert "'output.weight.lora_a' is no LoRA" in spoiled(
        tensors={"output.weight.lora_a": np.zeros((4, 72), np.float32)}
    )
    odd = np.zeros((25, 4), np.float32)
    assert "has the shape (25, 4), not (24, 4)" in spoiled(tensors={"blk.0.attn_k.weight.lora_b": odd})
    assert "changes no projection" in spoiled({})
    assert "its adapter.lora.alpha is -1.0" in spoiled(alpha=-1.0)


def test_every_projection_has_a_place_in_both_formats() -> None:
    assert set(WRITER["_PEFT"]) == set(WRITER["_GGUF"]) == set(TARGETS)


def test_an_adapter_is_drawn_from_a_seed(config: LlamaConfig) -> None:
    one, same, two = (drawn_adapter("a", source, config) for source in ("seed:1", "seed:1", "seed:2"))
    assert one.digest == same.digest != two.digest
    assert len(one.layers) == config.n_layers
    assert {target for layer in one.layers for target in layer} == set(TARGETS)
    (read,) = read_adapters([("a", Path("seed:1"))], None, config)
    assert read.digest == one.digest
    for name, source in (("a", "seed:"), ("a", "seed:-1"), ("a b", "seed:1"), ("a", "seed:1/../x")):
        with pytest.raises(ModelError, match="is no drawn adapter; take NAME=seed:1"):
            drawn_adapter(name, source, config)

"""A packed model is the file's, number by number, whether it was packed now or found in the cache."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from realm_reference.compute.jit.layout import DENSE, EIGHT_BIT, EIGHT_BIT_HALF, FOUR_BIT
from realm_reference.compute.jit.packing import unpack
from realm_reference.compute.numpy import numpy_arrays
from realm_reference.model.array_cache import ArrayCache
from realm_reference.model.config import LlamaConfig
from realm_reference.model.errors import ModelFileError
from realm_reference.model.gguf import open_gguf
from realm_reference.model.packed_weights import PackedWeights, load_packed_weights
from realm_reference.model.weights import load_weights


def packed(path: Path, cache: ArrayCache | None = None) -> PackedWeights:
    file = open_gguf(path)
    return load_packed_weights(file, LlamaConfig.from_gguf(file), cache)


def assert_is_the_files(weights: PackedWeights, path: Path) -> None:
    file = open_gguf(path)
    truth = load_weights(file, LlamaConfig.from_gguf(file), numpy_arrays())
    np.testing.assert_array_equal(unpack(weights.embedding), truth.embedding)
    np.testing.assert_array_equal(unpack(weights.unembedding).T, truth.unembedding)
    np.testing.assert_array_equal(weights.final_norm, truth.final_norm)
    for layer, true in zip(weights.layers, truth.layers, strict=True):
        joined = [(true.qkv, (layer.q, layer.k, layer.v)), (true.output, (layer.output,))]
        joined += [(true.gate_up, (layer.gate, layer.up)), (true.down, (layer.down,))]
        for matrix, parts in joined:
            np.testing.assert_array_equal(np.concatenate([unpack(part) for part in parts]).T, matrix)
        np.testing.assert_array_equal(layer.attention_norm, true.attention_norm)
        np.testing.assert_array_equal(layer.frequencies, true.frequencies)


def test_each_encoding_finds_its_layout(mixed_gguf: Path) -> None:
    weights = packed(mixed_gguf)
    assert_is_the_files(weights, mixed_gguf)
    first, second = weights.layers
    kinds = {
        FOUR_BIT: (first.q, first.k, first.v, second.output),
        EIGHT_BIT: (first.output, first.up),
        EIGHT_BIT_HALF: (first.gate,),
        DENSE: (first.down, second.q),
    }
    for kind, matrices in kinds.items():
        assert {matrix.blocks.dtype for matrix in matrices[:3]} == {kind}
    assert weights.unembedding is weights.embedding


def test_floats_and_odd_sizes_are_packed_too(tiny_gguf: Path) -> None:
    assert_is_the_files(packed(tiny_gguf), tiny_gguf)


def test_an_output_matrix_of_its_own(make_gguf: Callable[..., Path], tiny_gguf: Path) -> None:
    own = np.random.default_rng(4).standard_normal(open_gguf(tiny_gguf).tensors["token_embd.weight"].shape)
    path = make_gguf(tensors={"output.weight": own.astype(np.float32)})
    weights = packed(path)
    assert weights.nbytes == packed(tiny_gguf).nbytes + weights.unembedding.blocks.nbytes
    assert_is_the_files(weights, path)


def test_what_is_cached_is_mapped_and_the_same(mixed_gguf: Path, tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path)
    first = packed(mixed_gguf, cache)
    (kept,) = tmp_path.iterdir()
    written = kept.stat().st_mtime_ns
    again = packed(mixed_gguf, cache)
    for weights in (first, again):
        assert_is_the_files(weights, mixed_gguf)
        assert not weights.layers[0].q.blocks.flags.writeable
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]
    assert kept.stat().st_mtime_ns >= written


def test_a_changed_model_is_packed_anew(mixed_gguf: Path, tmp_path: Path) -> None:
    """Even where its header and its size stay the same."""
    path, cache = tmp_path / "model.gguf", ArrayCache(tmp_path / "cache")
    shutil.copy(mixed_gguf, path)
    packed(path, cache)
    info = open_gguf(path).tensors["blk.1.ffn_up.weight"]
    with path.open("r+b") as file:
        file.seek(info.offset + info.n_bytes // 2)
        file.write(b"\x11\x22")
    assert_is_the_files(packed(path, cache), path)


def test_what_does_not_fit_is_packed_anew(mixed_gguf: Path, tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path)
    packed(mixed_gguf, cache)
    (kept,) = tmp_path.iterdir()
    cache.save(kept.stem, {"token_embd.weight": np.zeros((1, 1), FOUR_BIT)})
    assert_is_the_files(packed(mixed_gguf, cache), mixed_gguf)
    os.truncate(kept, 1000)
    assert_is_the_files(packed(mixed_gguf, cache), mixed_gguf)


def test_floats_are_warned_about(mixed_gguf: Path, caplog: pytest.LogCaptureFixture) -> None:
    packed(mixed_gguf)
    (line,) = caplog.messages
    assert "F16 and BF16: 0.2 M weights" in line
    assert "Q4_0" in line


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"blk.1.ffn_up.weight": None}, "blk.1.ffn_up.weight is missing"),
        ({"blk.0.attn_k.weight": np.zeros((3, 72), np.float32)}, "the shape"),
        ({"blk.0.attn_k.scale": np.zeros(3, np.float32)}, "not part of a plain llama model"),
    ],
)
def test_what_the_truth_refuses_is_refused(
    make_gguf: Callable[..., Path], changes: dict[str, np.ndarray | None], said: str
) -> None:
    with pytest.raises(ModelFileError, match=said):
        packed(make_gguf(tensors=changes))

"""The compiled runner is the truth to rounding, and gives a position the same bits however it came to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from realm_reference.compute.numpy import numpy_arrays
from realm_reference.engine import Engine
from realm_reference.model.adapters import Adapter, Factors, Target, projection_shapes
from realm_reference.model.compute import Compute, prepare_jit
from realm_reference.model.config import LlamaConfig
from realm_reference.model.errors import AdapterFileError
from realm_reference.model.gguf import GGUFFile, open_gguf
from realm_reference.model.model import load_model
from realm_reference.model.packed_weights import PackedWeights, load_packed_weights
from realm_reference.model.runner import PAGE, Chunk, Runner
from realm_reference.model.transformer import Transformer
from realm_reference.model.weights import load_weights
from realm_reference.serve_adapters import load_all

_DATA = Path(__file__).parent / "data"
_FAMILY = ["llama3-factors", "qwen2", "qwen2-yarn", "qwen3", "gemma3"]
_ROUNDING = 1e-4  # of a logit, from float32 that adds in another order
_PAGES = 48

Floats = NDArray[np.float32]
Ids = NDArray[np.int32]
MakeRunner = Callable[..., Runner]


@pytest.fixture(scope="session")
def make_runner() -> MakeRunner:
    """A compiled runner of a file, with its pages; the code comes from the cache if it is there."""
    prepare_jit()
    from realm_reference.model.jit_runner import JitRunner

    def make(path: Path, precision: Any = "exact", threads: int = 1, pages: int = _PAGES) -> Runner:
        file = open_gguf(path)
        config = LlamaConfig.from_gguf(file)
        runner = JitRunner(config, load_packed_weights(file, config, None), precision, threads)
        runner.reserve(pages)
        return runner

    return make


def _variant(make_gguf: Callable[..., Path], name: str) -> Path:
    with np.load(_DATA / "family.npz") as family:
        prefix = f"{name}/tensors/"
        tensors = {key.removeprefix(prefix): family[key] for key in family.files if key.startswith(prefix)}
        return make_gguf(json.loads(str(family[f"{name}/metadata"])), tensors)


def _truth(file: GGUFFile) -> Transformer:
    config, arrays = LlamaConfig.from_gguf(file), numpy_arrays()
    return Transformer(config, load_weights(file, config, arrays), arrays)


def _ids(count: int, seed: int = 0) -> Ids:
    return np.random.default_rng(seed).integers(0, 260, count).astype(np.int32)


def _pages(count: int, seed: int = 0) -> Ids:
    """Room for `count` positions, in pages that lie anywhere."""
    order = np.random.default_rng(seed).permutation(_PAGES)
    return order[: -(-count // PAGE)].astype(np.int32)


def _all_logits(runner: Runner, ids: Ids, adapter: int = 0) -> Floats:
    return runner.step([Chunk(ids, 0, _pages(len(ids)), len(ids), adapter)]).copy()


def _agrees(runner: Runner, path: Path, count: int) -> None:
    truth = _truth(open_gguf(path))
    ids = _ids(count) % truth.vocab_size
    expected = truth.forward(ids, truth.new_cache(), rows=count)
    np.testing.assert_allclose(_all_logits(runner, ids), expected, rtol=0, atol=_ROUNDING)


def test_every_block_type_agrees_with_the_truth(make_runner: MakeRunner, mixed_gguf: Path) -> None:
    _agrees(make_runner(mixed_gguf), mixed_gguf, 70)


def test_odd_sizes_and_more_rows_than_a_step_agree(make_runner: MakeRunner, tiny_gguf: Path) -> None:
    _agrees(make_runner(tiny_gguf, threads=2), tiny_gguf, 300)


@pytest.mark.parametrize("name", _FAMILY)
def test_a_variant_agrees(make_runner: MakeRunner, make_gguf: Callable[..., Path], name: str) -> None:
    """Biases, norms of heads and behind, windows, two rotations, GELU, factors and YaRN."""
    path = _variant(make_gguf, name)
    _agrees(make_runner(path, threads=2), path, 64)


@pytest.mark.parametrize("prompt", ["chat", "code"])
def test_the_real_model_agrees_with_transformers(
    make_runner: MakeRunner, smollm2_path: Path, prompt: str
) -> None:
    with np.load(_DATA / "logits.npz") as goldens:
        ids, top = goldens[f"{prompt}/ids"].astype(np.int32), goldens[f"{prompt}/top"].astype(np.int64)
        expected = goldens[f"{prompt}/top_logits"]
    logits = _all_logits(make_runner(smollm2_path, threads=2), ids)
    ours = np.take_along_axis(logits, top, axis=-1)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2 * _ROUNDING)  # half of it is transformers' own


def test_int8_is_near_the_truth(make_runner: MakeRunner, mixed_gguf: Path) -> None:
    """Its rounding is of each block by itself: a large number elsewhere does not drown a small one."""
    truth, ids = _truth(open_gguf(mixed_gguf)), _ids(70)
    expected = truth.forward(ids, truth.new_cache(), rows=70)
    logits = _all_logits(make_runner(mixed_gguf, "int8"), ids)
    assert 0.001 < np.abs(logits - expected).std() / expected.std() < 0.02


@pytest.mark.parametrize("precision", ["exact", "int8"])
@pytest.mark.parametrize("seed", range(4))
def test_cuts_neighbours_threads_and_pages_change_no_bit(
    make_runner: MakeRunner, mixed_gguf: Path, precision: str, seed: int
) -> None:
    """Four sequences grow by chunks of any size, in steps of some of them, with any number of threads."""
    draw = np.random.default_rng(seed)
    sequences = [_ids(int(draw.integers(40, 170)), seed=seed * 10 + i) for i in range(4)]
    alone = [_all_logits(make_runner(mixed_gguf, precision), ids) for ids in sequences]
    runner = make_runner(mixed_gguf, precision, threads=int(draw.integers(1, 4)))
    pages = np.array_split(draw.permutation(_PAGES).astype(np.int32), 4)
    done = [0] * 4
    while any(n < len(ids) for n, ids in zip(done, sequences, strict=True)):
        chosen = [i for i in draw.permutation(4) if done[i] < len(sequences[i]) and draw.random() < 0.7]
        cuts = {i: min(int(draw.choice([1, 1, 2, 3, 9, 40])), len(sequences[i]) - done[i]) for i in chosen}
        chunks = [Chunk(sequences[i][done[i] : done[i] + n], done[i], pages[i], n) for i, n in cuts.items()]
        logits = runner.step(chunks) if chunks else np.empty((0, runner.vocab_size), np.float32)
        parts = np.split(logits, np.cumsum(list(cuts.values())))
        for (i, n), part in zip(cuts.items(), parts, strict=False):
            np.testing.assert_array_equal(part, alone[i][done[i] : done[i] + n])
            done[i] += n


def test_only_the_wanted_rows_come_and_in_their_order(make_runner: MakeRunner, tiny_gguf: Path) -> None:
    runner, ids = make_runner(tiny_gguf), _ids(200)
    whole = _all_logits(runner, ids)
    pages = _pages(208)
    chunks = [Chunk(ids[:150], 0, pages[:10], 3), Chunk(ids[:20], 0, pages[10:12], 0)]
    chunks.append(Chunk(ids[:9], 0, pages[12:], 9))
    logits = runner.step(chunks)
    np.testing.assert_array_equal(logits, np.concatenate([whole[147:150], whole[:9]]))


def test_layer_by_layer_has_the_bits_of_a_step(make_runner: MakeRunner, mixed_gguf: Path) -> None:
    runner, ids = make_runner(mixed_gguf, threads=2), _ids(140)
    whole = _all_logits(runner, ids)
    pages = _pages(140, seed=1)
    hidden = runner.embed(ids)
    for begin, end in ((0, 1), (1, 140)):
        for index in range(runner.config.n_layers):
            hidden[begin:end] = runner.layer(index, hidden[begin:end], begin, pages)
    np.testing.assert_array_equal(runner.logits(hidden), whole)


def test_embeddings_are_those_of_the_file(make_runner: MakeRunner, mixed_gguf: Path, tiny_gguf: Path) -> None:
    for path in (mixed_gguf, tiny_gguf):
        ids = _ids(200)
        np.testing.assert_array_equal(make_runner(path).embed(ids), _truth(open_gguf(path)).embed(ids))


def test_a_copied_page_goes_on_as_the_first(make_runner: MakeRunner, tiny_gguf: Path) -> None:
    runner, ids = make_runner(tiny_gguf), _ids(20)
    whole = _all_logits(runner, ids)
    first, second = int(_pages(20)[0]), int(_pages(20)[1])
    copied = np.array([first, next(page for page in range(_PAGES) if page not in (first, second))], np.int32)
    runner.copy_page(second, int(copied[1]))
    runner.step([Chunk(_ids(4, seed=9), 16, _pages(20), 0)])  # the first goes elsewhere
    np.testing.assert_array_equal(runner.step([Chunk(ids[19:], 19, copied, 1)]), whole[19:])


def _adapter(config: LlamaConfig, rank: int, seed: int, scale: float = 0.05) -> Adapter:
    draw = np.random.default_rng(seed)

    def factors(outputs: int, inputs: int) -> Factors:
        a = draw.standard_normal((rank, inputs)).astype(np.float32)
        return Factors(a, (draw.standard_normal((outputs, rank)) * scale).astype(np.float32))

    shapes: dict[Target, tuple[int, int]] = projection_shapes(config)
    wanted = [{target: factors(*shape) for target, shape in shapes.items()}] + [{}] * (config.n_layers - 1)
    return Adapter(f"adapter-{seed}", tuple(wanted), str(seed))


@pytest.mark.parametrize("precision", ["exact", "int8"])
def test_adapters_in_a_batch(make_runner: MakeRunner, mixed_gguf: Path, precision: str) -> None:
    runner, ids = make_runner(mixed_gguf, precision, threads=2), _ids(30)
    base = _all_logits(runner, ids)
    adapters = {1: _adapter(runner.config, 40, 1), 7: _adapter(runner.config, 3, 2)}
    adapters[2] = _adapter(runner.config, 8, 3, scale=0.0)
    for slot, adapter in adapters.items():
        runner.load_adapter(slot, adapter)
    alone = {slot: _all_logits(runner, ids, slot) for slot in (0, *adapters)}
    np.testing.assert_array_equal(alone[0], base)
    np.testing.assert_array_equal(alone[2], base)
    if precision == "exact":
        truth = _truth(open_gguf(mixed_gguf))
        for slot, adapter in adapters.items():
            adapted = truth.with_adapter(adapter)
            expected = adapted.forward(ids, adapted.new_cache(), rows=30)
            np.testing.assert_allclose(alone[slot], expected, rtol=0, atol=5 * _ROUNDING)
    pages = np.arange(8, dtype=np.int32).reshape(4, 2)
    slots = (7, 0, 1, 2)
    mixed = runner.step([Chunk(ids, 0, pages[i], 30, slot) for i, slot in enumerate(slots)])
    np.testing.assert_array_equal(mixed, np.concatenate([alone[slot] for slot in slots]))
    runner.unload_adapter(7)
    runner.load_adapter(7, adapters[1])
    np.testing.assert_array_equal(_all_logits(runner, ids, 7), alone[1])


def test_a_slot_or_room_that_is_not_there_is_an_error(make_runner: MakeRunner, tiny_gguf: Path) -> None:
    runner = make_runner(tiny_gguf)
    with pytest.raises(ValueError, match="slot is 1 to"):
        runner.load_adapter(0, _adapter(runner.config, 2, 1))
    with pytest.raises(ValueError, match="reserved once"):
        runner.reserve(3)


def test_one_adapter_too_many_is_one_line_and_changes_nothing(
    make_runner: MakeRunner, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("realm_reference.model.jit_runner.ADAPTER_SLOTS", 2)
    runner = make_runner(tiny_gguf, pages=0)
    adapters = [_adapter(runner.config, 2, seed) for seed in range(3)]
    with closing(Engine(runner)) as engine:
        with pytest.raises(AdapterFileError, match=r"'adapter-2'.* holds 2 at a time.*--compute numpy$"):
            load_all(engine, adapters)
        assert engine.adapters.loaded == ["adapter-0", "adapter-1"]


def test_a_model_that_is_loaded_to_be_compiled_says_so(tiny_gguf: Path) -> None:
    plain, model = load_model(tiny_gguf), load_model(tiny_gguf, Compute("jit", "exact", 1))
    assert model.fingerprint != plain.fingerprint
    assert isinstance(model.weights, PackedWeights)
    runner, ids = model.runner(), _ids(4)
    assert runner.precision == model.compute.precision == "exact"
    runner.reserve(1)
    got = runner.step([Chunk(ids, 0, np.zeros(1, np.int32), len(ids))])
    truth = model.transformer.forward(ids, model.transformer.new_cache(), len(ids))
    np.testing.assert_allclose(got, truth, rtol=0, atol=_ROUNDING)
    assert model.transformer is model.transformer, "read once"

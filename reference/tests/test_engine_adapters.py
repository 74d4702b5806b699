"""The registry of adapters: what a name stands for, who holds what, and that it may all change under load."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from realm_abi.errors import AbiError, ErrorCode
from realm_reference.bench.token_runner import TokenRunner
from realm_reference.engine import Engine
from realm_reference.engine.adapters import Adapters, LoadedAdapter
from realm_reference.model.adapters import Adapter, Factors, Target, projection_shapes
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.model import Model
from realm_reference.model.runner import PAGE
from realm_reference.model.transformer import Transformer

IDS = np.random.default_rng(3).integers(0, 266, 3 * PAGE + 5).astype(np.uint32)


class Recorder(TokenRunner):
    """Writes down what it is asked to hold; `broken` names cannot be held."""

    def __init__(self) -> None:
        super().__init__(4 * PAGE)
        self.held: dict[int, str] = {}
        self.threads: set[str] = set()

    def load_adapter(self, slot: int, adapter: Adapter) -> None:
        if adapter.name == "broken":
            raise MemoryError
        assert slot not in self.held
        self.held[slot] = adapter.name + adapter.digest
        self.threads.add(threading.current_thread().name)

    def unload_adapter(self, slot: int) -> None:
        del self.held[slot]
        self.threads.add(threading.current_thread().name)


def named(name: str, digest: str = "1") -> Adapter:
    return Adapter(name, (), digest)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def engine(recorder: Recorder) -> Iterator[Engine]:
    engine = Engine(recorder)
    yield engine
    engine.close()


@pytest.fixture
def adapters(engine: Engine) -> Adapters:
    return engine.adapters


def code_of(call: Any) -> ErrorCode:
    with pytest.raises(AbiError) as caught:
        call()
    return caught.value.code


def settled(engine: Engine) -> None:
    """All that was asked for between steps is done."""
    engine.adapters._between_steps(lambda: None).result()


def test_names_stand_for_what_was_loaded_last(recorder: Recorder, engine: Engine, adapters: Adapters) -> None:
    for adapter in (named("fr"), named("de"), named("fr"), named("fr", "2")):
        adapters.load(adapter)
    settled(engine)
    assert recorder.held == {2: "de1", 3: "fr2"}
    assert recorder.threads == {"engine-step-loop"}
    assert (sorted(adapters.loaded), adapters.count) == (["de", "fr"], 2)
    adapters.unload("de")
    settled(engine)
    assert recorder.held == {3: "fr2"}
    assert code_of(lambda: adapters.find("de", "")) is ErrorCode.not_found
    with pytest.raises(KeyError):
        adapters.unload("de")


def test_who_holds_an_adapter_keeps_it(recorder: Recorder, engine: Engine, adapters: Adapters) -> None:
    adapters.load(named("fr"))
    first = adapters.hold("fr", "")
    second = adapters.share(first)
    adapters.load(named("fr", "2"))
    assert adapters.find("fr", "").slot != first.slot
    adapters.release(first)
    settled(engine)
    assert recorder.held[first.slot] == "fr1"
    adapters.release(second)
    adapters.load(named("it"))
    assert recorder.held[first.slot] == "it1"


def test_a_load_that_fails_changes_nothing(recorder: Recorder, adapters: Adapters) -> None:
    adapters.load(named("fr"))
    with pytest.raises(MemoryError):
        adapters.load(named("broken"))
    assert (adapters.loaded, adapters.count) == (["fr"], 1)
    adapters.load(named("de"))
    assert recorder.held == {1: "fr1", 2: "de1"}


def test_adapters_are_their_tenants(adapters: Adapters) -> None:
    for name in ("fr", "de"):
        adapters.load(named(name))
    adapters.restrict({"fr": {"alice"}})
    assert (adapters.names("alice"), adapters.names("bobby")) == (["fr", "de"], ["de"])
    assert adapters.hold("fr", "alice").adapter.name == "fr"
    assert code_of(lambda: adapters.hold("fr", "bobby")) is ErrorCode.permission_denied
    assert code_of(lambda: adapters.hold("it", "bobby")) is ErrorCode.not_found


def test_after_the_end_nothing_is_loaded_and_nothing_breaks(engine: Engine, adapters: Adapters) -> None:
    adapters.load(named("fr"))
    held = adapters.hold("fr", "")
    engine.close()
    assert code_of(lambda: adapters.load(named("de"))) is ErrorCode.internal
    adapters.unload("fr")
    adapters.release(held)


# ------------------------------------------------------------------------------------ on a real model


def drawn(model: Model, seed: int, size: float = 1.0) -> Adapter:
    random, shapes = np.random.default_rng(seed), projection_shapes(model.config)

    def factors(target: Target) -> Factors:
        outputs, inputs = shapes[target]
        a = random.standard_normal((4, inputs)).astype(np.float32) / np.float32(np.sqrt(inputs))
        return Factors(a, random.standard_normal((outputs, 4)).astype(np.float32) * np.float32(size))

    layers = tuple({target: factors(target) for target in shapes} for _ in range(model.config.n_layers))
    return Adapter(f"drawn-{seed}", layers, str(seed))


def run(engine: Engine, adapter: LoadedAdapter | None) -> NDArray[np.float32]:
    """The logits of a prompt, and of tokens one by one after it."""
    session = engine.open("one", adapter=adapter)
    rows = [session.forward(IDS[:40], 4).copy()]
    rows += [session.forward(IDS[at : at + 1]).copy() for at in range(40, len(IDS))]
    session.free()
    return np.concatenate(rows)


def test_adapters_come_and_go_under_load_and_nobody_notices(tiny_model: Model) -> None:
    engine = Engine(ArrayRunner(tiny_model.transformer), batch=4)
    zero = drawn(tiny_model, 9, size=0.0)
    for adapter in (drawn(tiny_model, 1), drawn(tiny_model, 2), zero):
        engine.adapters.load(adapter)
    names = ["", "drawn-1", "drawn-2", zero.name]
    held = {name: engine.adapters.hold(name, "") if name else None for name in names}
    alone = {name: run(engine, adapter) for name, adapter in held.items()}
    np.testing.assert_array_equal(alone[zero.name], alone[""])
    assert np.abs(alone["drawn-1"] - alone["drawn-2"]).max() > 0.1
    engine.adapters.unload("drawn-1")  # who holds it goes on
    wrong: list[str] = []

    def work(name: str) -> None:
        wrong.extend(name for _ in range(4) if not np.array_equal(run(engine, held[name]), alone[name]))

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    seed = 20
    while any(thread.is_alive() for thread in threads) and seed < 60:
        engine.adapters.load(drawn(tiny_model, seed))
        engine.adapters.unload(f"drawn-{seed}")
        seed += 1
    for thread in threads:
        thread.join()
    assert (wrong, engine.adapters.count) == ([], 3)
    engine.close()


def test_a_guest_of_layers_changes_its_adapter_on_the_way(tiny_model: Model) -> None:
    engine = Engine(ArrayRunner(tiny_model.transformer))
    adapter = drawn(tiny_model, 1)
    engine.adapters.load(adapter)
    held = engine.adapters.hold(adapter.name, "")
    session = engine.open_layers("one", adapter=held)
    base, adapted = tiny_model.transformer, tiny_model.transformer.with_adapter(adapter)
    cache = base.new_cache()

    def both(model: Transformer, ids: NDArray[np.uint32], position: int) -> None:
        x, y = session.embed(ids), model.embed(ids)
        for index in range(tiny_model.config.n_layers):
            x, y = session.layer(index, x, position), model.layer(index, y, cache, position)
            np.testing.assert_array_equal(x, y)

    both(adapted, IDS[:7], 0)
    session.use_adapter(None)
    both(base, IDS[7:12], 7)
    session.use_adapter(held)
    both(adapted, IDS[12:13], 12)
    session.free()
    with pytest.raises(AbiError):
        session.use_adapter(None)
    engine.close()

"""Whatever a guest passes to whichever import: both hosts answer what the contract documents for it, no more.

On an error no byte of guest memory has changed; on success none outside the windows that may be written.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from realm_abi.contract import Function, load_contract
from realm_abi.errors import ErrorCode
from realm_abi.guard import Guard, Window, bind
from realm_mocks.host import Hashed, SessionTable, default_vocabulary
from realm_mocks.host.functions_v1 import FunctionsV1
from realm_mocks.host.functions_v2 import FunctionsV2
from realm_mocks.host.model import ScriptedModel
from realm_reference.engine import Engine
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.model import Model, load_model
from realm_reference.orchestration.hostfunctions_v1 import HostFunctionsV1
from realm_reference.orchestration.hostfunctions_v2 import HostFunctionsV2
from realm_reference.orchestration.limits import GuestLimits
from realm_reference.orchestration.output import Sink
from realm_reference.orchestration.request import GenerationRequest, Prompt

CONTRACT = load_contract()
MEMORY_BYTES = 1 << 16
NAME_AT = 512
CALLS = 3000


class Memory:
    """Guest memory: small token ids, then a name, then zeros, the end of it no UTF-8."""

    def __init__(self, name: bytes) -> None:
        self.bytes_ = np.zeros(MEMORY_BYTES, np.uint8)
        self.bytes_[:NAME_AT].view("<u4")[:] = np.arange(NAME_AT // 4)
        self.bytes_[NAME_AT : NAME_AT + len(name)] = np.frombuffer(name, np.uint8)
        self.bytes_[-64:] = 0xFF

    def data(self) -> NDArray[np.uint8]:
        return self.bytes_


class Nobody(Sink):
    """Takes tokens for nobody."""

    cancelled = False


def mock_host(version: int) -> tuple[Any, int, bytes]:
    """Host functions, the model's handle, its name."""
    model = ScriptedModel(Hashed(1), default_vocabulary(), 2, 4, 64)
    functions = FunctionsV1(model) if version == 1 else FunctionsV2(model, SessionTable(64), 1)
    return functions, model.handle, model.name.encode()


def reference_host(version: int, model: Model, engine: Engine) -> tuple[Any, int, bytes]:
    request = GenerationRequest(Prompt("", 0, add_bos=False), max_tokens=4)
    functions = HostFunctionsV1 if version == 1 else HostFunctionsV2
    host = functions(model, engine, request, Nobody(), GuestLimits(host_calls_base=1 << 30))
    return host, 1, model.name.encode()


FIRST: dict[str, tuple[int, ...]] = {
    "flags": (0, 1, 2, 3),
    "u32": (0, 1, 2, 3),
    "text": (NAME_AT, NAME_AT, 0, 4096, MEMORY_BYTES - 64),
}
POINTERS = (0, 64, 1024, 4096, MEMORY_BYTES - 64, MEMORY_BYTES)
LENGTHS = (0, 1, 4, 24, 72, 2048, 9000)
ODD = (0, 1, 2, 3, 7, 1 << 16, 1 << 31, 2**32 - 1)


def raw_values(function: Function, handles: list[int], name: bytes, chance: Random) -> list[float]:
    """Values for all raw parameters, each often such that the call goes through."""
    drawn: dict[str, float] = {}
    for param in function.params:
        first: Sequence[float] = FIRST.get(param.kind, POINTERS)
        if param.kind == "handle":
            first = handles
        elif param.kind == "f32":
            first = (0.0, -1.5, 3.0, math.nan, math.inf)
        drawn[param.raw[0]] = chance.choice(first)
        if len(param.raw) == 2:
            drawn[param.raw[1]] = chance.choice((len(name), *LENGTHS) if param.kind == "text" else LENGTHS)
    if chance.random() < 0.4:
        spoiled = chance.choice([*drawn, ""])
        if spoiled in drawn and not isinstance(drawn[spoiled], float):
            drawn[spoiled] = chance.choice(ODD)
    return [drawn[raw] for raw in function.signature]


def check(functions: Any, function: Function, raw: Sequence[float], name: bytes) -> int:
    """One call, held to what the contract says of its answer and of memory."""
    memory = Memory(name)
    before = memory.data().copy()
    answer = bind(function, getattr(functions, function.name), functions)(memory, *raw)
    changed = np.flatnonzero(memory.data() != before)
    if answer < 0:
        assert ErrorCode(answer).name in function.errors
        assert answer != ErrorCode.internal, "nothing of this is the host's fault"
    elif len(changed):
        for value in Guard(function, functions).check(MEMORY_BYTES, tuple(raw)).values():
            if isinstance(value, Window) and value.param.kind == "out":
                changed = changed[(changed < value.start) | (changed >= value.stop)]
    assert len(changed) == 0, f"{function.name}{tuple(raw)} = {answer} changed {changed[:8]}"
    return answer


def play(host: tuple[Any, int, bytes], version: int) -> None:
    """Many calls, the handles that they give used in later ones; errors of many kinds have to come."""
    functions, model, name = host
    chance = Random(version)
    offered = [it for it in CONTRACT.imports_of(version) if hasattr(functions, it.name)]
    sessions: list[int] = []
    seen: Counter[str] = Counter()
    for _ in range(CALLS):
        function = chance.choice(offered)
        wanted = {param.of for param in function.params if param.kind == "handle"}
        handles = [model] if "model" in wanted else [*sessions[-3:], 1]
        answer = check(functions, function, raw_values(function, handles, name, chance), name)
        seen["ok" if answer >= 0 else ErrorCode(answer).name] += 1
        if function.name in ("realm_session_open", "realm_session_fork") and answer > 0:
            sessions.append(answer)
    assert {
        "ok",
        "invalid_handle",
        "out_of_bounds",
        "misaligned",
        "buffer_too_small",
        "invalid_utf8",
    } <= seen.keys()
    assert seen["ok"] > CALLS // 12


@pytest.mark.parametrize("version", [1, 2])
def test_mock_host(version: int) -> None:
    play(mock_host(version), version)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")  # hidden states that no layer gave
@pytest.mark.parametrize("version", [1, 2])
def test_reference(make_gguf: Callable[..., Path], version: int) -> None:
    model = load_model(make_gguf({"llama.context_length": 64}))
    engine = Engine(ArrayRunner(model.transformer))
    try:
        play(reference_host(version, model, engine), version)
    finally:
        engine.close()

"""The models that the reference's tests run: the real one, and one that is written in milliseconds."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import gguf
import numpy as np
import pytest
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import Runtime, fibers_work
from realm_reference.compute.cuda import cupy_arrays, cupy_fault
from realm_reference.compute.numpy import Arrays, numpy_arrays
from realm_reference.engine import Engine
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.fetch import fetch
from realm_reference.model.model import Model, load_model
from realm_reference.model.store import known_model
from realm_reference.model.transformer import Transformer
from realm_reference.orchestration import Orchestrator
from realm_reference.server.access.auth import Authenticator
from realm_reference.server.access.tenancy import Tenancy
from realm_reference.server.lifecycle import RunningServer
from realm_reference.server.service import Service
from realm_reference.server.settings import ServerSettings
from realm_reference.server.telemetry.metrics import Metrics
from realm_reference.server.wire.sockets import bind
from realm_reference.tenants.keys import ApiKey

# Printable ASCII, then the 256 bytes as GPT-2 writes them, then a few merges: enough for any text to have
# tokens.
_CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "Ġ Ġ", "o r"]
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_HIDDEN, _HEADS, _KV_HEADS, _FFN, _LAYERS, _CONTEXT = 72, 9, 3, 96, 2, 640


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The file of smollm2-135m, downloaded once into the cache."""
    return fetch("smollm2-135m")


@pytest.fixture(scope="session")
def smollm2(smollm2_path: Path) -> Model:
    """The real model in float32. Sequences live in caches, so tests can share it."""
    return load_model(smollm2_path)


@pytest.fixture(scope="session")
def gemma3_path() -> Path:
    """The file of gemma3-270m, where somebody has fetched it: no test accepts its terms for others."""
    known = known_model("gemma3-270m")
    if not known.is_cached:
        pytest.skip("needs gemma3-270m in the cache; run: realm models fetch gemma3-270m")
    return known.path


@pytest.fixture(scope="session")
def gpu_arrays() -> Arrays:
    """CuPy on a CUDA device; `ci/gpu` runs what asks for it, and lets nothing of that be skipped."""
    fault = cupy_fault()
    if fault is not None:
        pytest.skip(f"needs a CUDA GPU: {fault}")
    return cupy_arrays()


@pytest.fixture(scope="session", params=["numpy", "gpu"])
def arrays(request: pytest.FixtureRequest) -> Arrays:
    """Each backend in float32."""
    if request.param == "numpy":
        return numpy_arrays()
    on_gpu: Arrays = request.getfixturevalue("gpu_arrays")
    return on_gpu


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 2 layers with 9 query and 3 key/value heads, byte-level BPE and a chat template."""
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_tiny_gguf(path)
    return path


@pytest.fixture(scope="session")
def make_gguf(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes variants of the tiny model: `metadata` replaces keys (None leaves one out), `tensors`
    likewise.
    """
    folder = tmp_path_factory.mktemp("variants")

    def make(metadata: dict[str, Any] | None = None, tensors: dict[str, Any] | None = None) -> Path:
        path = folder / f"variant-{len(list(folder.iterdir()))}.gguf"
        write_tiny_gguf(path, metadata, tensors)
        return path

    return make


@pytest.fixture(scope="session")
def mixed_gguf(make_gguf: Callable[..., Path]) -> Path:
    """The tiny model, wider, with a matrix in each encoding of quantised or half-precision numbers."""
    hidden, ffn, kinds = 256, 512, iter(["Q4_0", "Q4_1", "Q4_K", "Q5_0", "Q6_K", "Q8_0", "F16", "BF16"] * 2)
    shapes = {"attn_q": (hidden, hidden), "attn_k": (64, hidden), "attn_v": (64, hidden)}
    shapes |= {"attn_output": (hidden, hidden), "ffn_gate": (ffn, hidden), "ffn_up": (ffn, hidden)}
    shapes |= {"ffn_down": (hidden, ffn)}
    tensors: dict[str, Any] = {
        f"blk.{i}.{name}.weight": encoded_rows(next(kinds), *shape, seed=i)
        for i in range(_LAYERS)
        for name, shape in shapes.items()
    }
    tensors["token_embd.weight"] = encoded_rows("Q8_0", len(_vocabulary()), hidden, seed=5)
    tensors |= {
        f"blk.{i}.{n}_norm.weight": np.ones(hidden, np.float32) for i in (0, 1) for n in ("attn", "ffn")
    }
    tensors["output_norm.weight"] = np.ones(hidden, np.float32)
    sizes = {"embedding_length": hidden, "feed_forward_length": ffn, "rope.dimension_count": 32}
    heads = {"attention.head_count": 8, "attention.head_count_kv": 2}
    return make_gguf({f"llama.{key}": value for key, value in (sizes | heads).items()}, tensors)


def encoded_rows(
    kind: str, rows: int, columns: int, *, seed: int
) -> tuple[np.ndarray, gguf.GGMLQuantizationType]:
    """Numbers of order 1 / sqrt(columns) as bytes of an encoding: random codes, and scales of that order."""
    encoding = gguf.GGMLQuantizationType[kind]
    draw = np.random.default_rng(seed)
    width = columns**-0.5
    if kind in ("F16", "BF16"):
        return gguf.quants.quantize(
            (draw.standard_normal((rows, columns)) * width).astype(np.float32), encoding
        ), encoding
    values, size = gguf.GGML_QUANT_SIZES[encoding]
    raw = draw.integers(0, 256, (rows, columns // values, size), np.uint8)
    step = {"Q4_0": 5, "Q4_1": 5, "Q4_K": 150, "Q5_0": 9, "Q6_K": 1400, "Q8_0": 74}[kind]
    begin = 208 if kind == "Q6_K" else 0
    scales = draw.uniform(0.5, 1.5, (rows, columns // values, 1)) * width / step
    raw[..., begin : begin + 2] = scales.astype(np.float16).view(np.uint8)
    if kind in ("Q4_1", "Q4_K"):  # the minimum, which makes the mean about zero
        offset = -7.5 * scales if kind == "Q4_1" else 7.5 * scales
        raw[..., 2:4] = offset.astype(np.float16).view(np.uint8)
    return raw.reshape(rows, -1), encoding


def write_tiny_gguf(
    path: Path, metadata: dict[str, Any] | None = None, tensors: dict[str, Any] | None = None
) -> None:
    """Write the tiny model to `path` with the given changes."""
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in (_metadata() | (metadata or {})).items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_array(key, value)
    for name, values in (_tensors() | (tensors or {})).items():
        if isinstance(values, tuple):  # encoded rows and their encoding
            writer.add_tensor(name, values[0], raw_dtype=values[1])
        elif values is not None:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _vocabulary() -> list[str]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    return [*_CONTROL, *alphabet, *(merge.replace(" ", "") for merge in _MERGES)]


def _metadata() -> dict[str, Any]:
    tokens = _vocabulary()
    return {
        "general.name": "Tiny",
        "general.license": "Apache-2.0",
        "llama.block_count": _LAYERS,
        "llama.context_length": _CONTEXT,
        "llama.embedding_length": _HIDDEN,
        "llama.feed_forward_length": _FFN,
        "llama.attention.head_count": _HEADS,
        "llama.attention.head_count_kv": _KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
        "llama.rope.dimension_count": _HIDDEN // _HEADS,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * len(_CONTROL) + [1] * (len(tokens) - len(_CONTROL)),
        "tokenizer.ggml.merges": list(_MERGES),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": _TEMPLATE,
    }


def _tensors() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(135)
    d = _HIDDEN // _HEADS

    def matrix(outputs: int, inputs: int) -> np.ndarray:
        scaled: np.ndarray = draw.standard_normal((outputs, inputs)) / np.sqrt(inputs)
        return scaled.astype(np.float32)

    def norm() -> np.ndarray:
        return draw.uniform(0.5, 1.5, _HIDDEN).astype(np.float32)

    tensors = {"token_embd.weight": matrix(len(_vocabulary()), _HIDDEN) * 4, "output_norm.weight": norm()}
    for i in range(_LAYERS):
        tensors |= {
            f"blk.{i}.attn_norm.weight": norm(),
            f"blk.{i}.attn_q.weight": matrix(_HIDDEN, _HIDDEN),
            f"blk.{i}.attn_k.weight": matrix(_KV_HEADS * d, _HIDDEN),
            f"blk.{i}.attn_v.weight": matrix(_KV_HEADS * d, _HIDDEN),
            f"blk.{i}.attn_output.weight": matrix(_HIDDEN, _HIDDEN),
            f"blk.{i}.ffn_norm.weight": norm(),
            f"blk.{i}.ffn_gate.weight": matrix(_FFN, _HIDDEN),
            f"blk.{i}.ffn_up.weight": matrix(_FFN, _HIDDEN),
            f"blk.{i}.ffn_down.weight": matrix(_HIDDEN, _FFN),
        }
    return tensors


# ------------------------------------------------- engine, orchestration, server (the tests of those rooms)


@pytest.fixture(scope="session")
def tiny_model(tiny_gguf: Path) -> Model:
    """The tiny model, loaded."""
    return load_model(tiny_gguf)


class Server:
    """A server on a real loopback port, in the test's own event loop, with its inside at hand."""

    def __init__(self, service: Service, running: RunningServer) -> None:
        self.service = service
        self.url = running.url
        self.running = running
        self.host, port = running.url.removeprefix("http://").split(":")
        self.port = int(port)
        self.model = service.model.name

    def body(self, text: str = "hello world", **changes: Any) -> dict[str, Any]:
        """A chat request that is greedy and short."""
        messages = [{"role": "user", "content": text}]
        return {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": 8, **changes}

    async def ask(self, **changes: Any) -> dict[str, Any]:
        """A whole answer; the status has to be 200."""
        async with (
            aiohttp.ClientSession() as client,
            client.post(self._chat, json=self.body(**changes)) as response,
        ):
            assert response.status == 200, await response.text()
            answer: dict[str, Any] = await response.json()
            return answer

    async def stream(self, **changes: Any) -> tuple[int, str]:
        """Status and text of a streamed answer."""
        body = self.body(**{"stream": True, **changes})
        async with aiohttp.ClientSession() as client, client.post(self._chat, json=body) as response:
            return response.status, await response.text()

    @property
    def _chat(self) -> str:
        return f"{self.url}/v1/chat/completions"


StartServer = Callable[..., Awaitable[Server]]


@pytest.fixture
async def start_server(tiny_model: Model) -> AsyncIterator[StartServer]:
    """Starts servers of the tiny model, or of `model`: `guest` is v1, v2 or the bytes of a module; `keys` or
    `tenancy` say who may come in; the rest are settings.
    """
    async with AsyncExitStack() as stack:

        async def start(
            guest: str | bytes = "v2",
            *,
            model: Model | None = None,
            keys: tuple[ApiKey, ...] | None = None,
            tenancy: Tenancy | None = None,
            **settings: Any,
        ) -> Server:
            set_up = ServerSettings(**{"http_port": 0, "drain_seconds": 5.0, **settings})
            served, metrics = model or tiny_model, Metrics()
            runtime = Runtime(fibers=fibers_work())
            module = runtime.compile(guest if isinstance(guest, bytes) else guest_bytes(guest))
            engine = Engine(ArrayRunner(served.transformer), on_step=metrics.observe_step)
            orchestrator = Orchestrator(
                served,
                engine,
                runtime,
                module,
                limits=set_up.limits,
                max_running=set_up.max_running,
                max_waiting=set_up.max_waiting,
            )
            service = Service(set_up, served, engine, orchestrator, Authenticator(keys), metrics)
            if tenancy is not None:
                service.auth, service.admission = tenancy.auth, tenancy.admission
                tenancy.load_guests(orchestrator)
                tenancy.use_adapters(engine.adapters)
            running = RunningServer(service, bind(set_up.host, set_up.http_port))
            await running.start()
            stack.push_async_callback(running.stop)
            return Server(service, running)

        yield start


@pytest.fixture
async def server(start_server: StartServer) -> Server:
    """A server without keys."""
    return await start_server()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client of it: paths are enough."""
    async with aiohttp.ClientSession(server.url) as client:
        yield client


@pytest.fixture
def slow_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step takes at least 20 ms, so that a test can act between two tokens."""
    original = Transformer.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.02)
        return original(*args, **kwargs)

    monkeypatch.setattr(Transformer, "forward", forward)

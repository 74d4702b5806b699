"""The same requests through the guest of v1, the guest of v2 and a plain Python loop: all say the same.

The guests compute in float32 with exponentials of their own, and feed the prompt in other chunks than the
plain loop, so logits differ in their last bits. That decides a token only where the draw, or the border of a
filter, lies within `BORDER` of two of them: from there on a request is not compared. Everything before it has
to agree exactly, and nearly all requests have to be compared to their end.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from realm_abi.errors import FinishReason
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import GuestModule, Runtime
from realm_reference.engine import Engine
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.model import Model
from realm_reference.orchestration.events import Failed, Token
from realm_reference.orchestration.guestrun import inexpressible_in_v1, v1_options, v2_options
from realm_reference.orchestration.hostcalls import MODEL_HANDLE
from realm_reference.orchestration.hostfunctions_v1 import HostFunctionsV1
from realm_reference.orchestration.hostfunctions_v2 import HostFunctionsV2
from realm_reference.orchestration.limits import GuestLimits
from realm_reference.orchestration.output import Sink
from realm_reference.orchestration.request import GenerationRequest, prepare_prompt

REQUESTS = 160
BORDER = 5e-5
LOGPROB_ERROR = 2e-5
"""Of a log-probability: two float32 forward passes cut in different places differ by less."""

Row = NDArray[np.float64]


@dataclass
class Said(Sink):
    """What one of the three made of a request. `sure` is how many tokens rounding cannot have decided."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    reason: FinishReason | None = None
    sure: int = 1 << 30

    def put(self, token: Token) -> None:
        self.text += token.text
        if token.token_id is not None and token.logprob is not None:
            self.tokens.append(token.token_id)
            self.logprobs.append(token.logprob)

    cancelled = False

    def cancel(self, cause: Failed | None = None) -> None:
        raise AssertionError(f"the guest was stopped: {cause}")


# ------------------------------------------------------------------------------- the plain Python loop


def uniform(seed: int, position: int) -> float:
    """The draw of a position in [0, 1): Philox4x32-10, key the seed, counter the position."""
    counter, key = [position, 0, 0, 0], [seed % 2**32, seed >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [(b >> 32) ^ counter[1] ^ key[0], b % 2**32, (a >> 32) ^ counter[3] ^ key[1], a % 2**32]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return ((counter[0] >> 5) * 2**26 + (counter[1] >> 6)) / 2**53


def take(logits: Row, request: GenerationRequest, known: set[int], position: int) -> tuple[int, float]:
    """The token that a request samples from logits [V], and how far the nearest border of a decision is."""
    scaled = logits.copy()
    ids = sorted(known)
    scaled[ids] = np.where(
        scaled[ids] > 0,
        scaled[ids] / request.repetition_penalty,
        scaled[ids] * request.repetition_penalty,
    )
    if request.temperature < 1e-7:
        best, second = np.sort(scaled)[[-1, -2]]
        return int(scaled.argmax()), float(best - second)
    scaled /= request.temperature
    order = np.argsort(-scaled, kind="stable")
    weights = np.exp(scaled - scaled.max())
    margin = 1.0
    if 0 < request.top_k < len(order):
        margin = float(scaled[order[request.top_k - 1]] - scaled[order[request.top_k]])
        order = order[: request.top_k]
    if request.top_p < 1:
        share = np.cumsum(weights[order]) / weights[order].sum()
        margin = min(margin, float(np.abs(share - request.top_p).min()))
        order = order[: int(np.searchsorted(share, request.top_p)) + 1]
    if request.min_p > 0:
        margin = min(margin, float(np.abs(weights[order] - request.min_p).min()))
        order = order[weights[order] >= request.min_p]
    kept = np.sort(order)
    reached = np.cumsum(weights[kept]) / weights[kept].sum()
    drawn = uniform(request.seed, position)
    index = min(int(np.searchsorted(reached, drawn, side="right")), len(kept) - 1)
    return int(kept[index]), min(margin, float(np.abs(reached - drawn).min()))


def plain(model: Model, request: GenerationRequest) -> Said:
    """The generation loop without a guest: encode, feed, sample, decode, look for stop strings."""
    tokenizer, said, text = model.tokenizer, Said(), ""
    ids = tokenizer.encode(request.prompt.text, add_bos=request.prompt.add_bos)
    cache, known = model.transformer.new_cache(), set(ids)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    fed = ids
    while True:
        logits = np.asarray(model.transformer.forward(fed, cache, 1)[-1], np.float64)
        token, margin = take(logits, request, known, len(ids) + len(said.tokens))
        if margin < BORDER:
            said.sure = min(said.sure, len(said.tokens))
        said.tokens.append(token)
        said.logprobs.append(float(logits[token] - np.logaddexp.reduce(logits)))
        if token in tokenizer.eos_ids:
            said.text, said.reason = text + decoder.decode(b"", final=True), FinishReason.stop_token
            return said
        last = len(said.tokens) == request.max_tokens
        text += decoder.decode(tokenizer.decode([token]))
        if (cut := first_stop(text, request.stop)) is None and last:
            text += decoder.decode(b"", final=True)
        if cut is not None or last:
            said.text = text[:cut]
            said.reason = FinishReason.max_tokens if cut is None else FinishReason.stop_string
            return said
        known.add(token)
        fed = [token]


def first_stop(text: str, stops: tuple[str, ...]) -> int | None:
    """Where the stop string begins that is complete first, of equals the longest."""
    found = [(text.find(stop) + len(stop), -len(stop)) for stop in stops if stop in text]
    return sum(min(found)) if found else None


# ------------------------------------------------------------------------------------------ the guests


class RecordedV1(HostFunctionsV1):
    """A v1 guest tells no token ids; it asks for the bytes of each that it samples."""

    decoded: list[int]

    def realm_decode_tokens(self, model_id: int, ids: Any, out: Any, /) -> int:
        self.decoded += ids.tolist()
        return super().realm_decode_tokens(model_id, ids, out)


@dataclass(frozen=True)
class Bench:
    """A model with what runs guests over it."""

    model: Model
    engine: Engine
    runtime: Runtime
    modules: dict[int, GuestModule]

    def v2(self, request: GenerationRequest) -> Said:
        said = Said()
        host = HostFunctionsV2(self.model, self.engine, request, said, GuestLimits())
        with closing(host), closing(self.runtime.instantiate(self.modules[2], host)) as instance:
            answer = instance.generate_v2(request.prompt.text, **v2_options(request, self.model))
        said.reason = FinishReason(answer)
        return said

    def v1(self, request: GenerationRequest) -> Said:
        said = Said()
        host = RecordedV1(self.model, self.engine, request, said, GuestLimits())
        host.decoded = said.tokens
        with closing(host), closing(self.runtime.instantiate(self.modules[1], host)) as instance:
            text = instance.generate_v1(request.prompt.text, MODEL_HANDLE, v1_options(request, self.model))
        assert text.decode() == said.text.partition("\0")[0]
        return said

    def request(self, text: str, abi_version: int = 2, **options: Any) -> GenerationRequest:
        prompt = prepare_prompt(self.model.tokenizer, text, abi_version=abi_version)
        return GenerationRequest(prompt, want_logprobs=True, **options)


def opened(model: Model) -> Iterator[Bench]:
    runtime = Runtime()
    engine = Engine(ArrayRunner(model.transformer))
    yield Bench(
        model, engine, runtime, {1: runtime.compile(guest_bytes("v1")), 2: runtime.compile(guest_bytes("v2"))}
    )
    engine.close()


@pytest.fixture(scope="module")
def tiny(tiny_model: Model) -> Iterator[Bench]:
    yield from opened(tiny_model)


@pytest.fixture(scope="module")
def real(smollm2: Model) -> Iterator[Bench]:
    yield from opened(smollm2)


def compare(bench: Bench, request: GenerationRequest, due: Said | None = None) -> bool:
    """Holds v1 and v2 to the plain loop, or to what it said; whether all of the request could be compared."""
    due = due or plain(bench.model, request)
    said = bench.v2(request)
    sure = min(due.sure, len(due.tokens))
    assert said.tokens[:sure] == due.tokens[:sure]
    assert np.abs(np.subtract(said.logprobs[:sure], due.logprobs[:sure])).max(initial=0) < LOGPROB_ERROR
    whole = sure == len(due.tokens)
    if whole:
        assert (said.tokens, said.text, said.reason) == (due.tokens, due.text, due.reason)
    in_v1 = replace(request, want_logprobs=False)
    if not inexpressible_in_v1(in_v1) and request.prompt.add_bos:
        spoken = bench.v1(in_v1)
        # It does not decode the stop token.
        generated = [token for token in due.tokens if token not in bench.model.tokenizer.eos_ids]
        assert spoken.tokens[:sure] == generated[:sure]
        if whole:
            assert (spoken.tokens, spoken.text) == (generated, due.text)
    return whole


# ---------------------------------------------------------------------------------------- the requests

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60) | st.text(
    "hello world <|im_start|>", min_size=1, max_size=200
)
either = st.booleans()
options = st.fixed_dictionaries(
    {
        "max_tokens": st.integers(1, 24),
        "temperature": st.just(0.0) | st.floats(0.25, 2.5, width=32),
        "top_k": st.just(0) | st.integers(1, 60),
        "top_p": st.just(1.0) | st.floats(0.0625, 0.984375, width=32),
        "repetition_penalty": st.just(1.0) | st.floats(0.75, 1.75, width=32),
    }
)
only_v2 = st.fixed_dictionaries(
    {
        "min_p": st.just(0.0) | st.floats(0.015625, 0.5, width=32),
        "seed": st.integers(0, 2**64 - 1),
    }
)
only_v1 = st.fixed_dictionaries({"seed": st.integers(0, 2**32 - 1)})


def test_tokens_text_and_logprobs_are_those_of_a_plain_loop(tiny: Bench) -> None:
    """Half of the requests are such that v1 can carry them; the others have all that v2 has, with stop
    strings that the text contains, on whatever tokens they begin and end.
    """
    compared: list[bool] = []

    @settings(max_examples=REQUESTS, deadline=None)
    @given(text=texts, asked=options, more=st.one_of(only_v1, only_v2), data=st.data())
    def run(text: str, asked: dict[str, Any], more: dict[str, Any], data: st.DataObject) -> None:
        request = tiny.request(text, 1 if "min_p" not in more else 2, **asked, **more)
        due = plain(tiny.model, request)
        if "min_p" in more:
            start = data.draw(st.integers(0, max(0, len(due.text) - 1)))
            found = due.text[start : start + data.draw(st.integers(1, 4))]
            stops = data.draw(st.lists(st.sampled_from([found or "x", "zzzz", " "]), max_size=3, unique=True))
            request = replace(request, stop=tuple(stops))
        compared.append(compare(tiny, request, None if request.stop else due))

    run()
    assert len(compared) >= REQUESTS
    assert sum(compared) > 0.9 * len(compared)


def test_every_way_to_end_is_compared(tiny: Bench) -> None:
    """Long, hot answers: some meet a stop token, some the stop string, the others the limit."""
    ends = set()
    for seed in range(40):
        request = tiny.request(
            "hello", 2, temperature=1.7, seed=seed, max_tokens=80, stop=("e",) if seed % 4 == 0 else ()
        )
        due = plain(tiny.model, request)
        compare(tiny, request, due)
        ends.add(due.reason)
    assert ends == {FinishReason.stop_token, FinishReason.stop_string, FinishReason.max_tokens}


@pytest.mark.parametrize(
    "asked",
    [
        {"temperature": 0.0},
        {"temperature": 0.8, "seed": 11, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.1},
        {"temperature": 1.0, "seed": 2**63 + 5, "min_p": 0.05, "stop": ("\n", " the")},
    ],
    ids=["greedy", "everything of v1", "everything of v2"],
)
def test_the_real_model_too(real: Bench, asked: dict[str, Any]) -> None:
    text = "<|im_start|>user\nName three rivers.<|im_end|>\n<|im_start|>assistant\n"
    assert compare(real, real.request(text, **{"max_tokens": 8, **asked}))


def test_the_plain_loop_draws_as_published() -> None:
    """The vector that the authors of Philox publish for the counter and the key of zeros."""
    words = (0x6627E8D5, 0xE169C58D)
    assert uniform(0, 0) == ((words[0] >> 5) * 2**26 + (words[1] >> 6)) / 2**53
    assert math.isclose(np.mean([uniform(3, position) for position in range(4000)]), 0.5, abs_tol=0.02)

"""The built v1 guest: its trace is Realm's layer-wise loop, call by call."""

from __future__ import annotations

import codecs
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realm_abi.guests import guest_bytes
from realm_abi.requests import defaults_v1
from realm_mocks.host import Call, Hashed, MockHost, Run, default_vocabulary, winners

VOCABULARY = default_vocabulary()
EOS = VOCABULARY.eos_ids[0]
CHUNK = 8
PLAIN = st.integers(0, VOCABULARY.vocab_size - len(VOCABULARY.special) - 1)


def passes(prompt: int, fed_again: int) -> list[tuple[int, int]]:
    """`(tokens, position)` of each pass through the layers: the prompt in chunks, then token by token."""
    chunks = [(min(CHUNK, prompt - start), start) for start in range(0, prompt, CHUNK)]
    return chunks + [(1, prompt + n) for n in range(fed_again)]


def check_passes(run: Run, expected: list[tuple[int, int]], layers: int) -> None:
    """A pass is embed, every layer in order at one position, each on what the one before wrote, logits."""
    compute = {"realm_embed_tokens", "realm_forward_layer", "realm_compute_logits"}
    calls = [call for call in run.trace if call.function in compute]
    per_pass = layers + 2
    assert len(calls) == per_pass * len(expected)
    for n, (tokens, position) in enumerate(expected):
        embed, *middle, logits = calls[n * per_pass : (n + 1) * per_pass]
        assert embed.window("ids").count == tokens
        steps = [(call.arguments["layer"], call.arguments["position"]) for call in middle]
        assert steps == [(layer, position) for layer in range(layers)]
        check_chain([embed, *middle])
        assert logits.window("hidden").offset == middle[-1].window("out").offset + (tokens - 1) * 4 * 16


def check_chain(calls: list[Call]) -> None:
    """Every layer is given what the call before wrote, the same bytes."""
    for before, after in pairwise(calls):
        assert after.window("hidden").digest == before.window("out").digest


@settings(max_examples=40, deadline=None)
@given(
    prompt=st.text(max_size=40),
    script=st.lists(PLAIN, max_size=12),
    limit=st.integers(1, 12),
    layers=st.integers(1, 5),
)
def test_the_trace_is_the_formula(prompt: str, script: list[int], limit: int, layers: int) -> None:
    steps = winners(script, VOCABULARY, afterwards=ord("z"))
    host = MockHost(guest_bytes("v1"), steps, layers=layers)
    run = host.generate(prompt, max_tokens=limit).check()
    length = len(VOCABULARY.encode(prompt, add_bos=True))
    embeds = -(-length // CHUNK) + limit - 1
    assert run.trace.counts["realm_embed_tokens"] == embeds
    assert run.trace.counts["realm_compute_logits"] == embeds
    assert run.trace.counts["realm_forward_layer"] == layers * embeds
    assert run.trace.counts["realm_stream_token"] == limit
    check_passes(run, passes(length, limit - 1), layers)
    assert run.tokens == tuple([*script, *[ord("z")] * limit][:limit])


@settings(max_examples=30, deadline=None)
@given(script=st.lists(PLAIN, max_size=10), more=st.integers(1, 5))
def test_an_eos_is_sampled_but_neither_fed_nor_streamed(script: list[int], more: int) -> None:
    host = MockHost(guest_bytes("v1"), script)
    run = host.generate("prompt", max_tokens=len(script) + more).check()
    length = len(VOCABULARY.encode("prompt", add_bos=True))
    check_passes(run, passes(length, len(script)), 2)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(VOCABULARY.decode(script))
    held_back = bool(decoder.getstate()[0])
    assert run.trace.counts["realm_stream_token"] == len(script) + held_back
    assert run.tokens == tuple(script)


@settings(max_examples=20, deadline=None)
@given(prompt=st.text(max_size=30), seed=st.integers(0, 2**32 - 1), limit=st.integers(1, 10))
def test_what_it_says_depends_on_every_token_it_should_have_fed(prompt: str, seed: int, limit: int) -> None:
    script = Hashed(seed)
    host = MockHost(guest_bytes("v1"), script)
    run = host.generate(prompt, max_tokens=limit).check()
    tokens = VOCABULARY.encode(prompt, add_bos=True)
    length = len(tokens)
    for _ in range(limit):
        token = int(host.model.logits(tokens, length).argmax())
        if token in VOCABULARY.eos_ids:
            break
        tokens.append(token)
    assert run.tokens == tuple(tokens[length:])


def test_the_whole_text_is_returned_up_to_a_nul_and_streamed_whole() -> None:
    host = MockHost(guest_bytes("v1"), ["the", 0, "ing"])
    run = host.generate("prompt").check()
    assert run.text == "the\0ing"
    assert run.answer.returned == "the"


def test_an_option_that_v1_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="min_p"):
        MockHost(guest_bytes("v1")).generate("prompt", min_p=0.5)


def test_no_options_are_the_contracts_defaults() -> None:
    host = MockHost(guest_bytes("v1"), Hashed(8), layers=1)
    with host.instance() as instance:
        run = instance.generate("p", no_options=True).check()
        assert len(run.texts) == 512
        assert run.texts == instance.generate("p", **defaults_v1()).check().texts
    with pytest.raises(ValueError, match="no_options"):
        MockHost(guest_bytes("v2"), "a").instance().generate("p", no_options=True)

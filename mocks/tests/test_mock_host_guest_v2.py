"""The built v2 guest: sessions, chunks, drafts left alone, emits, stop strings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realm_abi.errors import ErrorCode, FinishReason
from realm_abi.guests import guest_bytes
from realm_mocks.host import Hashed, MockHost, Moment, default_vocabulary, winners

VOCABULARY = default_vocabulary()
EOS, END = VOCABULARY.eos_ids
PLAIN = st.integers(0, VOCABULARY.vocab_size - len(VOCABULARY.special) - 1)


@settings(max_examples=60, deadline=None)
@given(
    prompt=st.text(max_size=60),
    script=st.lists(PLAIN, max_size=12),
    limit=st.integers(1, 12),
    chunk=st.integers(0, 9),
)
def test_the_prompt_goes_in_chunks_then_token_by_token(
    prompt: str, script: list[int], limit: int, chunk: int
) -> None:
    host = MockHost(guest_bytes("v2"), script, canaries="memory")
    run = host.generate(prompt, max_tokens=limit, prefill_chunk=chunk).check()
    ids = VOCABULARY.encode(prompt, add_bos=True)
    step = chunk or len(ids)
    fed = [call.ids for call in run.calls("realm_forward")]
    chunks = [tuple(ids[start : start + step]) for start in range(0, len(ids), step)]
    again = script[: limit - 1]
    assert fed == [*chunks, *[(token,) for token in again]]
    assert sum(call.arguments["rows"] for call in run.calls("realm_forward")) == len(again) + 1
    assert run.tokens == tuple(script[:limit])
    ended = len(script) < limit
    assert run.reason is (FinishReason.stop_token if ended else FinishReason.max_tokens)
    assert run.trace.counts["realm_emit"] == len(run.tokens) + ended
    assert run.trace.names.count("realm_session_open") == run.trace.names.count("realm_session_free") == 1


@settings(max_examples=20, deadline=None)
@given(prompt=st.text(max_size=30), seed=st.integers(0, 2**32 - 1), chunk=st.integers(1, 9))
def test_chunks_do_not_change_what_it_says(prompt: str, seed: int, chunk: int) -> None:
    host = MockHost(guest_bytes("v2"), Hashed(seed))
    whole = host.generate(prompt, max_tokens=10).check()
    assert host.generate(prompt, max_tokens=10, prefill_chunk=chunk).check().tokens == whole.tokens


def test_the_stop_token_is_emitted_with_its_flag_and_without_text() -> None:
    run = MockHost(guest_bytes("v2"), ["hello"]).generate("prompt").check()
    last = run.calls("realm_emit")[-1]
    assert (last.arguments["token"], last.arguments["flags"], last.text) == (EOS, 1, "")


def test_stop_tokens_and_the_models_eos_end_it_unless_it_is_ignored() -> None:
    host = MockHost(guest_bytes("v2"), ["a", (END,), "b", (EOS,), "c", (65,)], tokenizer=VOCABULARY)
    assert host.generate("p").check().text == "a"
    assert host.generate("p", stop_tokens=()).check().tokens == (ord("a"), END, ord("b"))
    run = host.generate("p", stop_tokens=(65,), ignore_eos=True).check()
    assert run.tokens == (ord("a"), END, ord("b"), EOS, ord("c"))


STOPPED = [
    ("one token", ["hello", "STOP", " world"], ["STOP"], "hello"),
    ("across tokens", ["the", "st", "op", "ing"], ["stop"], "the"),
    ("inside a token", [" hello", " world"], ["ello"], " h"),
    ("inside two tokens", [" hello", " world"], ["lo wo"], " hel"),
    ("a false start", ["st", "st", "op", "and"], ["stop"], "st"),
    ("the first that is complete", ["the", "st", "op"], ["op", "stop"], "the"),
    ("half a character in", [b"\xf0\x9f", b"\xa6\x80", "STOP"], ["🦀"], ""),
    ("a character of it", ["é", "ß", "é"], ["ß"], "é"),
    ("at the very start", ["STOP", "hello"], ["STOP"], ""),
    ("ends the text", ["hello", "###"], ["###"], "hello"),
]


@pytest.mark.parametrize(
    ("steps", "stops", "text"), [case[1:] for case in STOPPED], ids=[case[0] for case in STOPPED]
)
def test_a_stop_string_ends_the_text_before_it(steps: list[str | bytes], stops: list[str], text: str) -> None:
    run = MockHost(guest_bytes("v2"), steps, canaries="memory").generate("p", stop_strings=stops).check()
    assert run.reason is FinishReason.stop_string
    assert run.text == text


def test_what_might_have_been_a_stop_string_comes_in_the_end() -> None:
    run = MockHost(guest_bytes("v2"), ["hello", "st"]).generate("p", stop_strings=["stop"]).check()
    assert run.reason is FinishReason.stop_token
    assert run.texts == ("hello", "", "st")
    host = MockHost(guest_bytes("v2"), ["hello", "st", "op"])
    run = host.generate("p", max_tokens=2, stop_strings=["stop"]).check()
    assert run.texts == ("hello", "st")


@settings(max_examples=60, deadline=None)
@given(
    script=st.lists(PLAIN, max_size=12),
    stops=st.lists(st.text("stopSTOP# ai🦀", min_size=1, max_size=4), max_size=3),
)
def test_stop_strings_cut_the_text_wherever_the_tokens_end(script: list[int], stops: list[str]) -> None:
    host = MockHost(guest_bytes("v2"), script)
    run = host.generate("p", stop_strings=stops).check()
    whole = VOCABULARY.decode(script).decode(errors="replace")
    ends = [whole.find(stop) + len(stop) for stop in stops if stop in whole]
    if not ends:
        assert (run.reason, run.text) == (FinishReason.stop_token, whole)
    else:
        end = min(ends)
        longest = max(len(stop) for stop in stops if whole[:end].endswith(stop))
        assert (run.reason, run.text) == (FinishReason.stop_string, whole[: end - longest])


def test_an_empty_stop_string_is_refused() -> None:
    run = MockHost(guest_bytes("v2"), "hello").generate("p", stop_strings=[""])
    assert run.error is ErrorCode.invalid_argument


def test_the_context_ends_it_like_max_tokens() -> None:
    host = MockHost(guest_bytes("v2"), winners("", VOCABULARY, afterwards=65), context_length=10)
    run = host.generate("abcd", max_tokens=100).check()
    assert run.reason is FinishReason.max_tokens
    assert len(run.tokens) in (5, 6)
    assert host.generate("abcdefghi", max_tokens=1).check().reason is FinishReason.max_tokens
    host.generate("abcdefghij", max_tokens=1).check(error=ErrorCode.context_full)


def test_a_prompt_without_tokens_is_refused() -> None:
    MockHost(guest_bytes("v2"), "hello").generate("", add_bos=False).check(error=ErrorCode.invalid_argument)


def test_special_tokens_in_a_prompt_are_text_when_it_says_so() -> None:
    host = MockHost(guest_bytes("v2"), "hello")
    assert EOS in (host.generate("a<|eos|>").check().calls("realm_forward")[0].ids or ())
    assert EOS not in (host.generate("a<|eos|>", plain_text=True).check().calls("realm_forward")[0].ids or ())


def test_logprobs_are_those_of_the_raw_logits() -> None:
    host = MockHost(guest_bytes("v2"), Hashed(3))
    run = host.generate("p", max_tokens=6, want_logprobs=True, temperature=0.5, seed=4, top_k=5).check()
    seen = VOCABULARY.encode("p", add_bos=True)
    for emit in run.calls("realm_emit"):
        logits = host.model.script.logits(Moment(tuple(seen), 2, VOCABULARY.vocab_size)).astype(np.float64)
        token = int(emit.arguments["token"])
        expected = logits[token] - np.logaddexp.reduce(logits)
        assert emit.arguments["logprob"] == pytest.approx(expected, abs=1e-5)
        seen.append(token)


def test_nobody_asked_for_logprobs() -> None:
    run = MockHost(guest_bytes("v2"), "hello").generate("p").check()
    assert all(emit.arguments["logprob"] != emit.arguments["logprob"] for emit in run.calls("realm_emit"))


def test_a_request_makes_no_more_calls_than_the_mock_allows() -> None:
    host = MockHost(guest_bytes("v2"), "a text of some length", max_calls=20)
    run = host.generate("p")
    assert run.error is ErrorCode.limit_exceeded
    assert [call.error for call in run.trace].count(ErrorCode.limit_exceeded) == 1
    assert run.findings == ()
    assert host.generate("p", max_tokens=2).check().text


def test_a_guest_that_goes_on_beyond_its_calls_is_trapped() -> None:
    endless = """(module
      (import "env" "realm_abi_version" (func $version (result i32)))
      (import "env" "realm_session_free" (func $free (param i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "realm_alloc") (param i32) (result i32) (i32.const 16))
      (func (export "generate") (param i32) (result i32)
        (loop $on (drop (call $version)) (br $on)) (i32.const 0)))"""
    run = MockHost(endless, "", max_calls=50).generate("p")
    assert run.fault is not None
    assert "goes on after 50 host calls" in str(run.fault)
    assert len(run.trace) < 200

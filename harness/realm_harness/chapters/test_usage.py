"""Token counts, whole and streamed."""

from __future__ import annotations

from secrets import token_hex
from typing import Any

from realm_harness.answers import Answer, Stream, shown
from realm_harness.case import Unjudged, case, demand
from realm_harness.prompts import COUNT, HELLO, LONG_ANSWERS, STORY
from realm_harness.target import Target

COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
ASKED = {"include_usage": True}


def counted(target: Target, prompt: str, tokens: int, **params: Any) -> Answer:
    """A whole answer with usage; Unjudged when the server sends none."""
    answer = target.ask(prompt, tokens, **params)
    if not answer.usage:
        raise Unjudged("the server sends no usage: see CHAT-USAGE-001")
    return answer


@case("CHAT-USAGE-001", clause_id="usage.present", reason="costs are booked by it")
def test_usage_is_there(target: Target) -> None:
    """A whole answer has usage."""
    answer = target.ask(HELLO, 8)
    demand(answer.usage, f"usage is {shown(answer.data.get('usage'))}")


@case("CHAT-USAGE-002", clause_id="usage.sum", reason="costs are booked by it")
def test_total_is_the_sum(target: Target) -> None:
    """total_tokens is prompt_tokens + completion_tokens."""
    answer = counted(target, HELLO, 8)
    prompt, completion, total = (answer.count(name) for name in COUNTS)
    demand(prompt > 0, f"prompt_tokens is {prompt}")
    demand(completion >= 0, f"completion_tokens is {completion}")
    demand(total == prompt + completion, f"usage is {shown(answer.usage)}")


@case("CHAT-USAGE-003", clause_id="usage.counts-tokens", reason="words are not tokens, and are cheaper")
def test_completion_tokens_reach_the_cap(target: Target) -> None:
    """An answer cut by the cap has as many completion tokens as the cap."""
    for prompt in LONG_ANSWERS:
        answer = counted(target, prompt, 20, temperature=0)
        if answer.finish() == "length":
            tokens = answer.count("completion_tokens")
            demand(tokens == 20, f"an answer cut at 20 tokens counts {tokens}: {shown(answer.text())}")
            return
    raise Unjudged("no answer was cut at 20 tokens with finish reason length")


@case(
    "CHAT-USAGE-004",
    clause_id="usage.prompt-stable",
    reason="a cached prompt costs what the price list says, not nothing",
)
def test_prompt_tokens_are_stable(target: Target) -> None:
    """The same prompt has the same prompt_tokens each time."""
    unseen = f"{COUNT} This is list {token_hex(8)}."  # so that only the later ones can come out of a cache
    counts = [counted(target, unseen, 4).count("prompt_tokens") for _ in range(3)]
    demand(len(set(counts)) == 1, f"the same prompt, three times, has {counts} prompt tokens")


@case("CHAT-USAGE-005", clause_id="usage.prompt-grows", reason="a made-up count does not")
def test_longer_prompt_has_more_tokens(target: Target) -> None:
    """A prompt with fifty words more has more prompt tokens."""
    short = counted(target, HELLO, 4).count("prompt_tokens")
    long = counted(target, HELLO + " please" * 50, 4).count("prompt_tokens")
    demand(long > short, f"prompt_tokens is {short}, and {long} with fifty words more")


@case("CHAT-USAGE-006", clause_id="usage.prompt-once", reason="n answers share one prompt")
def test_n_counts_the_prompt_once(target: Target) -> None:
    """n = 2 has the prompt_tokens of n = 1."""
    one = counted(target, STORY, 4).count("prompt_tokens")
    two = counted(target, STORY, 4, n=2)
    if len(two.choices) < 2:
        raise Unjudged("n = 2 brings one choice: see CHAT-SCHEMA-008")
    demand(
        two.count("prompt_tokens") == one,
        f"prompt_tokens is {one}, and {two.count('prompt_tokens')} with n = 2",
    )


def usage_stream(target: Target) -> Stream:
    """A short stream that asks for usage."""
    return target.stream(STORY, 8, temperature=0, stream_options=ASKED)


@case("CHAT-USAGE-007", clause_id="usage.stream-chunk", reason="without it a stream cannot be booked")
def test_usage_chunk(target: Target) -> None:
    """include_usage brings one last chunk with empty choices and the counts."""
    stream = usage_stream(target)
    demand(stream.usages, "a stream with include_usage has no chunk with usage")
    last = stream.chunks[-1]
    demand(last is stream.usages[-1], f"the last chunk has no usage: {shown(last.data)}")
    demand(
        last.data.get("choices") == [], f"the chunk with usage has choices {shown(last.data.get('choices'))}"
    )
    usage = last.data["usage"]
    missing = [name for name in COUNTS if not isinstance(usage.get(name), int)]
    demand(not missing, f"the stream's usage has no {', '.join(missing)}: {shown(usage)}")


@case(
    "CHAT-USAGE-008", clause_id="usage.stream-nulls", reason="a client that adds the counts up books too many"
)
def test_only_the_last_chunk_counts(target: Target) -> None:
    """With include_usage only one chunk has counts."""
    stream = usage_stream(target)
    others = [chunk.data["usage"] for chunk in stream.usages[:-1]]
    demand(not others, f"{len(others)} other chunks have usage too, such as {shown((others or [None])[0])}")


@case("CHAT-USAGE-009", clause_id="usage.stream-unasked", reason="clients read choices[0] of every chunk")
def test_no_usage_unasked(target: Target) -> None:
    """A stream that did not ask has no usage chunk."""
    found = target.stream(STORY, 8).usages
    demand(
        not found, f"a stream that did not ask for usage has it: {shown([chunk.data for chunk in found][:1])}"
    )


@case(
    "CHAT-USAGE-010", clause_id="usage.stream-empty-options", reason="clients read choices[0] of every chunk"
)
def test_no_usage_with_empty_options(target: Target) -> None:
    """stream_options {} and include_usage false bring no usage."""
    if target.stream(STORY, 8).usages:
        raise Unjudged("the server sends usage in every stream: see CHAT-USAGE-009")
    for options in ({}, {"include_usage": False}):
        found = target.stream(STORY, 8, stream_options=options).usages
        demand(
            not found, f"stream_options {options} brings usage: {shown([chunk.data for chunk in found][:1])}"
        )


@case("CHAT-USAGE-011", clause_id="usage.stream-equal", reason="the same answer costs the same", confirm=True)
def test_stream_counts_as_the_whole(target: Target) -> None:
    """The counts of a stream are those of the whole answer."""
    whole = counted(target, STORY, 8, temperature=0)
    stream = usage_stream(target)
    if not stream.usages:
        raise Unjudged("the stream has no usage: see CHAT-USAGE-007")
    if stream.text() != whole.text():
        raise Unjudged("stream and whole answer differ: see CHAT-SAME-001")
    usage = stream.usages[-1].data["usage"]
    demand(
        all(usage.get(name) == whole.usage.get(name) for name in COUNTS),
        f"the stream counts {shown(usage)}, the whole answer {shown(whole.usage)}",
    )

"""What answers over the WebSocket say: counts that agree, parameters that arrive, text as it is made."""

from __future__ import annotations

import json
from typing import Any

from realm_harness.answers import shown
from realm_harness.case import Unjudged, Unsupported, case, demand
from realm_harness.chapters.test_exact import is_number
from realm_harness.prompts import OPENING
from realm_harness.target import Target, clock_ms
from realm_harness.websocket.dialogue import CallLog, Dialogue, ended, open_dialogue

GREEDY: dict[str, Any] = {"prompt": OPENING, "max_tokens": 16, "temperature": 0}
STATUSES = ("streaming", "complete", "error", "cancelled")
LEAST_MS = 120.0
"""An answer that is quicker tells nothing about when its text came."""


def answered(dialogue: Dialogue, name: str, **params: object) -> CallLog:
    """A call with a parameter beyond Realm's own; Unsupported where it is refused by name."""
    log = dialogue.ask("generate", **params)
    error = log.end.get("error")
    if error and name in str(error):
        raise Unsupported(f"`generate` does not take `{name}`: {shown(error)}")
    return log


def settled(dialogue: Dialogue) -> str:
    """The answer at temperature 0; Unjudged where it is not the same twice."""
    first, again = (str(dialogue.ask("generate", **GREEDY).result.get("text")) for _ in range(2))
    if first != again:
        raise Unjudged("answers at temperature 0 differ from one call to the next: nothing to compare")
    return first


@case("CHAT-WSANSWER-001", clause_id="ws.shape", reason="clients read these fields without a look")
def test_shape_of_messages(target: Target) -> None:
    """Every message of a call has its id, a known status, and in a stream text, index and is_final."""
    with open_dialogue(target) as dialogue:
        log = dialogue.ask("generate", **GREEDY, stream=True)
        demand(log.result, "the result of a stream is empty")
        for message in log.replies:
            demand(message.get("status") in STATUSES, f"the status is unknown: {shown(message)}")
            if message["status"] != "streaming":
                continue
            data = message.get("data")
            demand(isinstance(data, dict), f"a piece has no object `data`: {shown(message)}")
            for name, kind in (("text", str), ("index", int), ("is_final", bool)):
                value = dict(data or {}).get(name)
                fine = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
                demand(fine, f"a piece's `{name}` is {shown(value)}")


@case(
    "CHAT-WSANSWER-002",
    clause_id="ws.counts",
    reason="bills must not depend on the reader",
    confirm=True,
)
def test_counts_agree(target: Target) -> None:
    """At temperature 0 a stream counts the same tokens as the whole answer, of the prompt and of the text."""
    with open_dialogue(target) as dialogue:
        settled(dialogue)
        whole = dialogue.ask("generate", **GREEDY).result
        streamed = dialogue.ask("generate", **GREEDY, stream=True).result
        for name in ("tokens_generated", "prompt_tokens", "finish_reason"):
            seen = f"`{name}` is {shown(streamed.get(name))} streamed and {shown(whole.get(name))} whole"
            demand(streamed.get(name) == whole.get(name), seen)


@case("CHAT-WSANSWER-003", clause_id="ws.max-tokens", reason="what runs on costs, and keeps others waiting")
def test_max_tokens(target: Target) -> None:
    """max_tokens caps an answer, whole and streamed."""
    with open_dialogue(target) as dialogue:
        for stream in (False, True):
            for cap in (1, 5):
                log = dialogue.ask("generate", prompt=OPENING, max_tokens=cap, stream=stream)
                count = log.result.get("tokens_generated")
                demand(
                    isinstance(count, int) and count <= cap, f"max_tokens {cap} gives {shown(count)} tokens"
                )
                texts = [piece for piece in log.pieces if piece.get("text")]
                demand(len(texts) <= cap + 1, f"max_tokens {cap} gives {len(texts)} pieces of text")


@case(
    "CHAT-WSANSWER-004",
    clause_id="ws.stop",
    reason="what follows it is meant for nobody",
    confirm=True,
)
def test_stop(target: Target) -> None:
    """With a stop string the answer ends before it."""
    with open_dialogue(target) as dialogue:
        whole = settled(dialogue)
        stop = whole[len(whole) // 2 :][:3]
        if len(stop) < 3:
            raise Unjudged(f"the answer is too short to be stopped: {shown(whole)}")
        for stream in (False, True):
            log = answered(dialogue, "stop", **GREEDY, stop=[stop], stream=stream)
            text = log.text if stream else log.result.get("text")
            wanted = whole[: whole.index(stop)]
            demand(text == wanted, f"stopped at {stop!r} it is {shown(text)}; expected is {shown(wanted)}")


@case("CHAT-WSANSWER-005", clause_id="ws.seed", reason="without it no answer can be had again", confirm=True)
def test_seed(target: Target) -> None:
    """The same seed gives the same answer, and other seeds give others."""
    params = {**GREEDY, "temperature": 1.5, "top_p": 1.0}
    with open_dialogue(target) as dialogue:
        drawn = [
            answered(dialogue, "seed", **params, seed=seed).result.get("text") for seed in (1, 2, 3, 4, 1)
        ]
        demand(drawn[0] == drawn[-1], f"seed 1 gives {shown(drawn[0])} and {shown(drawn[-1])}")
        demand(len(set(drawn)) > 1, f"four seeds give one answer: {shown(drawn[0])}")


@case(
    "CHAT-WSANSWER-006",
    clause_id="ws.unicode",
    reason="most scripts are not ASCII",
    confirm=True,
)
def test_unicode(target: Target) -> None:
    """Raw characters in a message mean the same as their \\u escapes."""
    params = {**GREEDY, "prompt": "Straße, 日本語, \N{GRINNING FACE}: " + OPENING}
    with open_dialogue(target) as dialogue:
        escaped = dialogue.ask("generate", **params).result
        log = dialogue.expect("raw")
        dialogue.socket.send(
            json.dumps({"id": "raw", "function": "generate", "params": params}, ensure_ascii=False)
        )
        dialogue.until(lambda: ended(log))
        for name in ("text", "prompt_tokens"):
            pair = f"`{name}` is {shown(log.result.get(name))} raw and {shown(escaped.get(name))} escaped"
            demand(log.result.get(name) == escaped.get(name), pair)


@case("CHAT-WSANSWER-007", clause_id="ws.incremental", reason="a stream that comes at once is no stream")
def test_incremental(target: Target) -> None:
    """The first piece of a stream comes well before its end."""
    seen = []
    with open_dialogue(target) as dialogue:
        for _ in range(2):
            log = dialogue.ask("generate", prompt=OPENING, max_tokens=48, stream=True)
            took = clock_ms(log.messages[-1][0], log.sent_ns)
            if len(log.pieces) < 8 or took < LEAST_MS:
                raise Unjudged(f"{len(log.pieces)} pieces in {took:.0f} ms: too quick to see it")
            waited = clock_ms(log.messages[0][0], log.sent_ns) / took
            if waited <= 0.9:
                return
            seen.append(f"{waited:.0%} of {took:.0f} ms")
    demand(False, f"the first piece came after {' and '.join(seen)} of two streams")


@case("CHAT-WSANSWER-008", clause_id="ws.values", reason="costs and latencies are made of them")
def test_values_of_a_result(target: Target) -> None:
    """prompt_tokens is above 0 and grows with the prompt; time_ms is within what the client waited."""
    with open_dialogue(target) as dialogue:
        counts: list[Any] = []
        for prompt in (OPENING, OPENING * 3):
            log = dialogue.ask("generate", prompt=prompt, max_tokens=4)
            counts.append(log.result.get("prompt_tokens"))
            told, waited = log.result.get("time_ms"), clock_ms(log.messages[-1][0], log.sent_ns)
            if told is not None:
                fine = is_number(told) and 0 <= told <= waited + 1
                demand(fine, f"`time_ms` is {shown(told)}, the client waited {waited:.1f} ms")
        if counts != [None, None]:
            grows = all(type(count) is int and count > 0 for count in counts) and counts[0] < counts[1]
            demand(grows, f"`prompt_tokens` is {counts[0]}, and of three times the prompt {counts[1]}")


@case("CHAT-WSANSWER-009", clause_id="ws.logprob", reason="it is the logarithm of a probability")
def test_log_probabilities(target: Target) -> None:
    """A piece's logprob is a number of at most 0."""
    with open_dialogue(target) as dialogue:
        log = answered(dialogue, "logprobs", **GREEDY, stream=True, logprobs=True)
        told = [piece["logprob"] for piece in log.pieces if piece.get("logprob") is not None]
        if not told:
            raise Unjudged("no piece has a logprob")
        for value in told:
            demand(is_number(value) and value <= 1e-6, f"a piece's `logprob` is {shown(value)}")

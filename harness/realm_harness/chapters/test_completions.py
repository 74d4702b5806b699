"""/v1/completions: texts continued as they are, and what /v1/embeddings says of a model that makes none."""

from __future__ import annotations

import json
from typing import Any

from realm_harness.answers import Json, shown
from realm_harness.case import Broken, Unjudged, Unsupported, case, demand
from realm_harness.chapters.test_tokenize import ids_of
from realm_harness.exchange import Exchange
from realm_harness.sse import Parser
from realm_harness.target import Target, encode, replied

ROUTE = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
OPENING = "Once upon a time there was a lighthouse keeper who"
OTHER = "The capital of France is"
TOKENS = 12


def call(target: Target, **params: Any) -> Exchange:
    """Ask the route; Unsupported when there is none such."""
    body = {"model": target.model, "prompt": OPENING, "max_tokens": TOKENS, "temperature": 0, **params}
    exchange = replied(
        target.post_to(ROUTE, {key: value for key, value in body.items() if value is not None})
    )
    if exchange.status in (404, 405, 501):
        raise Unsupported(f"the server has no {ROUTE}: {exchange.status}")
    return exchange


def answered(target: Target, **params: Any) -> Exchange:
    """The exchange of a request with a 200; Unsupported when the refusal names a parameter; or Broken."""
    exchange = call(target, **params)
    if exchange.status == 200:
        return exchange
    said = exchange.body.decode("utf-8", "replace")
    named = [name for name in params if name in said and name != "stream"]
    if exchange.status in (400, 422, 501) and named:
        raise Unsupported(f"the server does not take `{named[0]}`: {exchange.status} {shown(said)}")
    raise Broken(f"a plain request for a completion was refused: {exchange.status} {shown(said)}")


def complete(target: Target, **params: Any) -> Json:
    """The object of a whole answer."""
    exchange = answered(target, **params)
    try:
        made = json.loads(exchange.body)
    except ValueError:
        raise Broken(f"{ROUTE} is not JSON: {shown(exchange.body)}") from None
    demand(isinstance(made, dict), f"{ROUTE} is no JSON object: {shown(made)}")
    return dict(made)


def choices(target: Target, **params: Any) -> list[Json]:
    """The choices of a whole answer; Broken when they are none."""
    found = complete(target, **params).get("choices")
    listed = isinstance(found, list) and found and all(isinstance(one, dict) for one in found)
    demand(listed, f"`choices` is {shown(found)}")
    return list(found or [])


def text(target: Target, **params: Any) -> str:
    """The text of the first choice; Broken when there is none."""
    found = choices(target, **params)[0].get("text")
    demand(isinstance(found, str), f"a choice's text is {shown(found)}")
    return str(found)


LISTS: dict[str, Any] = {
    "tokens": str,
    "token_logprobs": int | float | None,
    "top_logprobs": dict | None,
    "text_offset": int,
}
"""The lists of `logprobs`, and what is in them."""


def scores(target: Target, **params: Any) -> tuple[Json, str]:
    """The lists of the first choice's `logprobs`, and its text; Broken when they differ in length."""
    choice = choices(target, **params)[0]
    found = choice.get("logprobs") or {}
    demand(isinstance(found, dict), f"`logprobs` is {shown(found)}")
    lists: Json = {}
    for key, kinds in LISTS.items():
        demand(isinstance(found.get(key), list), f"`logprobs` is {shown(found)}")
        lists[key] = found[key]
        fine = all(isinstance(one, kinds) for one in lists[key])
        demand(fine, f"`{key}` of `logprobs` is {shown(lists[key])}")
    lengths = {key: len(one) for key, one in lists.items()}
    demand(len(set(lengths.values())) == 1 and lengths["tokens"], f"the lists of `logprobs` have {lengths}")
    return lists, str(choice.get("text"))


@case("CHAT-COMPLETIONS-001", clause_id="completions.shape", reason="typed clients require the keys")
def test_shape(target: Target) -> None:
    """An answer is a text_completion with id, created, model, choices and usage."""
    made = complete(target)
    missing = [key for key in ("id", "object", "created", "model", "choices") if key not in made]
    demand(not missing, f"an answer has no {', '.join(missing)}: {shown(made)}")
    demand(made["object"] == "text_completion", f"`object` is {shown(made['object'])}")
    for choice in choices(target):
        lacking = [key for key in ("index", "text", "finish_reason") if key not in choice]
        demand(not lacking, f"a choice has no {', '.join(lacking)}: {shown(choice)}")
        demand("message" not in choice, f"a choice of a text has a message: {shown(choice)}")


@case("CHAT-COMPLETIONS-002", clause_id="completions.continues", reason="a text is not a question")
def test_prompt_is_not_repeated(target: Target) -> None:
    """Without echo the text does not begin with the prompt."""
    made = text(target)
    demand(not made.startswith(OPENING), f"the text begins with the prompt: {shown(made)}")


@case("CHAT-COMPLETIONS-003", clause_id="completions.default-length", reason="the default is 16, not all")
def test_default_length(target: Target) -> None:
    """Without max_tokens an answer has 16 tokens at most."""
    usage = complete(target, max_tokens=None).get("usage")
    if not isinstance(usage, dict):
        raise Unjudged("the answer has no usage")
    made = usage.get("completion_tokens")
    demand(isinstance(made, int) and made <= 16, f"without max_tokens there are {shown(made)} tokens")


@case(
    "CHAT-COMPLETIONS-004",
    clause_id="completions.stream",
    reason="the same request has the same answer",
    confirm=True,
)
def test_stream(target: Target) -> None:
    """A stream's texts add up to the whole, with one finish reason and one [DONE]."""
    whole = choices(target)[0]
    exchange = answered(target, stream=True)
    parser = Parser()
    data = [event.data for t_ns, part in exchange.segments for event in parser.feed(part, t_ns)]
    demand(data and data[-1].startswith("[DONE]"), f"the stream ends with {shown(data[-1:])}")
    chunks = [json.loads(one) for one in data[:-1]]
    demand(all(isinstance(chunk, dict) for chunk in chunks), f"an event is no object: {shown(chunks)}")
    listed = [chunk.get("choices") for chunk in chunks]
    found = [choice for choices_of in listed if isinstance(choices_of, list) for choice in choices_of]
    fine = all(isinstance(one, dict) and isinstance(one.get("text"), str) for one in found)
    demand(fine, f"a chunk's choice has no text: {shown(found)}")
    joined = "".join(one["text"] for one in found)
    told, reason = whole.get("text"), whole.get("finish_reason")
    demand(joined == told, f"the stream is {shown(joined)}, the whole answer {shown(told)}")
    ends = [one.get("finish_reason") for one in found if one.get("finish_reason")]
    demand(ends == [reason], f"the stream finishes with {shown(ends)}, not {shown(reason)}")


@case("CHAT-COMPLETIONS-005", clause_id="completions.prompts", reason="batches rely on it", confirm=True)
def test_several_prompts(target: Target) -> None:
    """Several prompts have choices in their order, each as its prompt alone."""
    found = choices(target, prompt=[OPENING, OTHER])
    indexes = [one.get("index") for one in found]
    demand(indexes == [0, 1], f"two prompts have choices with the indexes {indexes}")
    for one, prompt in zip(found, (OPENING, OTHER), strict=True):
        alone = text(target, prompt=prompt)
        beside = one.get("text")
        demand(beside == alone, f"{shown(prompt)} gives {shown(alone)} alone, {shown(beside)} beside")


@case("CHAT-COMPLETIONS-006", clause_id="completions.token-ids", reason="evaluations send ids", confirm=True)
def test_prompt_of_token_ids(target: Target) -> None:
    """A prompt of token ids is continued as its text."""
    ids = ids_of(target, OPENING)
    expected, made = text(target), text(target, prompt=ids)
    demand(made == expected, f"the ids of the prompt give {shown(made)}, the prompt {shown(expected)}")


@case("CHAT-COMPLETIONS-007", clause_id="completions.echo", reason="evaluations score it", confirm=True)
def test_echo(target: Target) -> None:
    """echo puts the prompt before its completion."""
    plain, echoed = text(target), text(target, echo=True)
    demand(echoed == OPENING + plain, f"with echo the text is {shown(echoed)}")


@case("CHAT-COMPLETIONS-008", clause_id="completions.logprobs", reason="evaluations read the four lists")
def test_logprobs(target: Target) -> None:
    """logprobs brings tokens, token_logprobs, top_logprobs and text_offset of the same length."""
    lists, _ = scores(target, logprobs=2)
    for name, value, top in zip(lists["tokens"], lists["token_logprobs"], lists["top_logprobs"], strict=True):
        number = isinstance(value, int | float) and value <= 1e-3
        demand(number, f"the token {shown(name)} has the logprob {shown(value)}")
        demand(isinstance(top, dict) and len(top) <= 3, f"the token {shown(name)} has {shown(top)}")
        fine = all(isinstance(one, int | float) and one <= 1e-3 for one in top.values())
        demand(top and fine, f"alternatives are {shown(top)}")


@case("CHAT-COMPLETIONS-009", clause_id="completions.logprobs-zero", reason="0 is on, without alternatives")
def test_logprobs_of_zero(target: Target) -> None:
    """logprobs: 0 brings the tokens' own log probabilities."""
    scores(target, logprobs=0)


@case("CHAT-COMPLETIONS-010", clause_id="completions.text-offset", reason="offsets find the token")
def test_text_offset(target: Target) -> None:
    """With echo, text_offset is where each token begins, and only the first has no logprob."""
    lists, whole = scores(target, logprobs=1, echo=True)
    values = lists["token_logprobs"]
    demand(values[0] is None and None not in values[1:], f"token_logprobs are {shown(values)}")
    offsets = lists["text_offset"]
    demand(offsets == sorted(offsets) and offsets[0] == 0, f"text_offset is {shown(offsets)}")
    for name, offset in zip(lists["tokens"], offsets, strict=True):
        if name.strip().isalpha() and name.isascii():
            there = whole[offset : offset + len(name)]
            demand(there == name, f"the token {shown(name)} at {offset} stands on {shown(there)}")


@case("CHAT-COMPLETIONS-011", clause_id="completions.stop", reason="a stop that is dropped lets it run on")
def test_stop(target: Target) -> None:
    """A stop string ends the text before it."""
    whole = text(target)
    stop = whole[len(whole) // 2 :][:3]
    if not stop.strip():
        raise Unjudged(f"the text has no middle: {shown(whole)}")
    choice = choices(target, stop=stop)[0]
    said = choice.get("text")
    demand(said == whole[: whole.index(stop)], f"stopped at {shown(stop)}: {shown(said)}")
    demand(
        choice.get("finish_reason") == "stop", f"its finish reason is {shown(choice.get('finish_reason'))}"
    )


@case("CHAT-COMPLETIONS-012", clause_id="completions.n", reason="n choices were asked for")
def test_n(target: Target) -> None:
    """n = 2 brings two choices."""
    found = choices(target, n=2, temperature=1, seed=1)
    indexes = [one.get("index") for one in found]
    demand(indexes == [0, 1], f"n = 2 brings choices with the indexes {indexes}")


@case("CHAT-COMPLETIONS-013", clause_id="completions.prompt-type", reason="it is a bug in the client")
def test_prompt_of_a_wrong_type(target: Target) -> None:
    """A prompt that is an object is refused with a 4xx."""
    exchange = call(target, prompt={"text": "hello"})
    status = exchange.status or 0
    demand(400 <= status < 500, f"a prompt that is an object got {status}: {shown(exchange.body)}")


@case("CHAT-COMPLETIONS-014", clause_id="completions.suffix", reason="what is dropped changes the answer")
def test_suffix(target: Target) -> None:
    """A suffix is filled up to, or refused with a 4xx that names it."""
    exchange = call(target, suffix="the end.")
    said = exchange.body.decode("utf-8", "replace")
    if exchange.status == 200:
        demand(text(target, suffix="the end.") != text(target), "a suffix changes nothing")
    else:
        fine = 400 <= (exchange.status or 0) < 500 and "suffix" in said
        demand(fine, f"a suffix got {exchange.status} {shown(said)}")


@case("CHAT-EMBEDDINGS-001", clause_id="embeddings.honest", reason="made-up vectors find nothing")
def test_embeddings(target: Target) -> None:
    """/v1/embeddings brings vectors, different ones for different texts, or says that it does not."""
    body = {"model": target.model, "input": ["a cat", "the theory of numbers"]}
    exchange = target.send(target.request("POST", EMBEDDINGS, encode(body)))
    said = exchange.body.decode("utf-8", "replace")
    if exchange.status in (400, 404, 405, 422, 501):
        return
    demand(exchange.status == 200, f"{EMBEDDINGS} got {exchange.status}: {shown(said)}")
    try:
        first, second = (one["embedding"] for one in json.loads(said)["data"])
    except (ValueError, KeyError, TypeError):
        raise Broken(f"{EMBEDDINGS} answers 200 without two embeddings: {shown(said)}") from None
    demand(first and first != second, f"two texts have the same embedding: {shown(first)}")

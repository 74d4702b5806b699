"""/tokenize and /detokenize, which are no part of OpenAI's API: servers without them are not judged."""

from __future__ import annotations

import json
from typing import Any

from realm_harness.answers import Json, shown
from realm_harness.case import Broken, Unjudged, case, demand
from realm_harness.exchange import Exchange
from realm_harness.prompts import HELLO, MULTIBYTE
from realm_harness.target import Target

TOKENIZE = "/tokenize"
DETOKENIZE = "/detokenize"


def call(target: Target, path: str, **params: Any) -> Exchange:
    """Ask one of the routes; Unjudged when the server has none such."""
    exchange = target.post_to(path, {"model": target.model, **params})
    if exchange.status in (404, 405, 501):
        raise Unjudged(
            f"the server has no {path} ({exchange.status}), which OpenAI's API does not know either"
        )
    return exchange


def answer(target: Target, path: str, **params: Any) -> Json:
    """The object that one of the routes answers with."""
    exchange = call(target, path, **params)
    said = exchange.body.decode("utf-8", "replace")
    demand(exchange.status == 200, f"{path} got {exchange.status}: {shown(said)}")
    try:
        made = json.loads(said)
    except ValueError:
        raise Broken(f"{path} is not JSON: {shown(said)}") from None
    if not isinstance(made, dict):
        raise Broken(f"{path} is no JSON object: {shown(made)}")
    return made


def ids_of(target: Target, text: str) -> list[int]:
    """The token ids of a text; Unjudged when the server does not tell them in vLLM's shape."""
    tokens = answer(target, TOKENIZE, prompt=text, add_special_tokens=False).get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        raise Unjudged(f"`tokens` of {TOKENIZE} is {shown(tokens)}: see CHAT-TOKENIZE-001")
    return tokens


@case("CHAT-TOKENIZE-001", clause_id="tokenize.shape", reason="clients cut their prompts by it")
def test_tokenize(target: Target) -> None:
    """/tokenize brings token ids, their count and the context length."""
    made = answer(target, TOKENIZE, prompt=HELLO)
    tokens = made.get("tokens")
    listed = isinstance(tokens, list) and all(isinstance(token, int) and token >= 0 for token in tokens)
    demand(listed and tokens, f"`tokens` of {TOKENIZE} is {shown(tokens)}")
    demand(
        made.get("count") == len(tokens or ()),
        f"{len(tokens or ())} tokens have the count {made.get('count')}",
    )
    demand(isinstance(made.get("max_model_len"), int), f"max_model_len is {shown(made.get('max_model_len'))}")


@case("CHAT-TOKENIZE-002", clause_id="tokenize.round-trip", reason="a text that comes back changed was lost")
def test_detokenize(target: Target) -> None:
    """/detokenize of what /tokenize made is the text."""
    for text in (HELLO, *MULTIBYTE):
        back = answer(target, DETOKENIZE, tokens=ids_of(target, text)).get("prompt")
        same = isinstance(back, str) and back.strip() == text
        demand(same, f"the tokens of {shown(text)} are the text {shown(back)}")


@case("CHAT-TOKENIZE-003", clause_id="tokenize.chat", reason="a prompt that is counted too short is cut")
def test_messages_are_counted_like_a_chat(target: Target) -> None:
    """/tokenize counts messages as the chat's prompt_tokens does."""
    messages = [{"role": "user", "content": HELLO}]
    tokens = answer(target, TOKENIZE, messages=messages).get("tokens")
    if not isinstance(tokens, list):
        raise Unjudged("messages are not taken: see CHAT-TOKENIZE-001")
    counted = target.ask(messages, 4).count("prompt_tokens")
    demand(counted == len(tokens), f"{TOKENIZE} finds {len(tokens)} tokens, the chat counts {counted}")


@case("CHAT-TOKENIZE-004", clause_id="tokenize.unknown", reason="an id from elsewhere is a client's mistake")
def test_unknown_tokens(target: Target) -> None:
    """/detokenize of an id that there is not is refused with a 4xx."""
    status = call(target, DETOKENIZE, tokens=[99_999_999]).status or 0
    demand(400 <= status < 500, f"{DETOKENIZE} of the id 99999999 got {status}")

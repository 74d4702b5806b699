"""/v1/completions of the MockServer: each prompt is continued as if it were a user's only message."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from realm_mocks.server import logprobs
from realm_mocks.server.errors import invalid
from realm_mocks.server.generation import Generation
from realm_mocks.server.lexicon import piece_of
from realm_mocks.server.model import tokenize
from realm_mocks.server.request import ChatRequest, check_request

Json = dict[str, Any]
DEFAULT_TOKENS = 16


@dataclass(frozen=True)
class Texts:
    """A checked request: a chat for each prompt, and what chats do not have."""

    prompts: tuple[str, ...]
    chats: tuple[ChatRequest, ...]
    echo: bool

    @property
    def first(self) -> ChatRequest:
        """The one whose parameters are those of all."""
        return self.chats[0]


def parse_texts(body: Json) -> Texts:
    """Check a body; ApiError 400 names the parameter at fault."""
    if "prompt" not in body:
        raise invalid("prompt", "Missing required parameter: 'prompt'")
    count = body.get("logprobs")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= 5):
        raise invalid("logprobs", "Invalid 'logprobs': it must be an integer between 0 and 5")
    if body.get("best_of") not in (None, body.get("n") or 1):
        raise invalid("best_of", "Invalid 'best_of': only the value of 'n' is supported")
    if body.get("suffix"):
        raise invalid("suffix", "Invalid 'suffix': it is not supported")
    left = {key: value for key, value in body.items() if key not in ("prompt", "echo", "best_of", "suffix")}
    left |= {"max_tokens": body.get("max_tokens", DEFAULT_TOKENS)}
    left |= {"logprobs": count is not None, "top_logprobs": count}
    prompts = tuple(_prompts(body["prompt"]))
    chats = [check_request({**left, "messages": [{"role": "user", "content": prompt}]}) for prompt in prompts]
    return Texts(prompts, tuple(chats), body.get("echo") is True)


def _prompts(value: Any) -> list[str]:
    listed = value if isinstance(value, list) else [value]
    if listed and all(isinstance(one, int) for one in listed):
        listed = [listed]
    if not listed:
        raise invalid("prompt", "Invalid 'prompt': it must not be empty")
    return [_text(one) for one in listed]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    pieces = [piece_of(one) if isinstance(one, int) else None for one in value if isinstance(value, list)]
    if not isinstance(value, list) or None in pieces:
        raise invalid("prompt", "Invalid 'prompt': it must be text or an array of token ids")
    return b"".join(piece for piece in pieces if piece).decode("utf-8", "replace")


Generate = Callable[[ChatRequest, int], Generation]


def choices_of(texts: Texts, generate: Generate) -> list[tuple[Json, Generation]]:
    """The choices of a whole answer, each with its generation."""
    made: list[tuple[Json, Generation]] = []
    for prompt, chat in zip(texts.prompts, texts.chats, strict=True):
        for number in range(chat.n):
            generation = generate(chat, number)
            choice = {
                "index": len(made),
                "text": (prompt if texts.echo else "") + generation.text,
                "logprobs": _logprobs(prompt if texts.echo else "", generation) if chat.logprobs else None,
                "finish_reason": generation.finish_reason,
            }
            made.append((choice, generation))
    return made


def answer_of(texts: Texts, choices: Sequence[Json], generations: Sequence[Generation], number: int) -> Json:
    """The `text_completion` object."""
    prompt = sum(len(tokenize(one)) for one in texts.prompts)
    completion = sum(generation.completion_tokens for generation in generations)
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {
        "id": f"cmpl-{number:08x}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": texts.first.model,
        "system_fingerprint": "fp_scripted",
        "choices": list(choices),
        "usage": counts,
    }


def chunks_of(texts: Texts, whole: Json) -> list[Json]:
    """The chunks of a stream that adds up to `whole`: each text in pieces of three characters."""
    head = {key: value for key, value in whole.items() if key not in ("choices", "usage")}
    usage: Json = {"usage": None} if texts.first.include_usage else {}
    chunks = []
    for choice in whole["choices"]:
        text = choice["text"]
        pieces = [text[start : start + 3] for start in range(0, len(text), 3)] or [""]
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            one = {**choice, "text": piece, "logprobs": choice["logprobs"] if last else None}
            one["finish_reason"] = choice["finish_reason"] if last else None
            chunks.append({**head, "choices": [one], **usage})
    if texts.first.include_usage:
        chunks.append({**head, "choices": [], "usage": whole["usage"]})
    return chunks


def stream_of(chunks: Sequence[Json]) -> bytes:
    """The bytes of a stream."""
    events = [f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n" for chunk in chunks]
    return "".join([*events, "data: [DONE]\n\n"]).encode()


def _logprobs(prompt: str, generation: Generation) -> Json:
    """The older shape; the first token of an echoed prompt has no probability."""
    said = [entry for entries in logprobs.by_token(generation) for entry in entries]
    raw = [*(tokenize(prompt) if prompt else ()), *(bytes(entry["bytes"]) for entry in said)]
    names = [token.decode("utf-8", "backslashreplace") for token in raw]
    values: list[float | None] = [-0.25] * (len(raw) - len(said)) + [entry["logprob"] for entry in said]
    tops: list[Json | None] = [{name: -0.25} for name in names[: len(raw) - len(said)]]
    for name, entry in zip(names[len(raw) - len(said) :], said, strict=True):
        others = {one["token"]: one["logprob"] for one in entry["top_logprobs"]}
        tops.append({**others, name: entry["logprob"]})
    if prompt:
        values[0] = tops[0] = None
    before = [b"".join(raw[:index]).decode("utf-8", "ignore") for index in range(len(raw))]
    return {
        "tokens": names,
        "token_logprobs": values,
        "top_logprobs": tops,
        "text_offset": [len(text) for text in before],
    }

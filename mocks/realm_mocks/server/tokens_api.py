"""/tokenize and /detokenize of the MockServer, in vLLM's shapes."""

from __future__ import annotations

from typing import Any

from realm_mocks.server.errors import invalid
from realm_mocks.server.lexicon import id_of, piece_of
from realm_mocks.server.model import tokenize
from realm_mocks.server.request import content_text

TEMPLATE = (b"\x01", b"\x02", b"\x03")
"""What the chat template puts round a message."""


def tokenized(body: dict[str, Any], context_length: int) -> dict[str, Any]:
    """The answer to /tokenize."""
    prompt, messages = body.get("prompt"), body.get("messages")
    if isinstance(messages, list) and prompt is None:
        contents = [content_text(message.get("content")) for message in messages]
        pieces = [piece for content in contents for piece in (*tokenize(content), *TEMPLATE)]
    elif isinstance(prompt, str):
        pieces = tokenize(prompt)
    else:
        raise invalid("prompt", "Invalid 'prompt': it must be a string")
    return {
        "tokens": [id_of(piece) for piece in pieces],
        "count": len(pieces),
        "max_model_len": context_length,
        "token_strs": None,
    }


def detokenized(body: dict[str, Any]) -> dict[str, Any]:
    """The answer to /detokenize."""
    tokens = body.get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        raise invalid("tokens", "Invalid 'tokens': it must be an array of integers")
    pieces = [piece_of(token) for token in tokens]
    if None in pieces:
        raise invalid("tokens", "Invalid 'tokens': there is no such token")
    return {"prompt": b"".join(piece for piece in pieces if piece).decode("utf-8", "replace")}

"""POST /tokenize and /detokenize: the ids are those that a request is counted with, and they go back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

StartServer = Callable[..., Awaitable[Any]]
HELLO = [{"role": "user", "content": "hello world"}]


async def post(client: aiohttp.ClientSession, path: str, status: int = 200, **body: Any) -> dict[str, Any]:
    response = await client.post(path, json=body)
    assert response.status == status, await response.text()
    answer: dict[str, Any] = await response.json()
    return answer


async def test_a_prompt_goes_there_and_back(server: Any, client: aiohttp.ClientSession) -> None:
    for text in ("hello world", "<|im_start|>naïve 🙂", ""):
        made = await post(client, "/tokenize", model=server.model, prompt=text, return_token_strs=True)
        assert made["tokens"] == server.service.model.tokenizer.encode(text)
        assert made["count"] == len(made["tokens"]) == len(made["token_strs"])
        assert made["max_model_len"] == server.service.model.context_length
        assert await post(client, "/detokenize", tokens=made["tokens"]) == {"prompt": text}


async def test_messages_are_counted_as_a_chat_is(server: Any, client: aiohttp.ClientSession) -> None:
    made = await post(client, "/tokenize", messages=HELLO)
    assert made["count"] == (await server.ask())["usage"]["prompt_tokens"]
    assert made["token_strs"] is None
    shorter = await post(client, "/tokenize", messages=HELLO, add_generation_prompt=False)
    assert shorter["tokens"] == made["tokens"][: shorter["count"]]
    assert shorter["count"] < made["count"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "x", "messages": HELLO}, "prompt"),
        ("/tokenize", {"prompt": 5}, "prompt"),
        ("/tokenize", {"text": "x"}, "text"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": "x"}, "tokens"),
        ("/detokenize", {"tokens": [1, -1]}, "tokens[1]"),
        ("/detokenize", {"tokens": [10**6]}, "tokens[0]"),
    ],
)
async def test_refused(client: aiohttp.ClientSession, path: str, body: dict[str, Any], param: str) -> None:
    assert (await post(client, path, 400, **body))["error"]["param"] == param


async def test_another_model_is_not_found(client: aiohttp.ClientSession) -> None:
    await post(client, "/tokenize", 404, prompt="x", model="other")

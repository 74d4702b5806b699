"""POST /tokenize and /detokenize: text to token ids and back, in the shapes that vLLM gave them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from realm_reference.model.errors import ChatTemplateError
from realm_reference.model.model import Model
from realm_reference.server.errors import invalid, unprocessable
from realm_reference.server.requests import checks, parameters
from realm_reference.server.requests.messages import parse_messages
from realm_reference.server.requests.parameters import Table
from realm_reference.server.service import Service
from realm_reference.server.telemetry import record
from realm_reference.server.wire import jsonbody

PATHS: Final = ("/tokenize", "/detokenize")

TOKENIZE: Final[Table] = {
    "model": checks.string,
    "prompt": checks.string,
    "messages": parse_messages,
    "add_special_tokens": checks.boolean,
    "add_generation_prompt": checks.boolean,
    "return_token_strs": checks.boolean,
}
"""`prompt` or `messages`, one of them; special tokens are put before a prompt, not before messages."""


_TOKEN: Final = checks.integer(0, 2**31 - 1)


@checks.described(type="array", items=checks.schema_of(_TOKEN))
def _tokens(name: str, value: Any) -> list[int]:
    return [_TOKEN(f"{name}[{index}]", token) for index, token in enumerate(checks.sequence(name, value))]


DETOKENIZE: Final[Table] = {"model": checks.string, "tokens": _tokens}


class TokenHandler:
    """Both routes. `model` may be left out: there is one."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def tokenize(self, request: web.Request) -> web.Response:
        """``{tokens, count, max_model_len, token_strs}``."""
        given = await self._given(request, TOKENIZE, ())
        if ("prompt" in given) == ("messages" in given):
            raise invalid("prompt", "Give one of 'prompt' and 'messages'.", "missing_required_parameter")
        model = self._service.model
        caller = record.of(request).caller
        tokens = await self._service.threads.run(caller.tenant, _encoded, model, given)
        strings = [model.tokenizer.token_bytes(i).decode("utf-8", "replace") for i in tokens]
        return web.json_response(
            {
                "tokens": tokens,
                "count": len(tokens),
                "max_model_len": self._service.context_of(caller),
                "token_strs": strings if given.get("return_token_strs") else None,
            }
        )

    async def detokenize(self, request: web.Request) -> web.Response:
        """``{prompt}``: the tokens' text, names of control tokens included."""
        given = await self._given(request, DETOKENIZE, ("tokens",))
        tokenizer = self._service.model.tokenizer
        for index, token in enumerate(given["tokens"]):
            if token >= tokenizer.vocab_size:
                name, last = f"tokens[{index}]", tokenizer.vocab_size - 1
                raise invalid(name, f"'{name}' must be between 0 and {last}.", "out_of_range")
        text = tokenizer.decode(given["tokens"], skip_special=False).decode("utf-8", "replace")
        return web.json_response({"prompt": text})

    async def _given(
        self, request: web.Request, table: Table, required: tuple[str, ...]
    ) -> Mapping[str, Any]:
        given = parameters.given_of(await jsonbody.read(request), required, table)
        checked = parameters.checked(given, table)
        if "model" in checked:
            self._service.models.find(checked["model"], record.of(request).caller.tenant)
        return checked


def _encoded(model: Model, given: Mapping[str, Any]) -> list[int]:
    if "prompt" in given:
        bos = given.get("add_special_tokens", True) and model.tokenizer.adds_bos
        return model.tokenizer.encode(given["prompt"], add_bos=bos)
    if model.chat is None:
        raise invalid("messages", f"The model '{model.name}' has no chat template.", "unsupported_model")
    try:
        text = model.chat.render(
            [message.for_template() for message in given["messages"]],
            add_generation_prompt=given.get("add_generation_prompt", True),
        )
    except ChatTemplateError as error:
        message = f"The conversation does not fit the model: {error}."
        raise unprocessable("messages", message, "template_refused") from None
    return model.tokenizer.encode(text, add_bos=given.get("add_special_tokens", False))

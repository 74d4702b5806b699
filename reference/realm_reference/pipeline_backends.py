"""What `realm pipeline run` generates with: a model in this process, or a server that speaks OpenAI's API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import aiohttp
from realm_abi.errors import AbiError

from realm_reference.model.errors import ChatTemplateError
from realm_reference.pipelines import Sampling, Step, StepFailed, Usage

if TYPE_CHECKING:
    from realm_reference.orchestration import GenerationRequest, Orchestrator

Generated = AsyncGenerator[str | Usage, None]


class LocalModel:
    """Steps on an orchestrator of this process, with leave for `draft_tokens` guesses at a time."""

    def __init__(self, orchestrator: Orchestrator, draft_tokens: int = 0) -> None:
        self._orchestrator = orchestrator
        self._draft_tokens = draft_tokens

    async def __call__(self, step: Step, prompt: str) -> Generated:
        """Continue a step's prompt; StepFailed says why that did not go."""
        from realm_reference.orchestration import Failed, Finished, Token

        request = await asyncio.to_thread(self._request, step, prompt)
        try:
            generation = self._orchestrator.submit(request)
        except AbiError as error:
            raise StepFailed(error.detail) from None
        try:
            async for event in generation:
                if isinstance(event, Token):
                    yield event.text
                elif isinstance(event, Failed):
                    raise StepFailed(event.message)
                elif isinstance(event, Finished):
                    yield Usage(event.prompt_tokens, event.completion_tokens, event.reason.value)
        finally:
            generation.cancel()

    def _request(self, step: Step, text: str) -> GenerationRequest:
        from realm_reference.orchestration import GenerationRequest

        model = self._orchestrator.model
        if step.chat and model.chat is not None:
            try:
                text = model.chat.render([{"role": "user", "content": text}])
            except ChatTemplateError as error:
                raise StepFailed(str(error)) from None
        prompt = self._orchestrator.prepare(text)
        room = model.context_length - prompt.tokens
        if not prompt.tokens or room <= 0:
            raise StepFailed(
                f"its prompt has {prompt.tokens} tokens; the context holds {model.context_length}"
            )
        sampling = step.sampling.within(room, self._draft_tokens)
        return GenerationRequest(prompt=prompt, adapter=step.adapter or "", **sampling)


class NoServer(Exception):
    """The server cannot be used; one line for the user."""


class RemoteServer:
    """Steps on a server, over /v1/chat/completions, or /v1/completions where a step is no chat."""

    def __init__(self, session: aiohttp.ClientSession, url: str, model: str) -> None:
        self._session = session
        self._url = url
        self._model = model

    async def __call__(self, step: Step, prompt: str) -> Generated:
        """Continue a step's prompt; StepFailed says what the server said."""
        path = "/v1/chat/completions" if step.chat else "/v1/completions"
        message = {"messages": [{"role": "user", "content": prompt}]} if step.chat else {"prompt": prompt}
        model = step.model or self._model
        named = f"{model}:{step.adapter}" if step.adapter else model
        body = {"model": named, **message, **_parameters(step.sampling)}
        status, answer = await request(self._session, "POST", self._url + path, body)
        if status != 200:
            raise StepFailed(f"the server answers {status}: {said(answer)}")
        try:
            choice, usage = answer["choices"][0], answer["usage"]
            yield str(choice["message"]["content"] if step.chat else choice["text"])
            yield Usage(
                int(usage["prompt_tokens"]), int(usage["completion_tokens"]), str(choice["finish_reason"])
            )
        except (KeyError, IndexError, TypeError, ValueError):
            raise StepFailed(f"{path} does not answer as OpenAI's does") from None


def _parameters(sampling: Sampling) -> dict[str, Any]:
    """The parameters of OpenAI's, and those beyond them that a pipeline has changed."""
    plain = Sampling()
    given: dict[str, Any] = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if sampling.seed is not None:
        given["seed"] = sampling.seed
    if sampling.stop:
        given["stop"] = list(sampling.stop)
    for name in ("top_k", "min_p", "repetition_penalty", "draft_tokens"):
        if getattr(sampling, name) != getattr(plain, name):
            given[name] = getattr(sampling, name)
    return given


async def first_model(session: aiohttp.ClientSession, url: str) -> str:
    """The model that a server lists first; NoServer says why there is none."""
    status, answer = await request(session, "GET", f"{url}/v1/models", None)
    if status != 200:
        raise NoServer(f"{url}/v1/models answers {status}: {said(answer)}; name the model with --model")
    try:
        return str(answer["data"][0]["id"])
    except (KeyError, IndexError, TypeError):
        raise NoServer(f"{url}/v1/models lists no model; name one with --model") from None


async def request(
    session: aiohttp.ClientSession, method: str, url: str, body: dict[str, Any] | None
) -> tuple[int, Any]:
    """Status and JSON of an answer; NoServer when there is no server."""
    try:
        async with session.request(method, url, json=body) as response:
            raw = await response.read()
            try:
                return response.status, json.loads(raw)
            except ValueError:
                return response.status, raw.decode("utf-8", "replace")
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise NoServer(f"no server answers at {url}: {error or type(error).__name__}") from None


def said(answer: Any) -> str:
    """What an error answer says, in one line."""
    error = answer.get("error") if isinstance(answer, dict) else None
    message = error.get("message") if isinstance(error, dict) else answer
    return " ".join(str(message).split())[:200]

"""From a valid request to what the orchestrator runs: the prompt rendered and counted, the limits checked."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from realm_reference.model.errors import ChatTemplateError
from realm_reference.orchestration import GenerationRequest, Orchestrator, Prompt
from realm_reference.orchestration.grammar import (
    Grammar,
    GrammarCompiler,
    GrammarError,
    json_grammar,
)
from realm_reference.orchestration.request import prompt_of_ids
from realm_reference.server.answers.call_syntax import SYNTAXES, CallSyntax
from realm_reference.server.errors import ApiError, invalid, unprocessable, unsupported
from realm_reference.server.requests.chat_request import ChatRequest
from realm_reference.server.requests.completion_request import CompletionRequest, PromptValue
from realm_reference.server.requests.parameters import TextRequest


class Preparer:
    """Prepares requests for one model. Its work grows with the prompt, so call it off the event loop."""

    def __init__(
        self, orchestrator: Orchestrator, default_max_tokens: int | None, draft_tokens: int = 0
    ) -> None:
        """`draft_tokens` is how many guesses a request may have, and has if it says nothing."""
        self._orchestrator = orchestrator
        self._model = orchestrator.model
        self._default_max_tokens = default_max_tokens
        self._draft_tokens = draft_tokens
        self._grammars = GrammarCompiler(self._model.tokenizer)

    def chat(self, chat: ChatRequest, tenant: str, context: int) -> GenerationRequest:
        """One generation that continues a conversation, within a context of `context` tokens.

        Raises ApiError 400 for what does not fit the model.
        """
        prompt = self._orchestrator.prepare(self._rendered(chat), tenant)
        if prompt.tokens == 0:
            raise invalid("messages", "The conversation has no tokens.")
        generation = self._generation(
            chat, prompt, tenant, self._max_tokens(chat, prompt, context, "messages")
        )
        return replace(generation, grammar=self._grammar(chat))

    def completion(self, asked: CompletionRequest, tenant: str, context: int) -> list[GenerationRequest]:
        """A generation for each prompt; as `chat` otherwise."""
        return [
            self._completion(asked, self._prompt(name, prompt, tenant), name, tenant, context)
            for name, prompt in _named(asked.prompt)
        ]

    def _completion(
        self, asked: CompletionRequest, prompt: Prompt, name: str, tenant: str, context: int
    ) -> GenerationRequest:
        max_tokens = self._max_tokens(asked, prompt, context, name)
        generation = self._generation(asked, prompt, tenant, max_tokens)
        return replace(generation, score_prompt=asked.echo and asked.top_logprobs is not None)

    def _prompt(self, name: str, value: PromptValue, tenant: str) -> Prompt:
        if isinstance(value, str):
            prompt = self._orchestrator.prepare(value, tenant)
        else:
            size = self._model.tokenizer.vocab_size
            if max(value) >= size:
                raise invalid(
                    name, f"'{name}' holds token {max(value)}; the last is {size - 1}.", "out_of_range"
                )
            prompt = prompt_of_ids(self._model.tokenizer, value)
        if prompt.tokens == 0:
            raise invalid(name, f"'{name}' has no tokens.")
        return prompt

    def _generation(
        self, request: TextRequest, prompt: Prompt, tenant: str, max_tokens: int
    ) -> GenerationRequest:
        return GenerationRequest(
            tenant=tenant,
            prompt=prompt,
            max_tokens=max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            min_p=request.min_p,
            repetition_penalty=request.repetition_penalty,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
            logit_bias=self._bias(request),
            logprobs=request.top_logprobs,
            seed=secrets.randbits(32) if request.seed is None else request.seed,
            stop=request.stop,
            draft_tokens=self.drafts(request.draft_tokens),
        )

    def drafts(self, wanted: int | None) -> int:
        """The guesses at a time of a request that wants so many, or says nothing; ApiError 400 for more than
        there may be.
        """
        most = self._draft_tokens
        if wanted is None or wanted <= most:
            return most if wanted is None else wanted
        if not most:
            raise unsupported(
                "draft_tokens", "'draft_tokens' is not supported by this server: it does not speculate."
            )
        message = f"'draft_tokens' may be at most {most} on this server."
        raise invalid("draft_tokens", message, "out_of_range")

    def _grammar(self, chat: ChatRequest) -> Grammar | None:
        """The form of the answer: the schema's first, so that an error is named after what has it."""
        grammar = None
        if chat.response_format is not None:
            grammar = self._compiled("response_format", partial(json_grammar, chat.response_format))
        if chat.tool_use.tools:
            syntax, tokenizer = self.call_syntax(chat), self._model.tokenizer
            assert syntax is not None  # or the tools had been refused
            written = partial(syntax.grammar, chat.tool_use, chat.response_format, tokenizer)
            return self._compiled("tools", written)
        return grammar

    def call_syntax(self, chat: ChatRequest) -> CallSyntax | None:
        """How the answer's calls of functions will be written; None where it may have none."""
        template = self._model.chat
        name = template.call_syntax if template is not None and chat.tool_use.tools else None
        return None if name is None else SYNTAXES[name]

    def _compiled(self, param: str, source: Callable[[], str]) -> Grammar:
        try:
            return self._grammars.compile(source())
        except GrammarError as error:
            message = f"'{param}' holds a schema that this server cannot keep: {error}."
            raise unprocessable(param, message, "unsupported_schema") from None

    def _check_tools(self, chat: ChatRequest) -> None:
        assert self._model.chat is not None
        if self._model.chat.call_syntax is not None:
            return
        why = f"the chat template of '{self._model.name}' has none that this server could read."
        if chat.tool_use.tools:
            raise unsupported("tools", f"'tools' is not supported by this server's model: {why}")
        for index, message in enumerate(chat.messages):
            if message.tool_calls:
                name = f"messages[{index}].tool_calls"
                raise unsupported(name, f"'{name}' is not supported by this server's model: {why}")

    def _bias(self, request: TextRequest) -> dict[int, float]:
        size = self._model.tokenizer.vocab_size
        for token in request.logit_bias:
            if token >= size:
                raise invalid(
                    "logit_bias",
                    f"'logit_bias' names token {token}; the model's tokens are 0 to {size - 1}.",
                    "out_of_range",
                )
        return dict(request.logit_bias)

    def _rendered(self, chat: ChatRequest) -> str:
        if self._model.chat is None:
            raise ApiError(
                400,
                f"The model '{self._model.name}' has no chat template; use /v1/completions.",
                param="model",
                code="unsupported_model",
            )
        self._check_tools(chat)
        tools = [tool.for_template() for tool in chat.tool_use.tools] or None
        try:
            return self._model.chat.render([one.for_template() for one in chat.messages], tools=tools)
        except ChatTemplateError as error:
            message = f"The conversation does not fit the model: {error}."
            raise unprocessable("messages", message, "template_refused") from None

    def _max_tokens(self, asked: TextRequest, prompt: Prompt, context: int, name: str) -> int:
        room = context - prompt.tokens
        wanted = asked.max_tokens
        if room < 0 or (room == 0 and wanted != 0) or (wanted is not None and wanted > room):
            more = f" and {wanted} more were asked for" if wanted is not None else ""
            raise invalid(
                name if room <= 0 else asked.max_tokens_name,
                f"The context holds {context} tokens; '{name}' has {prompt.tokens}{more}.",
                "context_length_exceeded",
            )
        if wanted is not None:
            return wanted
        return min(room, self._default_max_tokens or room)


def _named(prompts: Sequence[PromptValue]) -> list[tuple[str, PromptValue]]:
    """Prompts with the names of their places in the request."""
    if len(prompts) == 1:
        return [("prompt", prompts[0])]
    return [(f"prompt[{index}]", prompt) for index, prompt in enumerate(prompts)]


def choices_of(request: GenerationRequest, n: int) -> list[GenerationRequest]:
    """`n` times the request. Choice 0 has its seed, so that it is what n = 1 gives; the others have seeds
    made from it.
    """
    return [request, *(replace(request, seed=_derived(request.seed, index)) for index in range(1, n))]


def _derived(seed: int, index: int) -> int:
    digest = hashlib.sha256(f"{seed}:{index}".encode()).digest()
    return int.from_bytes(digest[:4], "little")

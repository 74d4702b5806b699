"""The MockServer's routes beside the chat: completions, embeddings, token ids. They answer at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from aiohttp import web

from realm_mocks.server.completions import answer_of, choices_of, chunks_of, parse_texts, stream_of
from realm_mocks.server.errors import invalid
from realm_mocks.server.generation import Generation
from realm_mocks.server.receiving import body_of
from realm_mocks.server.replies import Reply
from realm_mocks.server.request import ChatRequest, parse_body
from realm_mocks.server.tokens_api import detokenized, tokenized
from realm_mocks.server.variation import Variation


@dataclass(frozen=True)
class TextRoutes:
    """What they share with the chat: `check_model` of a request, `generate` a choice (chat, choice, number),
    and `respond`.
    """

    check_model: Callable[[web.Request, str], None]
    context_length: int
    variations: Sequence[Variation]
    numbers: Iterator[int]
    generate: Callable[[ChatRequest, int, int], Generation]
    respond: Callable[[web.Request, Reply], web.Response]
    stream_head: Callable[[web.Request, dict[str, str]], Reply]

    async def completions(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/completions."""
        raw = await body_of(request)
        for variation in self.variations:
            raw = variation.body(raw) if variation.body else raw
        texts, number = parse_texts(parse_body(raw)), next(self.numbers)
        self.check_model(request, texts.first.model)
        made = choices_of(texts, lambda chat, choice: self.generate(chat, choice, number))
        whole = answer_of(texts, [one for one, _ in made], [one for _, one in made], number)
        for variation in self.variations:
            whole = variation.texts(texts, whole) if variation.texts else whole
        if not texts.first.stream:
            return self.respond(request, Reply(200, whole))
        chunks = chunks_of(texts, whole)
        for variation in self.variations:
            chunks = variation.text_chunks(chunks) if variation.text_chunks else chunks
        return self.respond(request, replace(self.stream_head(request, {}), body=stream_of(chunks)))

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/embeddings: the scripted model makes none."""
        parse_body(await body_of(request))
        raise invalid("model", "The model makes no embeddings", "unsupported_model")

    async def tokenize(self, request: web.Request) -> web.StreamResponse:
        """POST /tokenize."""
        body = parse_body(await request.read())
        return self.respond(request, Reply(200, tokenized(body, self.context_length)))

    async def detokenize(self, request: web.Request) -> web.StreamResponse:
        """POST /detokenize."""
        return self.respond(request, Reply(200, detokenized(parse_body(await request.read()))))

"""Defects in what answers over the WebSocket say."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

from realm_mocks.server.generation import Generation
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.schedule import Schedule
from realm_mocks.server.variation import Variation
from realm_mocks.server.websocket.calls import Json
from realm_mocks.server.websocket.session import Running, Session
from realm_mocks.server.websocket.wire import Wire


class _PieceNull(Session):
    async def piece(self, call: Running, text: str, *, final: bool = False) -> None:
        if final and call.stream:
            await self.reply(call.id, "streaming", {"text": None, "index": call.index, "is_final": True})
        else:
            await super().piece(call, text, final=final)


class _StreamCountsPieces(Session):
    async def end(self, call: Running, generation: Generation) -> None:
        counted = (*generation.tokens, b"") if call.stream else generation.tokens
        await super().end(call, replace(generation, tokens=counted))


class _MaxTokensIgnored(Session):
    async def run(self, call: Running, request: ChatRequest) -> None:
        await super().run(call, replace(request, max_tokens=None))


class _StopIgnored(Session):
    async def run(self, call: Running, request: ChatRequest) -> None:
        await super().run(call, replace(request, stop=()))


class _SeedIgnored(Session):
    async def run(self, call: Running, request: ChatRequest) -> None:
        await super().run(call, replace(request, seed=None))


class _ReadsLatin1(Wire):
    def decoded(self, payload: bytes) -> str:
        return payload.decode("latin-1")


class _PromptLatin1(Session):
    make_wire = _ReadsLatin1


class _PromptUncounted(Session):
    def result(self, generation: Generation) -> Json:
        return {**super().result(generation), "prompt_tokens": 0}


class _TimeNegative(Session):
    """The times are taken the wrong way round."""

    async def reply(self, call_id: str, status: str, data: Json) -> None:
        turned = {"time_ms": -data["time_ms"]} if "time_ms" in data else {}
        await super().reply(call_id, status, {**data, **turned})


class _Probabilities(Session):
    """A probability in place of its logarithm."""

    async def piece(self, call: Running, text: str, *, final: bool = False) -> None:
        call.logprob = None if call.logprob is None else math.exp(call.logprob)
        await super().piece(call, text, final=final)


class _Buffered(Session):
    """The whole answer is made first and then sent in pieces."""

    async def piece(self, call: Running, text: str, *, final: bool = False) -> None:
        if not final:
            call.kept.append(text)
            return
        for kept in call.kept:
            await super().piece(call, kept)
            await asyncio.sleep(0)
        await super().piece(call, "", final=True)


def _defect(session: type[Session], name: str, sentence: str, source: str) -> Variation:
    return Variation(f"ws-{name}", sentence, source, session=session)


DEFECTS = (
    _defect(_PieceNull, "piece-null", "the last piece's text is null", "docs/websocket.md"),
    _defect(_StreamCountsPieces, "stream-counts-pieces", "a stream counts its messages", "realm-defects 23"),
    _defect(_MaxTokensIgnored, "max-tokens-ignored", "max_tokens does not arrive", "realm-defects 15"),
    _defect(_StopIgnored, "stop-ignored", "stop does not arrive", "realm-defects 15"),
    _defect(_SeedIgnored, "seed-ignored", "the seed does not arrive", "realm-defects 15"),
    _defect(_PromptLatin1, "prompt-latin1", "messages are read as Latin-1", "RFC 6455, section 8.1"),
    _defect(_PromptUncounted, "prompt-uncounted", "prompt_tokens is 0", "realm-defects 23"),
    _defect(_TimeNegative, "time-negative", "time_ms is below 0", "clause ws.values"),
    _defect(_Probabilities, "logprob-positive", "logprob is a probability", "clause ws.logprob"),
    Variation(
        "ws-buffered",
        "the whole answer is made before its first piece is sent",
        "realm-defects 26",
        session=_Buffered,
        schedule=Schedule(ttft=0.01, itl=0.01),
    ),
)

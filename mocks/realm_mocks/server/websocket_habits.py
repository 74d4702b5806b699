"""Innocent habits on the WebSocket: what a server may do differently without breaking a clause."""

from __future__ import annotations

from realm_mocks.server.generation import Generation
from realm_mocks.server.variation import Variation
from realm_mocks.server.websocket import frames
from realm_mocks.server.websocket.calls import Json, Refused
from realm_mocks.server.websocket.session import Running, Session
from realm_mocks.server.websocket.wire import Wire


class _InFragments(Wire):
    """Each message comes in frames of a few bytes, which cut characters, with a ping among them."""

    def encoded(self, opcode: int, payload: bytes) -> bytes:
        if opcode != frames.TEXT:
            return super().encoded(opcode, payload)
        parts = [payload[start : start + 11] for start in range(0, len(payload), 11)]
        raw = b""
        for number, part in enumerate(parts):
            whole = frames.encode(frames.TEXT if number == 0 else frames.CONTINUATION, part)
            last = number == len(parts) - 1
            raw += whole if last else bytes([whole[0] & 0x7F]) + whole[1:]
            raw += super().encoded(frames.PING, b"?") if number == 1 and not last else b""
        return raw


class _Fragmented(Session):
    make_wire = _InFragments


class _ExtraFields(Session):
    async def reply(self, call_id: str, status: str, data: Json) -> None:
        message = {"id": call_id, "status": status, "data": {**data, "trace": "x"}, "ts": 1}
        await self.wire.send(message)


class _FinalWithText(Session):
    """The last piece of a stream has the last text; the end tells the counts alone."""

    async def piece(self, call: Running, text: str, *, final: bool = False) -> None:
        held, call.held = call.held, text
        if held or final:
            await super().piece(call, held, final=final)

    def result(self, generation: Generation) -> Json:
        return {**super().result(generation), "cost_usd": 0.0001}


class _ClosesOnNonsense(Session):
    """What is no JSON ends the connection: whoever sends it speaks another protocol."""

    def parsed(self, text: str) -> Json:
        try:
            return super().parsed(text)
        except Refused:
            self.wire.close(1002, "not JSON")
            raise


HABITS = (
    Variation("ws-fragments", "small frames, pings between", "RFC 6455, 5.4", session=_Fragmented),
    Variation("ws-extra-fields", "replies with fields of one's own", "several servers", session=_ExtraFields),
    Variation("ws-final-with-text", "the final piece has text", "Realm's protocol", session=_FinalWithText),
    Variation("ws-closes-on-nonsense", "no JSON: closed", "docs/websocket.md", session=_ClosesOnNonsense),
)

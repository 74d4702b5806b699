"""Defects of the WebSocket protocol: each a session, or a wire under it, that does one thing differently."""

from __future__ import annotations

import asyncio
from typing import Any

from realm_mocks.server.generation import Generation
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.schedule import Schedule
from realm_mocks.server.variation import Variation
from realm_mocks.server.websocket.calls import Json, Refused
from realm_mocks.server.websocket.session import TENANT, Running, Session

SLOW = Schedule(ttft=0.01, itl=0.01)
"""Slow enough that calls overlap, quick enough for a score."""


class _WelcomeBare(Session):
    async def welcome(self) -> None:
        await self.wire.send({"status": "connected"})


class _WelcomeBeforeAuth(Session):
    async def let_in(self) -> bool:
        if self.house.api_key is not None:
            await self.wire.send({"type": "auth_required", "message": "Send your key."})
            await self.wire.send({"status": "connected", "version": "mock", "tenant_id": "default"})
            text = await self.wire.message()
            if not self.is_key(text):
                return await self.turn_away("The key is not valid.")
            await self.wire.send({"type": "auth_success", "tenant_id": TENANT})
        return True


class _AuthOtherTenant(Session):
    async def welcome(self) -> None:
        await self.wire.send({"status": "connected", "version": "mock", "tenant_id": "default"})


class _AuthAnyKey(Session):
    def is_key(self, text: str) -> bool:
        return '"api_key"' in text


class _AuthFailedStays(Session):
    async def turn_away(self, reason: str) -> bool:
        await self.wire.send({"type": "auth_failed", "error": reason})
        return await self.let_in()


class _CallBeforeAuth(Session):
    async def let_in(self) -> bool:
        if self.house.api_key is not None:
            await self.wire.send({"type": "auth_required", "message": "Send your key."})
            while not self.is_key(text := await self.wire.message()):
                await self.take(text)
            await self.wire.send({"type": "auth_success", "tenant_id": TENANT})
        return True


class _AuthNoTimeout(Session):
    def auth_seconds(self) -> float | None:
        return None


class _TenantConfused(Session):
    def check_tenant(self, tenant: Any) -> None:
        return None


class _ResultNoCount(Session):
    def result(self, generation: Generation) -> Json:
        return {"text": generation.text, "prompt_tokens": generation.prompt_tokens}


class _CostMadeUp(Session):
    def result(self, generation: Generation) -> Json:
        return {**super().result(generation), "cost_usd": None}


class _IdTrimmed(Session):
    async def reply(self, call_id: str, status: str, data: Json) -> None:
        await super().reply(call_id.strip(), status, data)


class _IdLowered(Session):
    async def reply(self, call_id: str, status: str, data: Json) -> None:
        await super().reply(call_id.lower(), status, data)


class _IdTakenTwice(Session):
    def check_id(self, call_id: str | None) -> None:
        return None


class _StreamIgnored(Session):
    async def piece(self, call: Running, text: str, *, final: bool = False) -> None:
        return None


class _IndexGap(Session):
    async def piece(self, call: Running, text: str, *, final: bool = False) -> None:
        if not text:
            call.index += 1  # a token without text of its own is counted, too
        await super().piece(call, text, final=final)


class _FinalTwice(Session):
    async def end(self, call: Running, generation: Generation) -> None:
        await self.piece(call, "", final=True)
        await super().end(call, generation)


class _FinalNever(Session):
    async def piece(self, call: Running, text: str, *, final: bool = False) -> None:
        if not final:
            await super().piece(call, text)


class _StreamDrops(Session):
    async def piece(self, call: Running, text: str, *, final: bool = False) -> None:
        await super().piece(call, "" if call.index == 3 and not final else text, final=final)
        call.index += call.index == 3 and not call.stream


class _ReplyAfterComplete(Session):
    async def end(self, call: Running, generation: Generation) -> None:
        await super().end(call, generation)
        await self.reply(call.id, "complete", {"text": generation.text})


class _OneAtATime(Session):
    async def take(self, text: str) -> None:
        await super().take(text)
        for call in list(self.calls.values()):
            assert call.task is not None
            await call.task


class _ChunksMixed(Session):
    async def piece(self, call: Running, text: str, *, final: bool = False) -> None:
        other = next((c for c in self.calls.values() if c.id != call.id and c.stream), call)
        mixed = call.index == 2 and not final
        await super().piece(other if mixed else call, text, final=final)
        call.index += mixed and other is not call


class _CancelIgnored(Session):
    def cancel(self, call_id: str) -> bool:
        return call_id in self.calls


class _CancelledAsComplete(Session):
    async def cancelled(self, call: Running) -> None:
        await self.reply(call.id, "complete", {"text": call.text, "tokens_generated": call.index})


class _CancelEarlySilent(Session):
    """A call that is cancelled before its first piece is forgotten without a word."""

    async def cancelled(self, call: Running) -> None:
        if call.index:
            await super().cancelled(call)


class _CancelUnknownSilent(Session):
    async def quick(self, call_id: str, function: str, params: Json) -> Json:
        if function == "cancel" and params["id"] not in self.calls:
            await asyncio.sleep(60)
        return await super().quick(call_id, function, params)


class _UnknownFunctionDone(Session):
    async def refuse(self, call_id: str | None, refused: Refused) -> None:
        if refused.param == "function" and call_id is not None:
            await self.reply(call_id, "complete", {"text": ""})
        else:
            await super().refuse(call_id, refused)


class _PromptOptional(Session):
    def check_params(self, function: str, params: Json) -> None:
        if function == "generate":
            params.setdefault("prompt", "Hello")
        super().check_params(function, params)


class _ErrorsSilent(Session):
    async def refuse(self, call_id: str | None, refused: Refused) -> None:
        return None


class _ParamsUnchecked(Session):
    def check_params(self, function: str, params: Json) -> None:
        if function == "generate" and isinstance(params.get("prompt"), str):
            kept = {name: params.get(name) for name in ("prompt", "model", "stream")}
            super().check_params(function, kept)
            sound = {"max_tokens": int, "temperature": int | float, "top_p": int | float}
            for name, kind in sound.items():
                if not isinstance(params.get(name, 0), kind):
                    del params[name]
        else:
            super().check_params(function, params)


class _AnyModel(Session):
    def check_params(self, function: str, params: Json) -> None:
        params.pop("model", None)
        super().check_params(function, params)


class _ErrorNoCode(Session):
    async def refuse(self, call_id: str | None, refused: Refused) -> None:
        error = {"message": str(refused), "details": {"param": refused.param}}
        if refused.code != "DISPATCH_ERROR":
            error["code"] = refused.code
        await self.wire.send({"id": call_id, "status": "error", "error": error})


class _IdUnknown(Session):
    async def refuse(self, call_id: str | None, refused: Refused) -> None:
        await super().refuse(call_id or "unknown", refused)


class _ErrorCloses(Session):
    async def refuse(self, call_id: str | None, refused: Refused) -> None:
        await super().refuse(call_id, refused)
        if refused.code == "DISPATCH_ERROR":
            self.wire.close(1011, "the call failed")


class _MetadataEmpty(Session):
    async def quick(self, call_id: str, function: str, params: Json) -> Json:
        return {} if function == "metadata" else await super().quick(call_id, function, params)


class _PipelineMadeUp(Session):
    def check_params(self, function: str, params: Json) -> None:
        if function == "pipeline":
            params["pipeline"] = "echo"
        super().check_params(function, params)


class _LeavePoisons(Session):
    async def run(self, call: Running, request: ChatRequest) -> None:
        self.house.notes["begun"] = self.house.notes.get("begun", 0) + 1
        if self.house.notes["begun"] - self.house.notes.get("ended", 0) > 4:
            self.calls.pop(call.id, None)
            await self.wire.send(
                {"id": call.id, "status": "error", "error": {"code": "INTERNAL_ERROR", "message": "no slot"}}
            )
        else:
            await super().run(call, request)

    async def end(self, call: Running, generation: Generation) -> None:
        self.house.notes["ended"] = self.house.notes.get("ended", 0) + 1
        await super().end(call, generation)

    def cancel(self, call_id: str) -> bool:
        self.house.notes["ended"] = self.house.notes.get("ended", 0) + (call_id in self.calls)
        return super().cancel(call_id)


def _session(session: type[Session], name: str, sentence: str, source: str) -> Variation:
    return Variation(f"ws-{name}", sentence, source, session=session)


def _slow(session: type[Session], name: str, sentence: str, source: str) -> Variation:
    return Variation(f"ws-{name}", sentence, source, session=session, schedule=SLOW)


OWN = "docs/websocket.md"
DEFECTS = (
    _session(_WelcomeBare, "welcome-bare", "the welcome names neither version nor tenant", OWN),
    _session(_WelcomeBeforeAuth, "welcome-before-auth", "the welcome comes before the key", OWN),
    _session(_AuthOtherTenant, "auth-other-tenant", "the welcome names another tenant than the key's", OWN),
    _session(_AuthAnyKey, "auth-any-key", "any key opens", "realm-defects 20"),
    _session(_AuthFailedStays, "auth-failed-stays", "after a wrong key the connection stays open", OWN),
    _session(_CallBeforeAuth, "call-before-auth", "calls are answered before the key", OWN),
    _session(_AuthNoTimeout, "auth-no-timeout", "a client without a key is never turned away", OWN),
    _session(_TenantConfused, "tenant-confused", "a call may name any tenant", "realm-defects 37"),
    _session(_ResultNoCount, "result-no-count", "the result has no token count", "realm-defects 23"),
    _session(_CostMadeUp, "cost-null", "a cost that is not known is null", OWN),
    _session(_IdTrimmed, "id-trimmed", "ids come back without their spaces", OWN),
    _session(_IdLowered, "id-lowered", "ids come back in lower case", OWN),
    _slow(_IdTakenTwice, "id-taken-twice", "an id that runs is answered for another call", OWN),
    _session(_StreamIgnored, "stream-ignored", "`stream: true` is ignored", "realm-defects 32"),
    _session(_IndexGap, "index-gap", "indexes count tokens that bring no text", OWN),
    _session(_FinalTwice, "final-twice", "is_final comes twice", OWN),
    _session(_FinalNever, "final-never", "is_final never comes", OWN),
    _session(_StreamDrops, "stream-drops", "a piece of the stream is lost", "realm-defects 17"),
    _session(_ReplyAfterComplete, "reply-after-complete", "a second reply follows the end", OWN),
    _slow(_OneAtATime, "one-at-a-time", "one call at a time per connection", "realm-defects 33"),
    _slow(_ChunksMixed, "chunks-mixed", "a piece comes under another call's id", OWN),
    _slow(_CancelIgnored, "cancel-ignored", "cancel stops nothing", "realm-defects 33"),
    _slow(_CancelledAsComplete, "cancelled-as-complete", "a cancelled call ends as if done", OWN),
    _slow(_CancelEarlySilent, "cancel-early-silent", "a call that is cancelled at once never ends", OWN),
    _session(_CancelUnknownSilent, "cancel-unknown-silent", "cancel for an ended call hangs", OWN),
    _session(_UnknownFunctionDone, "unknown-function-done", "unknown functions succeed", "realm-defects 31"),
    _session(_PromptOptional, "prompt-optional", "a missing prompt is made up", "realm-defects 31"),
    _session(_ErrorsSilent, "errors-silent", "errors send nothing and the client hangs", "realm-defects 32"),
    _session(_ParamsUnchecked, "params-unchecked", "wrong parameters are dropped", "realm-defects 15"),
    _session(_AnyModel, "any-model", "unknown models are accepted", "realm-defects 24"),
    _session(_ErrorNoCode, "error-no-code", "errors have no code", "realm-defects 22"),
    _session(_IdUnknown, "id-unknown", 'malformed calls are answered with id "unknown"', "realm-defects 33"),
    _session(_ErrorCloses, "error-closes", "an error ends the connection", OWN),
    _session(_MetadataEmpty, "metadata-empty", "metadata says nothing", "realm-defects 29"),
    _session(_PipelineMadeUp, "pipeline-made-up", "unknown pipelines have answers", "realm-defects 31"),
    _slow(_LeavePoisons, "leave-loses-slot", "clients that leave take a slot each", "realm-defects 28"),
)

"""Defects under the WebSocket protocol: in the upgrade and in the frames."""

from __future__ import annotations

from realm_mocks.server.variation import Variation
from realm_mocks.server.websocket import frames
from realm_mocks.server.websocket.frames import Frame, FrameFault, FrameReader
from realm_mocks.server.websocket.session import Session
from realm_mocks.server.websocket.wire import Wire


class _AcceptWrong(Wire):
    def accept(self, key: str) -> str:
        return super().accept(key.lower())


class _MaskedFrames(Wire):
    def encoded(self, opcode: int, payload: bytes) -> bytes:
        raw = super().encoded(opcode, payload)
        head = len(raw) - len(payload)
        return raw[:1] + bytes([raw[1] | 0x80]) + raw[2:head] + b"\0\0\0\0" + payload


class _UnmaskedAccepted(Wire):
    def check(self, frame: Frame) -> None:
        super().check(Frame(frame.fin, frame.reserved, frame.opcode, True, frame.payload))


class _WrongCloseCode(Wire):
    def close(self, code: int, reason: str = "") -> None:
        super().close(1011 if code == 1002 else code, reason)


class _Utf8Replaced(Wire):
    def decoded(self, payload: bytes) -> str:
        return payload.decode("utf-8", "replace")


class _BinarySilent(Wire):
    def binary(self, payload: bytes) -> str | None:
        return None


class _TooBigWaits(Wire):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._reader = FrameReader(max_message=1 << 62)


class _PongEmpty(Wire):
    def control(self, frame: Frame) -> None:
        if frame.opcode == frames.PING:
            self.frame(frames.PONG, b"")
        else:
            super().control(frame)


class _GoodbyeIgnored(Wire):
    def control(self, frame: Frame) -> None:
        if frame.opcode != frames.CLOSE:
            super().control(frame)


class _FragmentsLost(Wire):
    """A control frame in between throws away what had come of the message."""

    def control(self, frame: Frame) -> None:
        self._parts = b""
        super().control(frame)


class _FaultsForAll(Session):
    """One client's faulty frame closes every connection."""

    async def serve(self):  # type: ignore[no-untyped-def]
        sessions = self.house.notes.setdefault("sessions", [])
        sessions.append(self)
        original = self.wire.take

        def take(frame: Frame | FrameFault) -> str | None:
            try:
                return original(frame)
            except FrameFault:
                for session in sessions:
                    if session is not self:
                        session.wire.feed_eof()
                raise

        self.wire.take = take  # type: ignore[method-assign]
        return await super().serve()


def _wire(wire: type[Wire], name: str, sentence: str, source: str) -> Variation:
    session = type(f"_With{wire.__name__}", (Session,), {"make_wire": wire})
    return Variation(f"ws-{name}", sentence, source, session=session)


DEFECTS = (
    _wire(_AcceptWrong, "accept-wrong", "Sec-WebSocket-Accept is another key's", "RFC 6455, section 4.2.2"),
    _wire(_MaskedFrames, "masked-frames", "the server masks its frames", "RFC 6455, section 5.1"),
    _wire(_UnmaskedAccepted, "unmasked-accepted", "frames without a mask are read", "aiohttp's parser"),
    _wire(_WrongCloseCode, "wrong-close-code", "protocol errors close with 1011", "RFC 6455, section 7.4.1"),
    _wire(_Utf8Replaced, "utf8-replaced", "what is not UTF-8 is replaced", "RFC 6455, section 8.1"),
    _wire(_BinarySilent, "binary-silent", "binary messages are dropped without a word", "realm-defects 33"),
    _wire(_TooBigWaits, "too-big-waits", "frames of any length are waited for", "realm-defects 14"),
    _wire(_PongEmpty, "pong-empty", "pongs carry nothing", "RFC 6455, section 5.5.3"),
    _wire(_GoodbyeIgnored, "goodbye-ignored", "close frames are not answered", "RFC 6455, section 5.5.1"),
    _wire(_FragmentsLost, "fragments-lost", "a ping inside a message loses it", "RFC 6455, section 5.4"),
    Variation(
        "ws-faults-for-all",
        "one client's faulty frame closes all connections",
        "realm-defects 12",
        session=_FaultsForAll,
    ),
)

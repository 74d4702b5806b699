"""Planted defects round the guest: what is loaded, its limits, the request, the text, the failures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from realm_abi.errors import ErrorCode
from realm_abi.guests import guest_bytes
from realm_abi.requests import OptionsV2
from realm_abi.sandbox import GuestFault, GuestModule, Instance, Limits, ModuleRejected

from realm_mocks.host.defects import planted
from realm_mocks.host.probed import Functions, ProbedMock
from realm_mocks.host.script import Hashed, Logits, Moment


def _takes(*reasons: str) -> type[ProbedMock]:
    """A host that takes modules although their refusal has one of these words in it."""

    class Host(ProbedMock):
        def load(self, wasm: bytes) -> GuestModule:
            try:
                return super().load(wasm)
            except ModuleRejected as rejected:
                if any(reason in str(rejected) for reason in reasons):
                    return super().load(guest_bytes("v2"))
                raise

    return Host


planted("stubs-unknown-imports", "an import that nobody knows answers 0", "10", "LOAD-001")(
    _takes("unknown import")
)
planted("takes-any-type", "an import of another type is linked all the same", "10", "LOAD-003")(
    _takes("has the signature")
)
planted("takes-a-mix", "a module may speak both versions", "8", "LOAD-004")(_takes("mixes versions"))
planted("needs-no-exports", "missing exports are noticed at the first request", "40", "LOAD-005")(
    _takes("does not export")
)
planted("takes-no-modules-for-modules", "what is no core module is noticed later", "40", "LOAD-007")(
    _takes("component", "not a WebAssembly", "not valid", "truncated")
)


@planted("refuses-without-a-word", "a refusal does not say why", "40", "LOAD-001")
class _Silent(ProbedMock):
    def load(self, wasm: bytes) -> GuestModule:
        try:
            return super().load(wasm)
        except ModuleRejected:
            raise ModuleRejected("bad module") from None


@planted("no-epochs", "a guest that loops is never ended", "11", "CONTAIN-001")
class _NoEpochs(ProbedMock):
    limits = Limits(memory_bytes=32 << 20, guest_seconds=6.0)
    """More than the suite waits for, and still an end, so that the process lives on."""


@planted("no-memory-cap", "a guest may have all 4 GiB", "11", "CONTAIN-006")
class _NoCap(ProbedMock):
    limits = Limits(memory_bytes=1 << 32, guest_seconds=5.0)


@planted("faults-are-answers", "a guest that trapped is told as an empty answer", "16, 31", "CONTAIN-003")
class _FaultsAreAnswers(ProbedMock):
    def complete(self, prompt: str, **params: Any) -> tuple[str, str]:
        text, _ = super().complete(prompt, **params)
        return text, ""


@planted("errors-are-answers", "an error of generate is told as an empty answer", "16, 31", "CONTAIN-012")
class _ErrorsAreAnswers(ProbedMock):
    def answer(self, code: ErrorCode) -> tuple[str, str]:
        del code
        return "", ""


@planted("dies-of-a-trap", "after a guest that trapped all requests fail", "12", "CONTAIN-003")
class _Dies(ProbedMock):
    dead = False

    def complete(self, prompt: str, **params: Any) -> tuple[str, str]:
        if self.dead:
            return "", "500: the lock is poisoned"
        text, failure = super().complete(prompt, **params)
        self.dead = "trap" in failure
        return text, failure


@planted("neighbours-are-heard", "logits depend on who else is running", "8", "ISOLATE-001")
class _Neighbours(ProbedMock):
    def __init__(self, wasm: bytes) -> None:
        super().__init__(wasm)
        self._running = 0
        self._lock = threading.Lock()

    def run(self, instance: Instance, prompt: str, options: OptionsV2) -> str | None:
        with self._lock:
            self._running += 1
        try:
            return super().run(instance, prompt, options)
        finally:
            with self._lock:
                self._running -= 1

    def functions(self) -> Functions:
        made = super().functions()
        plain = made.logits

        def heard(tokens: list[int]) -> Logits:
            return np.asarray(plain(tokens) + np.float32(self._running - 1), np.float32)

        made.logits = heard  # type: ignore[method-assign]
        return made


def _asks(*lost: str) -> type[ProbedMock]:
    """A host that loses fields of the request."""

    class Host(ProbedMock):
        def options(self, asked: OptionsV2) -> OptionsV2:
            kept = super().options(asked).items()
            return cast(OptionsV2, {name: value for name, value in kept if name not in lost})

    return Host


planted("loses-max-tokens", "max_tokens does not reach the guest", "15", "REQUEST-002")(_asks("max_tokens"))
planted("loses-temperature", "temperature does not reach the guest", "15", "REQUEST-002")(
    _asks("temperature")
)
planted("loses-top-p", "top_p does not reach the guest", "15", "REQUEST-003")(_asks("top_p"))
planted("loses-the-seed", "seed does not reach the guest", "15", "REQUEST-003")(_asks("seed"))
planted("loses-stop-strings", "stop strings do not reach the guest", "15", "REQUEST-004")(
    _asks("stop_strings")
)
planted("tells-no-end", "a v1 guest is not told the end-of-sequence token", "16", "REQUEST-005")(
    _asks("stop_tokens")
)


@planted("prompt-is-ascii", "characters of the prompt are replaced", "17", "REQUEST-001")
class _Ascii(ProbedMock):
    def prompt(self, text: str) -> str:
        return text.encode("ascii", "replace").decode()


@planted("echoes-the-prompt", "the answer begins with the prompt", "16", "REQUEST-007")
class _Echo(ProbedMock):
    def run(self, instance: Instance, prompt: str, options: OptionsV2) -> str | None:
        self.asked = prompt
        return super().run(instance, prompt, options)

    def finish(self, functions: Functions, returned: str | None) -> str:
        return self.asked.replace("[probe", "") + super().finish(functions, returned)


def _says(change: str) -> type[ProbedMock]:
    """A host that changes the texts that a guest hands on."""

    class Host(ProbedMock):
        def finish(self, functions: Functions, returned: str | None) -> str:
            texts = functions.texts
            functions.texts = _CHANGES[change](texts)
            return super().finish(functions, returned)

    return Host


def _capped(texts: Sequence[str]) -> list[str]:
    """The first 10 KiB, and the report that the suite needs to see anything at all."""
    whole = "".join(texts)
    begin = whole.rfind("[probe ")
    return [whole[:begin][: 10 << 10], whole[begin:]]


_CHANGES: dict[str, Callable[[Sequence[str]], list[str]]] = {
    "capped": _capped,
    "cut": lambda texts: [text.partition("\0")[0] for text in texts],
    "trimmed": lambda texts: [text.strip() for text in texts],
    "doubled": lambda texts: [text for text in texts for _ in range(1 if "probe" in text else 2)],
    "dropped": lambda texts: [text.replace("\U0001f30d", "") for text in texts],
}
planted("caps-the-output", "10 KiB of text are kept", "13", "REQUEST-007")(_says("capped"))
planted("nul-ends-the-text", "a NUL cuts the text", "13", "REQUEST-008")(_says("cut"))
planted("trims-pieces", "spaces at the ends of a token's text are lost", "17", "REQUEST-009")(
    _says("trimmed")
)
planted("repeats-pieces", "a token's text is handed on twice", "17", "REQUEST-007")(_says("doubled"))
planted("loses-wide-characters", "characters of four bytes are lost", "17", "REQUEST-009")(_says("dropped"))


class _LastToken(Hashed):
    def logits(self, moment: Moment) -> Logits:
        last = Moment(moment.tokens[-1:], moment.prompt_length, moment.vocab_size)
        return super().logits(last)


@planted("no-context-at-all", "logits depend on the last token alone", "7", "EFFECT-002")
class _NoContextAtAll(ProbedMock):
    script = _LastToken()


@planted("size-beyond-the-struct", "the size of a request is that of a later version", "15", "REQUEST-006")
class _Larger(ProbedMock):
    def options(self, asked: OptionsV2) -> OptionsV2:
        return cast(OptionsV2, {**super().options(asked), "size": 96})


@planted("start-has-no-limit", "a start function may run as long as it likes", "11", "LOAD-014")
class _LaxStart(ProbedMock):
    lax = Limits(memory_bytes=32 << 20, guest_seconds=6.0)
    """More than the suite waits for, and still an end."""

    def complete(self, prompt: str, **params: Any) -> tuple[str, str]:
        try:
            self.runtime().instantiate(self.guest, self.functions(), self.lax).close()
        except GuestFault as fault:
            return "", str(fault)
        return super().complete(prompt, **params)


@planted("one-at-a-time", "a request is refused while another guest runs", "11", "CONTAIN-011")
class _OneAtATime(ProbedMock):
    def __init__(self, wasm: bytes) -> None:
        super().__init__(wasm)
        self._free = threading.Lock()

    def complete(self, prompt: str, **params: Any) -> tuple[str, str]:
        if not self._free.acquire(blocking=False):
            return "", "503: busy"
        try:
            return super().complete(prompt, **params)
        finally:
            self._free.release()

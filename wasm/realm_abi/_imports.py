"""An instance's calls of its host: guarded, timed, cancellable, and how one of them ended the guest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import wasmtime

from realm_abi import _fibers, _wasmtime
from realm_abi._epochs import Allowance
from realm_abi.contract import Function, load_contract
from realm_abi.errors import ErrorCode
from realm_abi.guard import Begun, Guarded, Raw, begin, bind, unsupported
from realm_abi.hostapi import Dimensions, HostTrap
from realm_abi.steps import Answer, Steps, settled

Wrap = Callable[[Function, Guarded], Guarded]
"""Stands between the sandbox and a guarded host function: to record, to inject faults, to watch windows."""


ENDED = "the host ends the guest"


class Imports:
    """The imports of one instance, bound to one host.

    `memory` is None until the instance has started. After a call of the guest that failed, `trap_message` or
    `escaped` says what a host function did to end it, if one did.
    """

    def __init__(self, allowance: Allowance, mailbox: _fibers.Mailbox | None) -> None:
        """With a `mailbox` the guest runs on a fiber, and there it waits for what functions answer later."""
        self.memory: _wasmtime.GuestMemory | None = None
        self.last_answer = 0
        self.trap_message = ""
        self.escaped: BaseException | None = None
        self._allowance = allowance
        self._mailbox = mailbox
        self._callbacks: list[object] = []

    def define(
        self,
        linker: wasmtime.Linker,
        imports: Mapping[str, wasmtime.FuncType],
        host: Dimensions,
        wrap: Wrap | None,
    ) -> None:
        """Defines a module's imports: the host's methods of these names, `unsupported` where it has none."""
        contract = load_contract()
        for name, functype in imports.items():
            function = contract.imports[name]
            method = getattr(host, name, None)
            begun: Begun = unsupported if method is None else begin(function, method, host)
            if wrap:
                begun = wrap(function, unsupported if method is None else bind(function, method, host))
            place = (linker, contract.import_module, name, function.wasm_params, functype)
            later = self._mailbox is not None and function.blocks
            call = self._call_of(function, begun, later=later)
            self._callbacks.append(
                _fibers.define(*place, call, self._mailbox)
                if later and self._mailbox
                else _wasmtime.define(*place, call)
            )

    def overdue(self) -> str:
        """Asked while the guest computes: why it has to end, or nothing."""
        try:
            return self._allowance.overdue()
        except BaseException as error:  # an interrupt of the main thread, say
            self.escaped = error
        return ENDED

    def close(self) -> None:
        """Lets go of the host. The guest must not run any more."""
        self._callbacks.clear()

    def _call_of(self, function: Function, begun: Begun, *, later: bool) -> Callable[[list[Raw]], Any]:
        allowance, works_cancelled, cancelled = self._allowance, function.cleanup, int(ErrorCode.cancelled)

        def call(raw: list[Raw]) -> _fibers.Started:
            try:
                if self.memory is None:
                    raise HostTrap("an import was called before the module had started")
                refused = allowance.cancelled and not works_cancelled
                answer: Answer = cancelled if refused else begun(self.memory, *raw)
                if later and not isinstance(answer, int):
                    return self._rest(answer)
                answer = settled(answer)
                self.last_answer = answer
                allowance.begin()
                return answer
            except BaseException as error:
                return self._ended_by(error)

        return call

    def _rest(self, steps: Steps[int]) -> Steps[int | str]:
        """The rest of a call that takes long."""
        try:
            self.last_answer = yield from steps
            self._allowance.begin()
            return self.last_answer
        except GeneratorExit:
            raise
        except BaseException as error:
            return self._ended_by(error)

    def _ended_by(self, error: BaseException) -> str:
        """What a host function raised must not cross wasm's frames; the instance raises it beyond them."""
        if isinstance(error, HostTrap):
            self.trap_message = str(error)
        else:
            self.escaped = error
        return ENDED

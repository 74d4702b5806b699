"""An instance's calls of its host: guarded, timed, cancellable, and how one of them ended the guest."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import wasmtime

from realm_abi import _wasmtime
from realm_abi._epochs import Allowance
from realm_abi.contract import Function, load_contract
from realm_abi.errors import ErrorCode
from realm_abi.guard import Guarded, Raw, bind, unsupported
from realm_abi.hostapi import Dimensions, HostTrap

Wrap = Callable[[Function, Guarded], Guarded]
"""Stands between the sandbox and a guarded host function: to record, to inject faults, to watch windows."""


ENDED = "the host ends the guest"


class Imports:
    """The imports of one instance, bound to one host.

    `memory` is None until the instance has started. After a call of the guest that failed, `trap_message` or
    `escaped` says what a host function did to end it, if one did.
    """

    def __init__(self, allowance: Allowance) -> None:
        self.memory: _wasmtime.GuestMemory | None = None
        self.last_answer = 0
        self.trap_message = ""
        self.escaped: BaseException | None = None
        self._allowance = allowance
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
            guarded = unsupported if method is None else bind(function, method, host)
            call = self._call_of(function, wrap(function, guarded) if wrap else guarded)
            self._callbacks.append(
                _wasmtime.define(linker, contract.import_module, name, function.wasm_params, functype, call)
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

    def _call_of(self, function: Function, guarded: Guarded) -> _wasmtime.HostCall:
        allowance, works_cancelled, cancelled = self._allowance, function.cleanup, int(ErrorCode.cancelled)

        def call(raw: list[Raw]) -> int | str:
            try:
                if self.memory is None:
                    raise HostTrap("an import was called before the module had started")
                if allowance.cancelled and not works_cancelled:
                    answer = cancelled
                else:
                    answer = guarded(self.memory, *raw)
                self.last_answer = answer
                allowance.begin()
                return answer
            except HostTrap as trap:
                self.trap_message = str(trap)
            except (
                BaseException
            ) as error:  # it must not cross wasm's frames; the instance raises it beyond them
                self.escaped = error
            return ENDED

        return call

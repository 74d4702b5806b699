"""What a contract consists of, as frozen data; `contract` reads it from the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from realm_abi.structs import Struct, element_size

Term = str | int
Kind = Literal["u32", "f32", "flags", "handle", "text", "in", "out", "struct"]


@dataclass(frozen=True, slots=True)
class Code:
    """A named number with its meaning: an error or a finish reason."""

    name: str
    code: int
    doc: str


@dataclass(frozen=True, slots=True)
class Param:
    """One value that a function takes, and the raw wasm parameters that carry it."""

    name: str
    kind: Kind
    raw: tuple[str, ...]
    element: str = "u8"
    unit: Literal["elements", "bytes"] = "elements"
    align: int = 0
    count: tuple[Term, ...] = ()
    exactly: tuple[Term, ...] = ()
    multiple_of: tuple[Term, ...] = ()
    at_most: tuple[Term, ...] = ()
    at_least: tuple[Term, ...] = ()
    of: str = ""
    zero: bool = False
    bits: tuple[str, ...] = ()
    struct: str = ""
    nullable: bool = False
    doc: str = ""

    @property
    def is_window(self) -> bool:
        """Whether the value is a piece of guest memory."""
        return self.kind in ("text", "in", "out")

    @property
    def alignment(self) -> int:
        """What the window's pointer is a multiple of, in bytes."""
        return self.align or element_size(self.element)

    def terms(self) -> tuple[Term, ...]:
        """All that this parameter's size and relations are computed from."""
        return (*self.count, *self.exactly, *self.multiple_of, *self.at_most, *self.at_least)

    def refusals(self) -> dict[str, str]:
        """The errors that the guard can answer for this parameter, and when, a sentence each."""
        found: dict[str, str] = {}
        if self.kind == "flags" or self.exactly or self.multiple_of or self.at_most:
            found["invalid_argument"] = self._contradiction()
        if self.is_window or self.kind == "struct":
            found["out_of_bounds"] = f"`{self.name}` does not lie inside the memory."
        if self.kind == "struct" or (self.is_window and self.alignment > 1):
            multiple = "its struct's alignment" if self.kind == "struct" else self.alignment
            found["misaligned"] = f"{self.raw[0]} is not a multiple of {multiple}."
        if self.at_least:
            found["buffer_too_small"] = f"{self.raw[-1]} is less than {product(self.at_least)}."
        if self.kind == "text":
            found["invalid_utf8"] = f"`{self.name}` is not UTF-8."
        if self.kind == "handle":
            found["invalid_handle"] = self._no_handle()
        return found

    def _contradiction(self) -> str:
        if self.kind == "flags":
            return f"{self.raw[0]} has a bit that is none of {', '.join(self.bits)}."
        length = self.raw[-1]
        if self.exactly:
            return f"{length} is not {product(self.exactly)}."
        if self.multiple_of:
            return f"{length} is not a multiple of {product(self.multiple_of)}."
        return f"{length} is more than the elements of `{product(self.at_most)}`."

    def _no_handle(self) -> str:
        if self.zero:
            return f"{self.name} is 2^31 or more."
        whose = "opened and has not freed" if self.of == "session" else "may use"
        return f"{self.name} is no {self.of} that this guest {whose}."


@dataclass(frozen=True, slots=True)
class Function:
    """An import (the host's) or an export (the guest's).

    `conditions` says of each of `errors`, in the same order, when it is answered. `owns` and `unchanged` are
    sentences or empty; `blocks` is a call that may wait, `cleanup` one that works after a cancellation.
    """

    name: str
    version: int
    doc: str
    params: tuple[Param, ...]
    result: str
    result_doc: str
    errors: tuple[str, ...]
    signature: tuple[str, ...]
    required: bool = True
    cleanup: bool = False
    blocks: bool = False
    conditions: tuple[str, ...] = ()
    owns: str = ""
    unchanged: str = ""

    @property
    def wasm_params(self) -> tuple[str, ...]:
        """The wasm types of the raw parameters, `i32` or `f32`."""
        floats = {name for param in self.params if param.kind == "f32" for name in param.raw}
        return tuple("f32" if name in floats else "i32" for name in self.signature)

    @property
    def dimensions(self) -> frozenset[str]:
        """Names of the model's dimensions that the guard has to know to check a call."""
        known = {param.name for param in self.params}
        names = {term for param in self.params for term in param.terms() if isinstance(term, str)}
        return frozenset(names - known)

    def param(self, name: str) -> Param:
        """The parameter of that name; KeyError if there is none."""
        for param in self.params:
            if param.name == name:
                return param
        raise KeyError(f"{self.name} has no parameter {name}")


@dataclass(frozen=True, slots=True)
class Rule:
    """A sentence or some that hold for all imports, or for a guest as a whole."""

    name: str
    doc: str


@dataclass(frozen=True, slots=True)
class Contract:
    """Everything that guest and host agree on, for all versions."""

    import_module: str
    page_bytes: int
    rules: tuple[Rule, ...]
    any_import: Mapping[str, str]
    errors: tuple[Code, ...]
    finish_reasons: tuple[Code, ...]
    structs: Mapping[str, Struct]
    imports: Mapping[str, Function]
    exports: Mapping[int, Mapping[str, Function]]

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions of the ABI, oldest first."""
        return tuple(sorted(self.exports))

    def imports_of(self, version: int) -> tuple[Function, ...]:
        """The imports of one version, in the order of the file."""
        return tuple(function for function in self.imports.values() if function.version == version)


def product(terms: tuple[Term, ...]) -> str:
    """A product of a parameter's terms as one writes it: `rows * vocab_size`."""
    return " * ".join(str(term) for term in terms)

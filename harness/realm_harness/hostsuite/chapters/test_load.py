"""Which modules a host takes: those of the contract and no others, and it says why not."""

from __future__ import annotations

from realm_abi.guests import probe_bytes

from realm_harness.case import Broken, case, demand
from realm_harness.hostsuite.modules import (
    COMPONENT,
    HANG,
    SPEAKS_V2,
    Import,
    calling_alloc,
    calling_start,
    contract_import,
    module,
)
from realm_harness.hostsuite.subject import HostSubject

NO_OTHERS = "a host that stubs what it does not know runs a guest with a typo, wrongly and in silence"
SAYS_WHY = "who wrote the guest has to find out what is wrong with it"


def refused(subject: HostSubject, wasm: bytes, what: str, *names: str) -> None:
    """Broken unless the host does not take a module and its message has one of `names`."""
    said = subject.refusal(wasm)
    demand(said is not None, f"a module with {what} was taken")
    if names and not any(name.lower() in str(said).lower() for name in names):
        raise Broken(
            f"a module with {what} is refused, but the message does not name {names[0]}: {str(said)[:400]}"
        )
    subject.still_well(subject.any_version, f"a module with {what}")


@case("HOST-LOAD-001", clause_id="host.unknown-import", reason=NO_OTHERS)
def an_unknown_import_is_refused_by_name(subject: HostSubject) -> None:
    """An import that the contract does not have is refused at load, by its name."""
    wasm = module(imports=(*SPEAKS_V2, Import("realm_sesion_free", ("i32",))))
    refused(subject, wasm, "the unknown import realm_sesion_free", "realm_sesion_free")


@case(
    "HOST-LOAD-002", clause_id="host.unknown-import", reason="WASI gives a guest files, clocks and randomness"
)
def another_import_module_is_refused(subject: HostSubject) -> None:
    """An import from a module other than `env`, of WASI say, is refused at load, by its name."""
    wasm = module(imports=(*SPEAKS_V2, Import("fd_write", ("i32",) * 4, "wasi_snapshot_preview1")))
    refused(subject, wasm, "an import of WASI", "fd_write")


@case("HOST-LOAD-003", clause_id="host.wrong-type", reason=SAYS_WHY)
def a_wrong_signature_is_refused(subject: HostSubject) -> None:
    """An import with other parameters than the contract's is refused at load, by its name."""
    wasm = module(imports=(*SPEAKS_V2, Import("realm_encode", ("i32",) * 5)))
    refused(subject, wasm, "a realm_encode of five parameters", "realm_encode")


@case(
    "HOST-LOAD-004",
    clause_id="host.one-version",
    reason="sessions of v2 and the cache of v1 are two contexts",
)
def mixed_versions_are_refused(subject: HostSubject) -> None:
    """A module that imports from two versions of the ABI is refused at load."""
    wasm = module(imports=(*SPEAKS_V2, contract_import("realm_stream_token")))
    refused(subject, wasm, "imports of v1 and of v2", "realm_stream_token", "version", "v1")


@case("HOST-LOAD-005", clause_id="host.exports", reason=SAYS_WHY)
def a_hidden_memory_is_refused(subject: HostSubject) -> None:
    """A module that does not export its memory is refused at load."""
    refused(subject, module(exports=("generate", "realm_alloc")), "no exported memory", "memory")


@case("HOST-LOAD-006", clause_id="host.exports", reason=SAYS_WHY)
def a_module_without_generate_is_refused(subject: HostSubject) -> None:
    """A module without `generate` is refused at load."""
    refused(subject, module(exports=("memory", "realm_alloc")), "no generate", "generate")


@case("HOST-LOAD-007", clause_id="host.core-module", reason=SAYS_WHY)
def a_component_is_refused(subject: HostSubject) -> None:
    """A component is refused at load: guests are core modules."""
    refused(subject, COMPONENT + bytes(32), "the header of a component", "component", "core")


@case("HOST-LOAD-008", clause_id="host.core-module", reason=SAYS_WHY)
def what_is_no_wasm_is_refused(subject: HostSubject) -> None:
    """A file that is not WebAssembly is refused at load."""
    refused(subject, b"#!/bin/sh\nexit 0\n", "a shell script in it")


@case("HOST-LOAD-009", clause_id="host.core-module", reason=SAYS_WHY)
def a_truncated_module_is_refused(subject: HostSubject) -> None:
    """Half a module is refused at load."""
    whole = probe_bytes(2)
    refused(subject, whole[: len(whole) // 2], "half of its bytes")


@case("HOST-LOAD-010", clause_id="host.core-module", reason="pointers of the contract are 32 bits wide")
def a_64_bit_memory_is_refused(subject: HostSubject) -> None:
    """A module with a 64-bit memory is refused at load."""
    refused(subject, module(memory_flags=4), "a 64-bit memory")


@case(
    "HOST-LOAD-011", clause_id="host.unknown-import", reason="memory that the host owns is the host's memory"
)
def an_imported_memory_is_refused(subject: HostSubject) -> None:
    """A module that imports its memory is refused at load."""
    wasm = module(imports=(*SPEAKS_V2, Import("memory", is_memory=True)))
    refused(subject, wasm, "an imported memory", "memory")


@case(
    "HOST-LOAD-012", clause_id="host.contained", reason="one module must not take all memory of the machine"
)
def four_gibibytes_from_the_start_are_not_given(subject: HostSubject) -> None:
    """A module that starts with 4 GiB of memory is refused, or its requests fail; the host lives."""
    subject.never_answers(module(pages=65536), "4 GiB of memory from the start")


@case(
    "HOST-LOAD-013",
    clause_id="host.start",
    reason="before it has started a guest has no memory to point into",
)
def a_start_function_calls_no_import(subject: HostSubject) -> None:
    """A start function that calls an import is trapped; the host lives."""
    subject.never_answers(module(start=calling_start()), "a start function that calls an import")


@case(
    "HOST-LOAD-014",
    clause_id="host.contained",
    reason="a start function runs before any limit that is set later",
)
def a_start_function_that_loops_is_ended(subject: HostSubject) -> None:
    """A start function that never returns is ended; the host lives."""
    subject.never_answers(module(start=HANG), "a start function that loops")


@case(
    "HOST-LOAD-015",
    clause_id="host.calls-in-alloc",
    reason="who allocates for a request may hold its lock",
)
def calls_from_realm_alloc_do_no_harm(subject: HostSubject) -> None:
    """A realm_alloc that calls imports, and opens a session, takes nothing from others."""
    subject.never_answers(module(alloc=calling_alloc()), "a realm_alloc that calls imports", requests=3)

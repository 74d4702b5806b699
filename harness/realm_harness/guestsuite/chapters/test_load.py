"""Before and between requests: how a module starts, and the memory that it gives the host."""

from __future__ import annotations

from realm_abi.errors import ErrorCode
from realm_abi.requests import defaults_v1
from realm_abi.sandbox import Limits
from realm_mocks.host import Fault, Hashed, Return, winners

from realm_harness.guestsuite.judging import declined, demand_of, failed, offered, well
from realm_harness.guestsuite.marks import V1, V2, guest_case
from realm_harness.guestsuite.subject import GuestSubject
from realm_harness.guestsuite.tokenizers import Bytes

MEBIBYTE = 1 << 20
FEW = Bytes(most=50)
SAYS_A = winners("A", FEW)


@guest_case("GUEST-LOAD-001", "load.starts", "a module that does not start serves nobody", imports=())
def test_it_starts(guest: GuestSubject) -> None:
    """The module starts, alone, in 16 MiB, and calls no import before it is asked for something."""
    with guest.instance("abc", limits=Limits(memory_bytes=16 * MEBIBYTE)) as requests:
        well(requests.run(max_tokens=0))


@guest_case("GUEST-LOAD-002", "load.answers", "the plainest of all requests", imports=())
def test_a_plain_request(guest: GuestSubject) -> None:
    """A plain greedy request is answered with the model's text."""
    run = well(guest.run("hello world"))
    demand_of(run, run.text == "hello world", f"the text is {run.text!r}; due was 'hello world'")


@guest_case("GUEST-LOAD-003", "load.alloc", "the host writes a request where realm_alloc says", imports=())
def test_requests_of_all_sizes(guest: GuestSubject) -> None:
    """realm_alloc gives aligned memory inside the guest's for requests of all sizes, one after the other."""
    with guest.instance("abc", context_length=1 << 18) as requests:
        for size in (0, 1, 7, 8, 15, 16, 17, 100, 1000, 2000, 3):
            run = well(requests.run("." * size))
            demand_of(run, run.text == "abc", f"after a prompt of {size} bytes the text is {run.text!r}")


@guest_case("GUEST-LOAD-004", "load.no-memory", "a trap says nothing; 0 says what is wrong", imports=())
def test_a_request_that_does_not_fit(guest: GuestSubject) -> None:
    """A request larger than the memory that a guest may have is turned down, not trapped over."""
    limits = Limits(memory_bytes=8 * MEBIBYTE)
    for size in (9 * MEBIBYTE, 64 * MEBIBYTE):
        run = guest.run(SAYS_A, "x" * size, limits=limits, tokenizer=FEW)
        fine = run.error is not None or (run.fault is not None and run.fault.kind == "memory")
        demand_of(run, fine, f"with a prompt of {size} bytes and 8 MiB of memory it ends with: {run.answer}")


@guest_case("GUEST-LOAD-005", "load.tight", "memory that is asked for and not there is an answer", imports=())
def test_memory_that_ends(guest: GuestSubject) -> None:
    """Wherever the memory's cap lies, a request ends with its text, an error, or no memory for it."""
    for pages in (*range(32, 40), 48, 64):
        limits = Limits(memory_bytes=pages << 16)
        run = guest.run(SAYS_A, "x" * 200_000, limits=limits, tokenizer=FEW, max_tokens=2)
        fine = run.fault is None or run.fault.kind == "memory"
        demand_of(run, fine, f"with {pages} pages of memory it ends with: {run.answer}")


@guest_case("GUEST-LOAD-006", "load.reuse", "an instance that keeps everything dies of it", imports=())
def test_memory_is_used_again(guest: GuestSubject) -> None:
    """The memory of a request is used again for the next ones."""
    with guest.instance(SAYS_A, tokenizer=FEW) as requests:
        runs = [well(requests.run("x" * 20_000, max_tokens=2)) for _ in range(60)]
    grown = runs[-1].memory_bytes - runs[4].memory_bytes
    demand_of(runs[-1], grown == 0, f"from request 5 to 60 its memory grew by {grown} bytes")


@guest_case("GUEST-LOAD-007", "load.grown-struct", "the next version adds fields", versions=V2)
def test_a_longer_request(guest: GuestSubject) -> None:
    """A GenRequest that is longer than the guest knows is read as far as it knows it."""
    run = well(guest.run("abc", size=96))
    demand_of(run, run.text == "abc", f"with size 96 the text is {run.text!r}")


@guest_case("GUEST-LOAD-008", "load.short-struct", "what was not filled in is not there", versions=V2)
def test_a_shorter_request(guest: GuestSubject) -> None:
    """A GenRequest that is shorter than the contract's is an invalid_argument."""
    for size in (0, 71):
        run = guest.run("abc", size=size)
        failed(run, ErrorCode.invalid_argument, to=f"a GenRequest whose size says {size}, less than 72")


@guest_case(
    "GUEST-LOAD-009", "load.version", "an older host lacks what the guest counts on",
    versions=V2, imports=("realm_abi_version",),
)  # fmt: skip
def test_an_older_host(guest: GuestSubject) -> None:
    """A host that says an older version is told that it is not supported."""
    for version in (0, 1):
        run = guest.run("abc", faults=[Fault(Return(version), "realm_abi_version")])
        what = f"the host speaks version {version}, and generate answered {run.answer}"
        demand_of(run, declined(run) or run.error is not None, what)


@guest_case("GUEST-LOAD-010", "load.defaults", "address 0 holds whatever the guest has there", versions=V1)
def test_no_options(guest: GuestSubject) -> None:
    """An options_ptr of 0 means the defaults of GenOptions, all of them."""
    due = offered(guest.run(Hashed(3), layers=1, **defaults_v1()))
    run = well(guest.run(Hashed(3), layers=1, no_options=True))
    what = f"with options_ptr 0 it says {run.text[:40]!r} in {len(run.texts)} texts"
    same = f"; with the defaults spelled out {due.text[:40]!r} in {len(due.texts)}"
    demand_of(run, run.texts == due.texts, what + same)

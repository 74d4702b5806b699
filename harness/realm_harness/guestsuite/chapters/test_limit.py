"""Loops, memory and options at their limits."""

from __future__ import annotations

from typing import Any

import numpy as np
from realm_abi.errors import ErrorCode
from realm_abi.sandbox import Limits
from realm_mocks.host import Fault, Fixed, Grow, Return

from realm_harness.guestsuite.drawing import everything
from realm_harness.guestsuite.judging import demand_of, failed, kept_rules, offered, well
from realm_harness.guestsuite.marks import V2, guest_case
from realm_harness.guestsuite.subject import GuestSubject
from realm_harness.guestsuite.tokenizers import Bytes

TOO_SMALL = Return(ErrorCode.buffer_too_small)
ASKED = {1: ("realm_encode_tokens", "realm_decode_tokens"), 2: ("realm_encode", "realm_decode")}
MOST_CALLS = 200
LARGE = 50_000


def check_endless(guest: GuestSubject, function: str) -> None:
    """However often a buffer is too small, a guest ends."""
    faults = [Fault(TOO_SMALL, function, nth) for nth in range(1, MOST_CALLS)]
    run = guest.run("abc", faults=faults)
    what = f"{function} always answers buffer_too_small"
    demand_of(run, run.fault is None, f"{what}, and the guest broke: {run.fault}")
    kept_rules(run)
    demand_of(run, len(run.trace) < MOST_CALLS, f"{what}, and {len(run.trace)} calls were made")
    demand_of(run, run.error is not None, f"{what}, and generate answered {run.answer}")


@guest_case("GUEST-LIMIT-001", "limit.loops", "a loop without an end is a tenant's denial of service")
def test_encode_that_is_never_content(guest: GuestSubject) -> None:
    """A guest that is told buffer_too_small for ever by encode ends with an error."""
    check_endless(guest, ASKED[guest.version][0])


@guest_case("GUEST-LIMIT-002", "limit.loops", "a loop without an end is a tenant's denial of service")
def test_decode_that_is_never_content(guest: GuestSubject) -> None:
    """A guest that is told buffer_too_small for ever by decode ends with an error."""
    check_endless(guest, ASKED[guest.version][1])


@guest_case("GUEST-LIMIT-003", "limit.growth", "a host may grow the memory; offsets stay good")
def test_memory_grows_between_calls(guest: GuestSubject) -> None:
    """Memory that grows during any call changes nothing."""
    plain = well(guest.run("hello", "a prompt"))
    faults = [Fault(Grow(1), nth=nth) for nth in range(1, len(plain.trace) + 1)]
    run = well(guest.run("hello", "a prompt", faults=faults))
    demand_of(run, run.texts == plain.texts, f"with growing memory it says {run.texts}, not {plain.texts}")


@guest_case("GUEST-LIMIT-004", "limit.time", "other tenants wait while a guest computes")
def test_a_large_flat_row(guest: GuestSubject) -> None:
    """A row of 50,000 equal logits is sampled from in time, whatever the filters."""
    script = Fixed(np.zeros(LARGE, dtype=np.float32))
    for options in ({"top_p": 0.9}, {"top_k": 40_000, "top_p": 0.5}, {"repetition_penalty": 1.3}):
        chosen = everything(guest, temperature=1.0, seed=3, max_tokens=2, **options)
        run = offered(guest.run(script, "p", tokenizer=Bytes(LARGE), layers=1, **chosen))
        demand_of(run, len(run.texts) == 2, f"with {options} it handed on {len(run.texts)} tokens of 2")


@guest_case("GUEST-LIMIT-005", "limit.time", "an ascending row is the worst case of a naive sort")
def test_a_large_sorted_row(guest: GuestSubject) -> None:
    """Sorted rows of 50,000 logits are sampled from in time, either way round."""
    for values in (np.linspace(-1, 1, LARGE), np.linspace(1, -1, LARGE)):
        script = Fixed(values.astype(np.float32))
        chosen = everything(guest, temperature=1.0, seed=3, max_tokens=2, top_k=100, top_p=0.9)
        run = offered(guest.run(script, "p", tokenizer=Bytes(LARGE), layers=1, **chosen))
        demand_of(run, len(run.texts) == 2, f"it handed on {len(run.texts)} tokens of 2")


@guest_case("GUEST-LIMIT-006", "limit.options", "what means nothing has no right answer", versions=V2)
def test_options_out_of_range(guest: GuestSubject) -> None:
    """Options outside their range are an invalid_argument."""
    nan, inf = float("nan"), float("inf")
    for name, value in (
        ("temperature", nan), ("top_p", nan), ("top_p", -0.1), ("min_p", nan), ("min_p", -0.1),
        ("min_p", 1.5), ("repetition_penalty", nan), ("repetition_penalty", 0.0),
        ("repetition_penalty", -1.0), ("repetition_penalty", inf),
    ):  # fmt: skip
        options: dict[str, Any] = {"temperature": 1.0, name: value}
        run = guest.run("abc", **options)
        failed(run, ErrorCode.invalid_argument, to=f"{name} {value}")


@guest_case("GUEST-LIMIT-007", "limit.memory", "a guest that asks for more than it may have is told no")
def test_little_memory(guest: GuestSubject) -> None:
    """With little memory a long text ends with an error or whole, never with a trap."""
    tokenizer = Bytes(300, piece=b"x" * 100_000)
    steps = Fixed(np.where(np.arange(300) == 256, 1, 0).astype(np.float32))
    for mebibytes in (2, 3, 4):
        limits = Limits(memory_bytes=mebibytes << 20)
        run = guest.run(steps, tokenizer=tokenizer, limits=limits, max_tokens=60)
        fine = run.fault is None or run.fault.kind == "memory"
        demand_of(run, fine, f"with {mebibytes} MiB of memory it ends with: {run.answer}")


@guest_case("GUEST-LIMIT-008", "limit.steady", "a text is as long as it is")
def test_memory_of_a_long_text(guest: GuestSubject) -> None:
    """A token costs no memory beyond its text: 800 of them fit where 100 do."""
    script = Fixed(np.where(np.arange(300) == 65, 1, 0).astype(np.float32))
    few, many = (
        well(guest.run(script, "p", tokenizer=Bytes(300), layers=1, max_tokens=count)) for count in (100, 800)
    )
    grown = many.memory_bytes - few.memory_bytes
    demand_of(many, grown <= 65536, f"700 tokens more took {grown} bytes of memory more")

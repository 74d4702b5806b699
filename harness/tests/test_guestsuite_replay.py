"""Requests that are recorded once and asked of other guests: who does the same has the same verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from realm_abi.guests import guest_bytes
from realm_harness.guestsuite.recording import Recorder, Request, Take
from realm_harness.guestsuite.replay import follows
from realm_harness.guestsuite.score import build_variants, record_healthy, records, verdicts_of
from realm_harness.guestsuite.subject import GuestSubject
from realm_mocks.host import Fault, Grow, Return, Trap, load_guest, shared_runtime

CASES = ["GUEST-LOAD-00[127]", "GUEST-FAULT-*-each", "GUEST-STOPPED-*", "GUEST-LENGTH-*", "GUEST-SEED-007"]


def recorded(version: str, *faults: Fault) -> Take:
    """A request to a shipped guest."""
    recorder = Recorder()
    guest = GuestSubject(load_guest(guest_bytes(version), recorder), version, runtime=recorder)
    guest.run("abc", faults=faults)
    (take,) = recorder.takes
    return take


def repeats(version: str, take: Take) -> bool:
    """Whether a shipped guest does what was recorded."""
    return follows(shared_runtime(), load_guest(guest_bytes(version), shared_runtime()), take, 5.0)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    "faults", [[], [Fault(Return(-8), nth=5)], [Fault(Grow(2), nth=3)], [Fault(Trap(), nth=4)]], ids=str
)
def test_a_guest_does_what_it_did(version: str, faults: list[Fault]) -> None:
    take = recorded(version, *faults)
    assert len(take.requests[0].calls) >= 4
    assert repeats(version, take)


def with_other_result(request: Request) -> None:
    """The last token's forward fails."""
    request.calls[-3] = replace(request.calls[-3], result=-14)


def with_other_bytes(request: Request) -> None:
    """A token is decoded to another text."""
    place = next(n for n, call in enumerate(request.calls) if call.function == "realm_decode")
    ((start, text),) = request.calls[place].after
    request.calls[place] = replace(request.calls[place], after=((start, b"Z" + text[1:]),))


def with_a_call_less(request: Request) -> None:
    """The recorded guest did not free its session."""
    del request.calls[-1]


def with_a_call_more(request: Request) -> None:
    """The recorded guest freed it twice."""
    request.calls.append(request.calls[-1])


def with_other_ending(request: Request) -> None:
    """The recorded guest answered another reason."""
    request.ending = 3


def with_more_memory(request: Request) -> None:
    """The recorded guest took more memory."""
    request.memory_bytes += 65536


@pytest.mark.parametrize(
    "change",
    [
        with_other_result,
        with_other_bytes,
        with_a_call_less,
        with_a_call_more,
        with_other_ending,
        with_more_memory,
    ],
)
def test_any_difference_is_seen(change: Callable[[Request], None]) -> None:
    take = recorded("v2")
    change(take.requests[0])
    assert not repeats("v2", take)


@pytest.mark.timeout(120)
def test_verdicts_are_those_of_a_full_judgement(tmp_path: Path) -> None:
    told = {version: record_healthy(version, CASES, tmp_path) for version in ("v1", "v2")}
    assert {verdict for results in told.values() for _, verdict, _ in results} == {"ok"}
    assert all(takes for takes in records(tmp_path / "requests-v2.pickle").values())
    for built in build_variants(tmp_path, ["stop-reason", "one-too-many", "version-error-lost"]):
        variant = replace(built, drawn=True)
        full = verdicts_of(variant, CASES)
        assert verdicts_of(variant, CASES, tmp_path) == full
        assert {"ok", "failed"} <= set(full.values())

"""Guests beside each other and one after another: nothing of one is seen by the next."""

from __future__ import annotations

from realm_abi.errors import ErrorCode

from realm_harness.case import Broken, case, demand
from realm_harness.hostsuite.baseline import IDS, OUT, TEXT, World, put_ids
from realm_harness.hostsuite.script import Script
from realm_harness.hostsuite.subject import HostSubject, forward, layerwise

BURN = 20_000_000
"""Rounds of computing, a few hundredths of a second."""

PAUSE = 4
"""So often, with a host call after each: long enough for others to come in between."""

GUESSES = 64
ROUNDS = 20
LEAK = "one tenant's text in another's answer"


def held(version: int, world: World, tokens: str, rounds: int) -> tuple[Script, int]:
    """A computation with a pause in its middle, on tokens of its own; the script and its last logits."""
    script = Script()
    put_ids(script, world, tokens)
    if version == 2:
        session = script.call("realm_session_open", "M")
        forward(script, world, f"R{session}", IDS, 3)
        pause(script, version, rounds)
        return script, forward(script, world, f"R{session}", f"{IDS}+12", 1)
    layerwise(script, world, 3, 0)
    pause(script, version, rounds)
    return script, layerwise(script, world, 1, 3)


def pause(script: Script, version: int, rounds: int) -> None:
    """Computes for a while, never long without a host call."""
    for _ in range(rounds):
        script.do(f"burn {BURN}")
        script.call("realm_encode" if version == 2 else "realm_encode_tokens", "M", TEXT, 0, 0, OUT, 0)


@case("HOST-ISOLATE-001", clause_id="host.one-request-after-another", reason=LEAK)
def concurrent_guests_do_not_mix(subject: HostSubject) -> None:
    """Guests that run at the same time on different texts get the logits that they get alone, bit for bit."""
    for version in subject.versions:
        world = subject.world(version)
        alone = []
        pairs = [held(version, world, tokens, PAUSE) for tokens in ("5 6 7 8", "9 8 7 6", "8 8 5 5")]
        for script, last in pairs:
            alone.append(subject.run(version, script)[last].digests)
        replies = subject.together(version, [script for script, _ in pairs])
        for (script, last), reply, before in zip(pairs, replies, alone, strict=True):
            demand(not reply.failure, f"beside others a v{version} guest fails: {reply.failure}")
            now = subject.read(script, reply)[last].digests
            demand(
                now == before,
                f"beside others a v{version} guest gets other logits than alone ({script.steps[0].text})",
            )


@case(
    "HOST-ISOLATE-002",
    clause_id="host.one-request-after-another",
    reason="the next request sees the previous one's context",
)
def a_request_leaves_nothing_behind(subject: HostSubject) -> None:
    """A request that follows one on another text, which freed nothing, gets the logits that it got before."""
    for version in subject.versions:
        script, _ = held(version, subject.world(version), "9 9 9 9", 1)
        subject.run(version, script)
        subject.still_well(version, "a request on another text, whose guest freed nothing,")


@case("HOST-ISOLATE-003", clause_id="host.foreign-handles", reason=LEAK, versions=(2,))
def sessions_of_another_guest_are_no_handles(subject: HostSubject) -> None:
    """While another guest has a session open, its handle answers `invalid_handle`."""
    world = subject.world(2)
    victim, last = held(2, world, "5 6 7 8", PAUSE)
    opened = next(number for number, step in enumerate(victim.steps) if step.function == "realm_session_open")
    alone = subject.run(2, victim)
    theirs = alone[opened].result
    with subject.meanwhile(2, [victim] * 2) as replies:
        for _ in range(ROUNDS):
            self_tried(subject, theirs)
    for reply in replies():
        demand(not reply.failure, f"a guest whose handle another one tried fails: {reply.failure}")
        now = subject.read(victim, reply)[last].digests
        demand(
            now == alone[last].digests, "a guest whose handle another one tried gets other logits than alone"
        )


def self_tried(subject: HostSubject, around: int) -> None:
    """Broken if a guest may use any handle near `around` that it has not opened itself."""
    script = Script()
    first = max(1, around - GUESSES // 2)
    tried = [
        script.call("realm_session_truncate", handle, 0, how="call")
        for handle in (*range(first, first + GUESSES // 4), around, around + 17, around + 34)
    ]
    mine = script.call("realm_session_truncate", "S", 0)
    report = subject.run(2, script)
    for number in tried:
        handle = report.arguments(number)[0]
        if handle != report.head[3] and report[number].result != ErrorCode.invalid_handle:
            raise Broken(
                f"realm_session_truncate(session={handle}, length=0) answered {report[number].result}, though"
                f" this guest opened only session {report.head[3]}: another guest's is within its reach"
            )
    demand(report[mine].result == 0, f"a guest's own session answers {report[mine].result}")


@case("HOST-ISOLATE-004", clause_id="host.foreign-handles", reason=LEAK, versions=(2,))
def sessions_that_a_request_left_open_are_gone(subject: HostSubject) -> None:
    """Sessions that a guest did not free are no handles in the next request."""
    script = Script()
    left = script.call("realm_session_open", "M")
    before = subject.run(2, script)
    after = Script()
    again = after.call("realm_session_truncate", before[left].result, 0)
    report = subject.run(2, after)
    if before[left].result != report.head[3]:
        answer = report[again].result
        demand(
            answer == ErrorCode.invalid_handle,
            f"session {before[left].result} of an earlier request answered {answer}",
        )
    subject.still_well(2, "sessions that were left open")


@case(
    "HOST-ISOLATE-005",
    clause_id="host.sessions",
    reason="one cache for all sessions of a model mixes texts",
    versions=(2,),
)
def sessions_of_one_guest_do_not_mix(subject: HostSubject) -> None:
    """Two sessions that are fed in turn give the logits that each gives alone."""
    world = subject.world(2)
    script = Script()
    put_ids(script, world, "5 6 7 8 9 8 7 6")
    one, two, alone = (script.call("realm_session_open", "M") for _ in range(3))
    forward(script, world, f"R{one}", IDS, 3)
    forward(script, world, f"R{two}", f"{IDS}+16", 3)
    mixed = forward(script, world, f"R{one}", f"{IDS}+12", 1)
    forward(script, world, f"R{alone}", IDS, 3)
    plain = forward(script, world, f"R{alone}", f"{IDS}+12", 1)
    report = subject.run(2, script)
    demand(report[mixed].result == 1, f"realm_forward answered {report[mixed].result}")
    demand(
        report[mixed].digests == report[plain].digests,
        "a session's logits depend on what another session was fed",
    )


@case(
    "HOST-ISOLATE-006",
    clause_id="host.models",
    reason="a guest that removes the model takes it from everybody",
    versions=(1,),
)
def a_guest_cannot_remove_the_hosts_model(subject: HostSubject) -> None:
    """realm_remove_model of the host's own model is refused, and the model stays."""
    script = Script()
    removed = script.call("realm_remove_model", "M")
    report = subject.run(1, script)
    demand(report[removed].result < 0, "a guest removed a model that it had not stored")
    subject.still_well(1, "an attempt to remove the model")

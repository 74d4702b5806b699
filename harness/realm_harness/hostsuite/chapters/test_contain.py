"""What a guest may do to itself and not to others: loop, recurse, trap, grab memory, call without end."""

from __future__ import annotations

from realm_abi.errors import ErrorCode

from realm_harness.case import Broken, Unsupported, case, demand
from realm_harness.hostsuite.baseline import IDS, OUT, TEXT, put_ids
from realm_harness.hostsuite.script import Script
from realm_harness.hostsuite.subject import HostSubject

OTHERS = "one tenant's guest takes the server from all others"
MANY_SESSIONS = 3_000
PAGES_OF_4_GIB = 65536
MOST_PAGES = 16
ONE_AS_F32 = 0x3F80_0000


def ends_badly(subject: HostSubject, statement: str) -> None:
    """Broken unless a guest that does this is ended with an error, and everybody else is served as before."""
    for version in subject.versions:
        script = Script()
        script.do(statement)
        reply = subject.attempt(version, script)
        demand(not reply.hung, f"a v{version} guest that does `{statement}` is never ended: {reply.failure}")
        demand(
            reply.failure,
            f"a v{version} guest that does `{statement}` is answered as if it had succeeded: {reply.text!r}",
        )
        subject.still_well(version, f"a guest that does `{statement}`")


@case("HOST-CONTAIN-001", clause_id="host.contained", reason=OTHERS)
def a_loop_is_ended(subject: HostSubject) -> None:
    """A guest that computes without end is ended, and its request fails."""
    ends_badly(subject, "loop")


@case("HOST-CONTAIN-002", clause_id="host.contained", reason="the guest's stack may be the host's")
def a_recursion_is_ended(subject: HostSubject) -> None:
    """A guest that recurses without end is ended, and its request fails."""
    ends_badly(subject, "recurse")


@case(
    "HOST-CONTAIN-003",
    clause_id="host.contained",
    reason="a trap that is no error to the host is an answer to the client",
)
def a_trap_fails_the_request(subject: HostSubject) -> None:
    """A guest that traps fails its request."""
    ends_badly(subject, "trap")


@case("HOST-CONTAIN-004", clause_id="host.contained", reason=OTHERS)
def a_stray_function_pointer_fails_the_request(subject: HostSubject) -> None:
    """A call through a table index that is not there fails the request."""
    ends_badly(subject, "table")


@case("HOST-CONTAIN-005", clause_id="host.contained", reason=OTHERS)
def a_load_beyond_the_memory_fails_the_request(subject: HostSubject) -> None:
    """A load beyond the guest's memory fails the request."""
    ends_badly(subject, "beyond")


@case("HOST-CONTAIN-006", clause_id="host.memory-cap", reason="memory.grow takes the machine")
def memory_has_a_cap(subject: HostSubject) -> None:
    """memory.grow is refused before 4 GiB, and the guest may live with that."""
    for version in subject.versions:
        script = Script()
        grabbed = script.do("hog")
        report = subject.run(version, script)
        pages = report[grabbed].result + (report.head[0] >> 16)
        demand(
            pages < PAGES_OF_4_GIB,
            f"a v{version} guest could grow its memory to {pages >> 4} MiB: there is no cap",
        )
        subject.still_well(version, "a guest that took all memory that it could")


@case(
    "HOST-CONTAIN-007", clause_id="host.calls", reason="a million cheap calls are a loop that no epoch sees"
)
def a_million_calls_are_answered_or_limited(subject: HostSubject) -> None:
    """A guest that calls without end is answered each time, or `limit_exceeded` from some call on."""
    for version in subject.versions:
        script = Script()
        script.do(f"put {TEXT} 68")
        name = "realm_abi_version" if version == 2 else "realm_set_lora_adapter"
        arguments = () if version == 2 else ("M", TEXT, 0)
        many = script.call(name, *arguments, how=f"spin {subject.settings.calls}")
        reply = subject.attempt(version, script)
        demand(not reply.hung, f"{subject.settings.calls} calls of {name} are never ended")
        if not reply.failure:
            entry = subject.read(script, reply)[many]
            allowed = (
                0,
                2,
                int(ErrorCode.limit_exceeded),
                int(ErrorCode.cancelled),
                int(ErrorCode.unsupported),
            )
            demand(
                entry.result in allowed,
                f"{name} answered {entry.result} after {subject.settings.calls} calls",
            )
        subject.still_well(version, f"a guest that made {subject.settings.calls} calls")


@case(
    "HOST-CONTAIN-008",
    clause_id="host.sessions-freed",
    reason="a cache that is never freed fills the machine",
    versions=(2,),
)
def sessions_without_end_are_refused_or_freed(subject: HostSubject) -> None:
    """Sessions opened without end are refused at some point or cost little, and do not stay."""
    script = Script()
    opened = script.call("realm_session_open", "M", how=f"spin {MANY_SESSIONS}")
    with subject.host(2).watch_memory() as watch:
        for _ in range(3):
            reply = subject.attempt(2, script)
            if not reply.failure:
                failure = subject.read(script, reply)[opened].failure
                codes = {ErrorCode.limit_exceeded, ErrorCode.out_of_memory}
                demand(failure is None or failure[0] in codes, f"session {failure} answered no limit")
    took = watch.grown or 0
    demand(
        took < subject.settings.memory_bytes,
        f"three requests that opened {MANY_SESSIONS} sessions took {took >> 20} MiB",
    )
    subject.still_well(2, "sessions without end")


@case(
    "HOST-CONTAIN-009", clause_id="host.context", reason="a cache that is written past its end", versions=(2,)
)
def the_context_ends(subject: HostSubject) -> None:
    """More tokens than the context holds are answered with `context_full`, and nothing is appended."""
    world = subject.world(2)
    pages = world.context_length // (1 << 14) + 1
    if pages > MOST_PAGES:
        raise Unsupported(f"a context of {world.context_length} tokens is more than the probe has memory for")
    script = Script()
    put_ids(script, world, "5 6 7 8")
    session = script.call("realm_session_open", "M")
    script.call("realm_forward", f"R{session}", IDS, 1, OUT, 0, 0)
    script.do(f"grow {pages}")  # new memory is zero, which is a token
    many = f"E-{pages << 16}"
    over = script.call("realm_forward", f"R{session}", many, world.context_length, OUT, 0, 0)
    kept = script.call("realm_session_truncate", f"R{session}", 2)
    report = subject.run(2, script)
    answer = report[over].result
    demand(
        answer == ErrorCode.context_full,
        f"one token more than the context of {world.context_length} answered {answer}",
    )
    demand(
        report[kept].result == ErrorCode.invalid_argument,
        "tokens that did not fit were appended all the same",
    )
    subject.still_well(2, "a context that was full")


@case(
    "HOST-CONTAIN-010",
    clause_id="host.emit-checked",
    reason="a guest is a tenant's code; its client may not be",
    versions=(2,),
)
def nonsense_is_not_handed_on(subject: HostSubject) -> None:
    """A token outside the vocabulary, after a stop token or of an impossible logprob is not handed on."""
    world = subject.world(2)
    for what, calls in {
        "a token outside the vocabulary": [(world.vocab_size, 0, 0)],
        "a token with a logprob of 1": [(5, 0, ONE_AS_F32)],
        "a token after a stop token": [
            (world.eos_token if world.eos_token < world.vocab_size else 5, 1, 0),
            (6, 0, 0),
        ],
    }.items():
        script = Script()
        script.do(f"put {TEXT} 776f72646c657373")
        for number, (token, flags, logprob) in enumerate(calls, 1):
            size = 8 if number == len(calls) else 0
            last = script.call("realm_emit", "S", token, TEXT, size, logprob, flags)
        reply = subject.attempt(2, script)
        if "wordless" in reply.text:
            raise Broken(f"{what} was handed on to the client")
        if not reply.failure and "[probe" in reply.text:
            answer = subject.read(script, reply)[last].result
            demand(answer == ErrorCode.invalid_argument, f"{what} answered {answer}")
        subject.still_well(2, what)


@case("HOST-CONTAIN-011", clause_id="host.contained", reason=OTHERS)
def neighbours_are_not_disturbed(subject: HostSubject) -> None:
    """While guests loop, trap and grab memory, a well-behaved one gets the same logits, bit for bit."""
    for version in subject.versions:
        scripts = []
        for statement in ("loop", "hog", "trap", "recurse"):
            script = Script()
            script.do(statement)
            scripts.append(script)
        with subject.meanwhile(version, scripts):
            for _ in range(3):
                subject.still_well(version, "the start of a neighbour that loops, and while it runs,")


@case("HOST-CONTAIN-012", clause_id="host.no-success", reason="a made-up answer is worse than an error")
def an_error_of_the_guest_is_an_error(subject: HostSubject) -> None:
    """What generate answers as an error, or as nonsense, is never told to the client as a success."""
    for version in subject.versions:
        for code in ["0"] if version == 1 else ["0-14", "0-13", "0-9", "12345", "0-77"]:
            script = Script()
            script.do(f"end {code}")
            reply = subject.attempt(version, script)
            demand(
                reply.failure,
                f"a v{version} guest whose generate answered {code} is told as the success {reply.text!r}",
            )
            subject.still_well(version, f"a guest whose generate answered {code}")

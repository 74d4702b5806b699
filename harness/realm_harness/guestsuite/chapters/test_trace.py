"""The loop: what is fed, what is emitted, and when."""

from __future__ import annotations

from realm_mocks.host import Hashed

from realm_harness.guestsuite.judging import demand_of, well
from realm_harness.guestsuite.marks import BOTH, V2, guest_case
from realm_harness.guestsuite.oracle import greedy_tokens
from realm_harness.guestsuite.subject import VOCABULARY, GuestSubject

EMITS = {1: "realm_stream_token", 2: "realm_emit"}


@guest_case("GUEST-TRACE-001", "loop.feeds", "a model answers to what it was fed, not to what was meant")
def test_every_token_counts(guest: GuestSubject) -> None:
    """Every sampled token is fed back, in order, so that all later logits are of the whole text."""
    for seed, prompt in ((1, "one"), (2, "another, longer prompt"), (3, "é🦀 unicode")):
        run = well(guest.run(Hashed(seed), prompt, max_tokens=12))
        due = greedy_tokens(Hashed(seed), prompt, 12)
        demand_of(run, run.tokens == due, f"the tokens are {run.tokens}; due were {due}")


@guest_case("GUEST-TRACE-002", "loop.emits", "a token that is not handed on is lost to the reader")
def test_every_token_is_handed_on(guest: GuestSubject) -> None:
    """Every sampled token is handed on exactly once, before the next one is fed."""
    run = well(guest.run(["a", "b", "c", "d", "e"], max_tokens=5))
    count = run.trace.counts[EMITS[guest.version]]
    demand_of(run, count == 5, f"5 tokens were due and {count} calls of {EMITS[guest.version]} were made")
    demand_of(run, run.text == "abcde", f"the text is {run.text!r}; due was 'abcde'")


@guest_case("GUEST-TRACE-003", "loop.prompt-text", "a reader waits for the first word, not for the last")
def test_text_is_handed_on_at_once(guest: GuestSubject) -> None:
    """Text that nothing can take back is handed on with its token."""
    run = well(guest.run(["the", "ing", "hello"], max_tokens=3))
    demand_of(run, run.texts == ("the", "ing", "hello"), f"the pieces are {run.texts}; each token is a word")


@guest_case("GUEST-TRACE-004", "loop.text-of-tokens", "text cannot come before the token that says it")
def test_text_does_not_run_ahead(guest: GuestSubject) -> None:
    """What has been handed on is always a beginning of what the tokens so far say."""
    run = well(guest.run(["the", b"\xf0\x9f", b"\xa6\x80", " a", b"x\xc3", b"\xa9y"], max_tokens=6))
    text = ""
    for index, call in enumerate(run.calls(EMITS[guest.version])):
        text += call.text or ""
        whole = VOCABULARY.decode(run.tokens[: index + 1]).decode(errors="replace")
        demand_of(run, whole.startswith(text), f"after {index + 1} tokens the text is {text!r}", call.index)


@guest_case("GUEST-TRACE-005", "loop.frugal", "every forward costs the host a step of the model")
def test_nothing_is_computed_for_nobody(guest: GuestSubject) -> None:
    """After the last token nothing more is computed."""
    compute = {"realm_forward", "realm_embed_tokens", "realm_forward_layer", "realm_compute_logits"}
    run = well(guest.run("abc", max_tokens=3))
    last = max(call.index for call in run.calls(EMITS[guest.version]))
    later = [call for call in run.trace[last + 1 :] if call.function in compute]
    demand_of(run, not later, "it goes on computing after its last token", last + 1)


@guest_case(
    "GUEST-TRACE-006", "loop.chunks", "a host may cut prompts to keep its other tenants' pace", versions=V2
)
def test_chunks_change_nothing(guest: GuestSubject) -> None:
    """The same request says the same whatever prefill_chunk is."""
    prompt = "a prompt that takes several chunks, and then some"
    due = greedy_tokens(Hashed(9), prompt, 8)
    for chunk in (0, 1, 2, 3, 7, 64, 2**32 - 1):
        run = well(guest.run(Hashed(9), prompt, max_tokens=8, prefill_chunk=chunk))
        demand_of(
            run, run.tokens == due, f"with prefill_chunk={chunk} the tokens are {run.tokens}, not {due}"
        )


@guest_case(
    "GUEST-TRACE-007", "loop.chunk-size", "the host sized its buffers and its steps by it", versions=V2
)
def test_chunks_are_kept(guest: GuestSubject) -> None:
    """No realm_forward of the prompt has more tokens than prefill_chunk says."""
    for chunk in (1, 5):
        run = well(guest.run("abc", "a prompt of some length", max_tokens=2, prefill_chunk=chunk))
        for call in run.calls("realm_forward"):
            count = call.window("ids").count
            demand_of(run, count <= chunk, f"{count} tokens in one realm_forward, {chunk} asked", call.index)


@guest_case("GUEST-TRACE-008", "loop.session", "what is not freed is the tenant's until its end", versions=V2)
def test_sessions_are_freed(guest: GuestSubject) -> None:
    """Every session that is opened is freed, once, whatever ends the request."""
    for run in (
        well(guest.run("abc", max_tokens=2)),
        well(guest.run("abc")),
        well(guest.run("", max_tokens=4)),
        well(guest.run("abc", max_tokens=0)),
    ):
        opened = run.trace.counts["realm_session_open"] + run.trace.counts["realm_session_fork"]
        freed = run.trace.counts["realm_session_free"]
        demand_of(run, opened == freed, f"{opened} sessions opened, {freed} freed")


@guest_case("GUEST-TRACE-009", "loop.bounded", "a tenant's calls are counted", versions=BOTH)
def test_calls_are_in_proportion(guest: GuestSubject) -> None:
    """A request takes calls in proportion to its tokens."""
    few, many = (well(guest.run("x" * 400, max_tokens=count)) for count in (50, 100))
    added = len(many.trace) - len(few.trace)
    per_token = added / 50
    layers = 2 if guest.version == 1 else 0
    demand_of(many, per_token <= 16 + layers, f"{per_token:.1f} host calls for each further token")

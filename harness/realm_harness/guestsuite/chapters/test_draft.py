"""Speculation: a guest may guess ahead, and nobody may be able to tell from what it says."""

from __future__ import annotations

from typing import Any

from realm_abi.errors import ErrorCode
from realm_mocks.host import Fault, Fixed, Return, Stop, winners

from realm_harness.case import Unsupported
from realm_harness.guestsuite.drafting import (
    always_wrong,
    drafter,
    fed,
    leave,
    rambling,
    said,
    same_with_drafts,
)
from realm_harness.guestsuite.drawing import everything, row
from realm_harness.guestsuite.judging import demand_of, kept_rules, offered, well
from realm_harness.guestsuite.marks import V2, guest_case
from realm_harness.guestsuite.subject import PROMPT, VOCABULARY, GuestSubject

COUNT = 24
SAYING = winners("one two one two stop three", VOCABULARY)
RIGHT = drafter(SAYING)
PROMPT_TOKENS = len(VOCABULARY.encode(PROMPT, add_bos=True))


@guest_case("GUEST-DRAFT-001", "draft.same", "guesses are for speed", versions=V2)
def test_greedy_with_guesses_from_the_text(guest: GuestSubject) -> None:
    """At temperature 0 a request with leave to guess says what it says without, token for token."""
    for seed in (1, 3, 5):
        same_with_drafts(guest, rambling(seed), prompt="abab abba baab", max_tokens=COUNT)


@guest_case("GUEST-DRAFT-002", "draft.same", "a draft model is another model", versions=V2)
def test_greedy_with_guesses_of_the_host(guest: GuestSubject) -> None:
    """Whatever realm_draft proposes, right, wrong or half right, the text at temperature 0 is the same."""
    script = rambling(7)
    for right in (1 << 30, 0, 1, 2):
        same_with_drafts(guest, script, drafter(script, right=right), max_tokens=COUNT)


@guest_case("GUEST-DRAFT-003", "draft.sampled", "a likely token is not the one that was drawn", versions=V2)
def test_sampled(guest: GuestSubject) -> None:
    """A seed says with guesses what it says without, for they are kept only where they are drawn."""
    script = rambling(9)
    kinds: tuple[tuple[int, dict[str, Any]], ...] = (
        (1, {}),
        (2, {"top_k": 3}),
        (2**40, {"top_p": 0.8, "min_p": 0.05}),
    )
    for seed, filters in kinds:
        chosen = everything(guest, temperature=0.9, seed=seed, max_tokens=COUNT, **filters)
        same_with_drafts(guest, script, drafter(script, right=2), **chosen)


@guest_case("GUEST-DRAFT-004", "draft.sampled", "a guess is not yet part of the text", versions=V2)
def test_a_penalty(guest: GuestSubject) -> None:
    """repetition_penalty counts the tokens that were sampled and no guesses."""
    for temperature in (0.0, 0.9):
        chosen = everything(guest, seed=5, max_tokens=COUNT) | {"temperature": temperature}
        script = rambling(11, letters=26)
        same_with_drafts(guest, script, drafter(script, right=1), **chosen | {"repetition_penalty": 1.4})


@guest_case("GUEST-DRAFT-005", "draft.logprobs", "each row is another position's", versions=V2)
def test_logprobs(guest: GuestSubject) -> None:
    """Logprobs are bit for bit those of the request without guesses."""
    script = rambling(13)
    same_with_drafts(guest, script, drafter(script, right=2), max_tokens=COUNT, want_logprobs=True)


@guest_case("GUEST-DRAFT-006", "draft.length", "guesses that all come true are still bounded", versions=V2)
def test_max_tokens(guest: GuestSubject) -> None:
    """With guesses that all come true a text still ends at max_tokens, and nothing is fed beyond it."""
    for most in range(1, 9):
        run = well(guest.run(SAYING, max_tokens=most, draft=RIGHT, **leave(4, 0)))
        demand_of(run, len(run.tokens) == most, f"{len(run.tokens)} tokens, {most} asked")
        count = PROMPT_TOKENS + sum(fed(run))
        due = PROMPT_TOKENS + most - 1
        demand_of(run, count <= due, f"{count} tokens were fed, of which {due} can be of use")


@guest_case("GUEST-DRAFT-007", "draft.length", "a context ends where it ends", versions=V2)
def test_the_end_of_the_context(guest: GuestSubject) -> None:
    """Guesses do not reach beyond the context, and the text that fills it is the same."""
    for room in range(6):
        context = PROMPT_TOKENS + room
        plain = well(guest.run(SAYING, context_length=context))
        run = guest.run(SAYING, context_length=context, draft=RIGHT, **leave(4, 0))
        demand_of(run, said(run) == said(plain), f"{room} tokens before the context's end it differs")
        kept_rules(run)


@guest_case("GUEST-DRAFT-008", "draft.ends", "what comes after the end was never said", versions=V2)
def test_an_end_among_guesses(guest: GuestSubject) -> None:
    """Stop strings and stop tokens among guesses end the text where they end it without."""
    kinds: tuple[dict[str, Any], ...] = (
        {"stop_strings": ["two st"]}, {"stop_strings": ["e t", "p"]}, {"stop_tokens": [ord("w")]},
        {"stop_tokens": [ord("e")]}, {"stop_tokens": [ord("p")]},
    )  # fmt: skip
    for stops in kinds:
        same_with_drafts(guest, SAYING, RIGHT, **stops)


@guest_case("GUEST-DRAFT-009", "draft.ends", "kept guesses are not emitted by themselves", versions=V2)
def test_a_reader_that_stops(guest: GuestSubject) -> None:
    """After realm_emit has asked to stop no further guess is emitted."""
    for nth in (1, 2, 3, 4):
        faults = [Fault(Stop(), "realm_emit", nth)]
        run = well(guest.run(SAYING, faults=faults, draft=RIGHT, **leave(4, 3)))
        count = run.trace.counts["realm_emit"]
        demand_of(run, count == nth, f"asked to stop at emit {nth}, and {count} were made")


@guest_case("GUEST-DRAFT-010", "draft.most", "each guess is a row of the host's work", versions=V2)
def test_at_most(guest: GuestSubject) -> None:
    """No realm_forward has more guesses than draft_tokens says."""
    for most in (1, 2, 3):
        for longest in (0, 3):
            given = leave(most, longest)
            run = well(guest.run(SAYING, draft=RIGHT, **given))
            widest = max(fed(run))
            demand_of(run, widest <= most + 1, f"{widest - 1} guesses in one realm_forward, with {given}")


@guest_case("GUEST-DRAFT-011", "draft.off", "guesses cost even where they are wrong", versions=V2)
def test_off(guest: GuestSubject) -> None:
    """With draft_tokens 0, or in a request that ends before it, nothing is guessed."""
    for given in (leave(0, 3), leave(4, 3) | {"size": 72}):
        run = well(guest.run(SAYING, draft=RIGHT, **given))
        demand_of(run, not run.calls("realm_draft"), f"with {given} the host is asked for a draft")
        demand_of(run, max(fed(run)) == 1, f"with {given} {max(fed(run))} tokens are fed at once")


@guest_case("GUEST-DRAFT-012", "draft.without", "most hosts have no draft model", versions=V2)
def test_a_host_without_a_draft_model(guest: GuestSubject) -> None:
    """After unsupported of realm_draft a guest goes on without, and does not ask again."""
    run = well(guest.run(SAYING, **leave(4, 0)))
    demand_of(run, said(run) == said(well(guest.run(SAYING))), "without a draft model it says something else")
    asked = run.trace.counts["realm_draft"]
    demand_of(run, asked <= 1, f"after unsupported it asked {asked - 1} times more")


@guest_case("GUEST-DRAFT-013", "draft.costs", "a guest that guesses badly must not be slower", versions=V2)
def test_wrong_guesses(guest: GuestSubject) -> None:
    """With guesses that are all wrong there are no more forwards than without, and the whole text."""
    plain = well(guest.run(SAYING))
    run = well(guest.run(SAYING, draft=always_wrong, **leave(4, 0)))
    demand_of(run, said(run) == said(plain), f"with wrong guesses the text is {run.text!r}")
    demand_of(run, len(fed(run)) <= len(fed(plain)), f"{len(fed(run))} forwards; {len(fed(plain))} without")


@guest_case("GUEST-DRAFT-014", "draft.saves", "that is what guesses are for", versions=V2)
def test_right_guesses_save_forwards(guest: GuestSubject) -> None:
    """Guesses that come true save forwards: from a draft model, and from a text that repeats itself."""
    again = winners("abcabcabcabcabcabc", VOCABULARY)
    for script, source, longest in ((SAYING, RIGHT, 0), (again, None, 3)):
        plain = well(guest.run(script))
        run = well(guest.run(script, draft=source, **leave(4, longest)))
        if max(fed(run)) == 1:
            raise Unsupported("the guest does not guess, though it may")
        count, due = len(fed(run)), len(fed(plain)) * 2 // 3
        demand_of(run, count <= due, f"{count} forwards of {len(fed(plain))} with guesses that come true")


@guest_case("GUEST-DRAFT-015", "draft.believed", "a host may draft with another vocabulary", versions=V2)
def test_guesses_outside_the_vocabulary(guest: GuestSubject) -> None:
    """A token of realm_draft that is outside the vocabulary is not fed."""
    most = VOCABULARY.vocab_size

    def strange(tokens: tuple[int, ...], room: int) -> list[int]:
        return [most, 2**32 - 1, *[0] * room][:room]

    run = kept_rules(guest.run(SAYING, draft=strange, **leave(3, 0)))
    demand_of(run, run.fault is None, f"a draft outside the vocabulary, and the guest broke: {run.fault}")
    fine = run.error is ErrorCode.internal or run.text == well(guest.run(SAYING)).text
    demand_of(run, fine, f"after a draft outside the vocabulary generate answered {run.answer}")


@guest_case("GUEST-DRAFT-016", "draft.again", "guesses of one request are no part of the next", versions=V2)
def test_the_next_request(guest: GuestSubject) -> None:
    """A request with guesses does not show in the next, with or without them."""
    due = said(well(guest.run(SAYING, "another")))
    with guest.instance(SAYING, draft=RIGHT) as requests:
        for options in (leave(3, 3), {}, leave(3, 3)):
            well(requests.run("a first request", **leave(3, 3)))
            run = well(requests.run("another", **options))
            demand_of(run, said(run) == due, f"after another request it says {run.text!r}")
    none = [Fault(Return(ErrorCode.unsupported), "realm_draft")]
    with guest.instance(SAYING, draft=RIGHT, faults=none) as requests:
        first, second = (well(requests.run("another", **leave(3, 0))) for _ in range(2))
        asked = (first.trace.counts["realm_draft"], second.trace.counts["realm_draft"])
        demand_of(second, asked[0] == asked[1], "after unsupported in one request the next does not ask")


@guest_case("GUEST-DRAFT-017", "draft.sampled", "the noise is the position's", versions=V2)
def test_the_noise_of_a_position(guest: GuestSubject) -> None:
    """What is drawn at a position does not depend on how many tokens were guessed before it."""
    flat = Fixed(row(dict.fromkeys("abcdefgh", 0.0)))
    chosen = everything(guest, temperature=1.0, seed=6, max_tokens=40)
    due = offered(guest.run(flat, **chosen))
    for right in range(8):
        letters = [ord("a") + right] * 4
        given = leave(4, 0) | chosen
        run = well(guest.run(flat, draft=lambda tokens, most, it=letters: it[:most], **given))
        demand_of(run, said(run) == said(due), f"with guesses of {chr(letters[0])!r} it says {run.text!r}")


@guest_case("GUEST-DRAFT-018", "draft.without", "an answer may be empty", versions=V2)
def test_no_guess(guest: GuestSubject) -> None:
    """A realm_draft that proposes nothing is no error, and changes nothing."""
    run = well(guest.run(SAYING, draft=lambda tokens, most: [], **leave(4, 0)))
    demand_of(run, said(run) == said(well(guest.run(SAYING))), "without proposals it says something else")
    once = [Fault(Return(0), "realm_draft")]
    run = well(guest.run(SAYING, faults=once, draft=RIGHT, **leave(4, 0)))
    demand_of(run, said(run) == said(well(guest.run(SAYING))), "after an empty proposal it says else")


@guest_case("GUEST-DRAFT-019", "draft.costs", "each guess is a row that is computed", versions=V2)
def test_guesses_that_never_come_true(guest: GuestSubject) -> None:
    """Where guesses never come true fewer of them are made: of a long text no more than half as many rows."""
    long = winners("what is said is never what was guessed, so it is not worth it", VOCABULARY)
    plain = sum(fed(well(guest.run(long))))
    for most in (1, 4):
        run = well(guest.run(long, draft=always_wrong, **leave(most, 0)))
        wrong = sum(fed(run)) - plain
        demand_of(run, wrong <= plain // 2, f"{wrong} wrong guesses were fed with {plain} tokens")

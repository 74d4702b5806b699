"""Seeds: the same noise for the same request, other noise for another."""

from __future__ import annotations

from typing import Any

from realm_mocks.host import Fixed, Hashed, Run

from realm_harness.guestsuite.drawing import everything, row
from realm_harness.guestsuite.judging import demand_of, offered
from realm_harness.guestsuite.marks import V2, guest_case
from realm_harness.guestsuite.subject import GuestSubject

FLAT = Fixed(row(dict.fromkeys("abcdefghijklmnopqrstuvwxyz", 0.0)))
"""26 letters of equal chance: twenty tokens that agree are no coincidence."""

COUNT = 21


def sampled(guest: GuestSubject, seed: int, prompt: str = "p", **options: Any) -> Run:
    """Twenty tokens and more under a seed."""
    chosen = everything(guest, seed=seed, max_tokens=COUNT, **options)
    return offered(guest.run(FLAT, prompt, **chosen))


@guest_case("GUEST-SEED-001", "seed.repeats", "it is how people reproduce an answer")
def test_the_same_seed_repeats(guest: GuestSubject) -> None:
    """The same request with the same seed says the same, in another instance too."""
    for seed in (1, 2**31, 2**32 - 1):
        first, second = sampled(guest, seed), sampled(guest, seed)
        what = f"seed {seed} says {first.text!r} and then {second.text!r}"
        demand_of(second, first.tokens == second.tokens, what)


@guest_case("GUEST-SEED-002", "seed.differs", "several answers of one seed each are asked to choose from")
def test_other_seeds_say_something_else(guest: GuestSubject) -> None:
    """Different seeds say different things."""
    texts = {seed: sampled(guest, seed).text for seed in (0, 1, 2, 3, 255, 256, 65536, 2**31, 2**32 - 1)}
    same = [(a, b) for a in texts for b in texts if a < b and texts[a] == texts[b]]
    demand_of(sampled(guest, 1), not same, f"seeds {same} say the same")


@guest_case("GUEST-SEED-003", "seed.zero", "0 is a seed like any other")
def test_zero_is_a_seed(guest: GuestSubject) -> None:
    """Seed 0 repeats like any other."""
    first, second = sampled(guest, 0), sampled(guest, 0)
    demand_of(second, first.text == second.text, f"seed 0 says {first.text!r} and then {second.text!r}")


@guest_case("GUEST-SEED-004", "seed.no-shift", "neighbouring seeds are what people try")
def test_neighbouring_seeds_are_not_shifted(guest: GuestSubject) -> None:
    """The text of a seed is not that of the next one, shifted by a token."""
    texts = [sampled(guest, seed).text for seed in range(6)]
    for seed in range(5):
        a, b = texts[seed], texts[seed + 1]
        shifted = a[2:12] in b or b[2:12] in a
        demand_of(sampled(guest, seed), not shifted, f"seed {seed} says {a!r}, seed {seed + 1} {b!r}")


@guest_case("GUEST-SEED-005", "seed.wide", "half of a seed is another seed", versions=V2)
def test_all_bits_count(guest: GuestSubject) -> None:
    """The upper 32 bits of a seed count."""
    low, high = sampled(guest, 7), sampled(guest, 7 + (1 << 32))
    demand_of(high, low.text != high.text, f"seeds 7 and 7 + 2^32 both say {low.text!r}")


@guest_case("GUEST-SEED-006", "seed.position", "a resumed request must go on as it was", versions=V2)
def test_only_seed_and_position_count(guest: GuestSubject) -> None:
    """Prompts of the same length meet the same noise, however they are cut."""
    first = sampled(guest, 4, "abcdefgh")
    for prompt, chunk in (("hgfedcba", 0), ("abcdefgh", 3)):
        other = sampled(guest, 4, prompt, prefill_chunk=chunk)
        what = f"at the same positions seed 4 says {first.text!r} and, after {prompt!r}, {other.text!r}"
        demand_of(other, first.text == other.text, what)


@guest_case("GUEST-SEED-007", "seed.own", "one tenant's noise must not depend on another's requests")
def test_instances_do_not_share(guest: GuestSubject) -> None:
    """Instances that take turns say what each says alone."""
    options = everything(guest, temperature=0.8, seed=5, max_tokens=6)
    alone = [offered(guest.run(Hashed(1), prompt, **options)).texts for prompt in ("one", "two")]
    with guest.instance(Hashed(1)) as left, guest.instance(Hashed(1)) as right:
        for requests in (left, right, left, right):
            for prompt, due in zip(("one", "two"), alone, strict=True):
                run = offered(requests.run(prompt, **options))
                demand_of(run, run.texts == due, f"beside another instance it says {run.texts}, not {due}")


@guest_case("GUEST-SEED-008", "seed.repeats", "a request is not the first of its instance for long")
def test_the_second_request_repeats_too(guest: GuestSubject) -> None:
    """The noise does not go on from one request to the next."""
    due = sampled(guest, 9).text
    with guest.instance(FLAT) as requests:
        for number in range(1, 4):
            run = offered(requests.run("p", **everything(guest, seed=9, max_tokens=COUNT)))
            demand_of(run, run.text == due, f"as request {number} seed 9 says {run.text!r}, alone {due!r}")


@guest_case("GUEST-SEED-009", "seed.counts-the-prompt", "a text that is sent back is gone on with as it was")
def test_the_prompt_counts(guest: GuestSubject) -> None:
    """Behind a prompt that is one token longer each draw has the noise that was the next one's."""
    first, longer = sampled(guest, 4, "abc").text, sampled(guest, 4, "abcd")
    what = f"after 'abc' seed 4 says {first!r}; due after 'abcd' was {first[1:]!r}, and it is {longer.text!r}"
    demand_of(longer, longer.text.startswith(first[1:]), what)

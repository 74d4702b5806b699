"""The prompt: encoded as asked, fed whole."""

from __future__ import annotations

from typing import Any

from realm_abi.errors import ErrorCode
from realm_mocks.host import Run, winners

from realm_harness.guestsuite.judging import demand_of, failed, well
from realm_harness.guestsuite.marks import V2, guest_case
from realm_harness.guestsuite.subject import CONTEXT, VOCABULARY, GuestSubject
from realm_harness.guestsuite.tokenizers import Bytes

FEEDS = {1: "realm_embed_tokens", 2: "realm_forward"}
BOS, EOS = VOCABULARY.bos_id, VOCABULARY.eos_ids[0]


def fed(run: Run) -> tuple[int, ...]:
    """All tokens that were fed."""
    calls = [call for call in run.trace if call.function in FEEDS.values()]
    return tuple(token for call in calls for token in call.ids or ())


def check_prompt(guest: GuestSubject, prompt: str, **options: Any) -> None:
    """The tokens fed begin with the prompt's; the rule `prompt` of every run holds them in place."""
    run = well(guest.run("ab", prompt, **options))
    due = tuple(VOCABULARY.encode(prompt, add_bos=True))
    demand_of(run, fed(run)[: len(due)] == due, f"prompt {prompt!r}: fed were {fed(run)}, due {due} first")
    demand_of(run, run.text == "ab", f"prompt {prompt!r}: the text is {run.text!r}; due was 'ab'")


@guest_case("GUEST-PROMPT-001", "prompt.whole", "half a prompt is another prompt")
def test_all_lengths(guest: GuestSubject) -> None:
    """A prompt of any length is fed whole, in order, once."""
    for length in (1, 2, 6, 7, 8, 9, 15, 16, 17, 100, 127, 128, 129, 300):
        check_prompt(guest, "".join(chr(33 + (7 * n) % 90) for n in range(length)))


@guest_case("GUEST-PROMPT-002", "prompt.whole", "a template may leave nothing but the BOS")
def test_an_empty_prompt(guest: GuestSubject) -> None:
    """An empty prompt is the BOS alone."""
    check_prompt(guest, "")


@guest_case("GUEST-PROMPT-003", "prompt.bytes", "texts have a length, no end mark")
def test_a_nul_inside(guest: GuestSubject) -> None:
    """A NUL in the prompt is a character like any other."""
    for prompt in ("a\0b", "\0", "\0\0 more after it", "ends with\0"):
        check_prompt(guest, prompt)


@guest_case("GUEST-PROMPT-004", "prompt.bytes", "a length in characters is too short by a third")
def test_characters_of_several_bytes(guest: GuestSubject) -> None:
    """A prompt's length is in bytes, whatever its characters."""
    for prompt in ("é", "日本語のプロンプト", "🦀👍🏽 and e\u0301", "\ufeffBOM first", "zero\u200dwidth"):
        check_prompt(guest, prompt)


@guest_case("GUEST-PROMPT-005", "prompt.special", "control tokens in a template are no text", versions=V2)
def test_special_tokens(guest: GuestSubject) -> None:
    """Special tokens in a prompt are parsed, and plain text when plain_text says so."""
    run = well(guest.run("ab", "a<|end|>b"))
    parsed = VOCABULARY.token("<|end|>") in fed(run)
    demand_of(run, parsed, f"of 'a<|end|>b' the tokens {fed(run)} were fed, without the special one")
    run = well(guest.run("ab", "a<|end|>b", plain_text=True))
    spelled = VOCABULARY.token("<|end|>") not in fed(run)
    demand_of(run, spelled, f"with plain_text 'a<|end|>b' became {fed(run)}, with the special token")


@guest_case("GUEST-PROMPT-006", "prompt.bos", "a second BOS, or none, is another prompt", versions=V2)
def test_bos_as_asked(guest: GuestSubject) -> None:
    """The BOS comes first if add_bos says so, and not at all if not."""
    for add_bos in (True, False):
        run = well(guest.run("ab", "xyz", add_bos=add_bos))
        count = fed(run).count(BOS)
        demand_of(run, count == add_bos, f"with add_bos={add_bos} the BOS was fed {count} times")


@guest_case("GUEST-PROMPT-007", "prompt.none", "there are no logits to sample from", versions=V2)
def test_no_tokens(guest: GuestSubject) -> None:
    """A prompt without tokens is an invalid_argument."""
    for max_tokens in (8, 0):
        run = guest.run("ab", "", add_bos=False, max_tokens=max_tokens)
        failed(run, ErrorCode.invalid_argument, to="a prompt without tokens")


@guest_case("GUEST-PROMPT-008", "prompt.fits", "a full context is still a context")
def test_as_long_as_the_context(guest: GuestSubject) -> None:
    """A prompt that fills the context exactly is taken."""
    run = well(guest.run(winners("", VOCABULARY, afterwards=65), "." * 31, context_length=32, max_tokens=1))
    demand_of(run, run.text == "A", f"after a prompt of 32 tokens in a context of 32 it says {run.text!r}")


@guest_case("GUEST-PROMPT-009", "prompt.too-long", "half a prompt is another prompt")
def test_longer_than_the_context(guest: GuestSubject) -> None:
    """A prompt that does not fit in the context is the error context_full (v1: any), and nothing is said."""
    for length in (32, 33, 100, 4000):
        run = guest.run("ab", "." * length, context_length=32)
        due = (ErrorCode.context_full,) if guest.version == 2 else ()
        failed(run, *due, to=f"a prompt of {length + 1} tokens in a context of 32")
        demand_of(run, run.text == "", f"it says {run.text!r} to a prompt that does not fit")


@guest_case("GUEST-PROMPT-010", "prompt.large", "documents are pasted into prompts")
def test_a_mebibyte(guest: GuestSubject) -> None:
    """A prompt of 1 MiB that is longer than the context is turned down after a few calls."""
    tokenizer = Bytes(most=CONTEXT)
    run = guest.run(winners("ab", tokenizer), "x" * (1 << 20), tokenizer=tokenizer)
    due = (ErrorCode.context_full,) if guest.version == 2 else ()
    failed(run, *due, to=f"a prompt of {CONTEXT + 1} tokens in a context of {CONTEXT}")
    demand_of(run, len(run.trace) < 50, f"it made {len(run.trace)} calls to find out")


@guest_case("GUEST-PROMPT-011", "prompt.large", "documents are pasted into prompts", imports=())
def test_a_mebibyte_that_fits(guest: GuestSubject) -> None:
    """A prompt of 1 MiB whose tokens fit in the context is taken, to its last word."""
    tokenizer = Bytes(most=1000)
    prompt = "x" * (1 << 20) + " and the last word"
    run = well(guest.run(winners("ab", tokenizer), prompt, tokenizer=tokenizer))
    demand_of(run, run.text == "ab", f"the text is {run.text!r}; due was 'ab'")


@guest_case("GUEST-PROMPT-012", "prompt.many-tokens", "some tokenizers split bytes", versions=V2)
def test_more_tokens_than_bytes(guest: GuestSubject) -> None:
    """A prompt may have more tokens than bytes."""
    tokenizer = Bytes(300, piece=b"", per_byte=5)
    run = well(guest.run(winners("ab", Bytes(300)), "prompt" * 20, tokenizer=tokenizer))
    demand_of(run, run.text == "ab", f"the text is {run.text!r}; due was 'ab'")

"""Characters and tokens, which do not end in the same places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from realm_mocks.host import Step, winners

from realm_harness.guestsuite.judging import demand_of, well
from realm_harness.guestsuite.marks import V1, guest_case
from realm_harness.guestsuite.subject import VOCABULARY, GuestSubject
from realm_harness.guestsuite.tokenizers import Bytes

CRAB = "🦀".encode()


def check_text(guest: GuestSubject, steps: Sequence[Step], due: str, **options: Any) -> None:
    """The text is `due`; that every piece is UTF-8 is a rule of every run."""
    run = well(guest.run(steps, **options))
    demand_of(run, run.text == due, f"of {list(steps)} came {run.text!r} in {run.texts}; due was {due!r}")


@guest_case("GUEST-UTF8-001", "utf8.across", "emoji take two tokens and more")
def test_a_character_over_two_tokens(guest: GuestSubject) -> None:
    """A character that comes in two tokens is one character."""
    check_text(guest, [b"\xf0\x9f", b"\xa6\x80"], "🦀")
    check_text(guest, ["the", b"\xf0", b"\x9f\xa6\x80", "ing"], "the🦀ing")
    check_text(guest, [b"\xf0\x9f\xa6", (0x80,)], "🦀")


@guest_case("GUEST-UTF8-002", "utf8.across", "byte tokens are every tokenizer's last resort")
def test_a_character_over_four_tokens(guest: GuestSubject) -> None:
    """A character that comes byte by byte is one character."""
    check_text(guest, [*CRAB], "🦀")
    check_text(guest, [*"é日🦀".encode()], "é日🦀")


@guest_case("GUEST-UTF8-003", "utf8.across", "tokenizers merge bytes, not characters")
def test_tokens_across_characters(guest: GuestSubject) -> None:
    """A token may end one character and begin the next."""
    check_text(guest, [b"\xe6\x97", b"\xa5\xe6", b"\x9c\xac"], "日本")
    check_text(guest, [b"x\xc3", b"\xa9y"], "xéy")


@guest_case("GUEST-UTF8-004", "utf8.held-back", "half a character on the screen is a broken one")
def test_halves_are_held_back(guest: GuestSubject) -> None:
    """A piece never ends inside a character; the rest of its token's text is not held back."""
    run = well(guest.run(["the", b"x\xc3", b"\xa9y", "ing"], max_tokens=4))
    demand_of(run, run.texts == ("the", "x", "éy", "ing"), f"the pieces are {run.texts}")


@guest_case("GUEST-UTF8-005", "utf8.end", "what was begun and not ended is shown as such")
def test_half_a_character_at_the_end(guest: GuestSubject) -> None:
    """A character that the end cuts off becomes U+FFFD, at max_tokens and after a stop token."""
    check_text(guest, [b"x\xc3"], "x\ufffd", max_tokens=1)
    check_text(guest, [b"x\xc3"], "x\ufffd")
    check_text(guest, ["a", b"\xf0\x9f\xa6"], "a\ufffd")


@guest_case("GUEST-UTF8-006", "utf8.broken", "models say bytes that are no text")
def test_broken_bytes_harm_no_neighbours(guest: GuestSubject) -> None:
    """Bytes that are no character take none of the characters round them along."""
    for broken in ([0xFF], [0xC3], [0x80], [0xF0, 0x9F], [0xE6], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF5]):
        run = well(guest.run(["A", *broken, "B", "é", "C"]))
        left = run.text.replace("\ufffd", "")
        demand_of(run, left == "ABéC", f"round the bytes {bytes(broken)!r} 'ABéC' became {run.text!r}")


@guest_case("GUEST-UTF8-007", "utf8.nul", "texts have a length, no end mark")
def test_a_nul(guest: GuestSubject) -> None:
    """A NUL in a text is handed on like any other character."""
    check_text(guest, ["the", 0, "ing"], "the\0ing")
    check_text(guest, [0, 0, "a"], "\0\0a")


@guest_case("GUEST-UTF8-008", "utf8.returned", "the returned text is read up to a NUL", versions=V1)
def test_the_returned_text(guest: GuestSubject) -> None:
    """generate returns what was streamed, up to a NUL."""
    texts: list[list[Step]] = [["the", 0, "ing"], ["hello", " world"], [*CRAB], [], ["x" * 200]]
    for steps in texts:
        run = well(guest.run(steps, max_tokens=1000))
        due = run.text.partition("\0")[0]
        demand_of(
            run, run.answer.returned == due, f"streamed was {run.text!r}, returned {run.answer.returned!r}"
        )


@guest_case("GUEST-UTF8-009", "utf8.nothing-trimmed", "a space that is trimmed glues two words together")
def test_spaces_and_marks(guest: GuestSubject) -> None:
    """Spaces, line ends, a byte order mark and joiners come as the tokens say them."""
    steps = ["  ", " the", "    ", "\n", "\r\n", "\t", "\ufeff", "\u200d", "👍🏽", "e\u0301", "\ufffd", " "]
    check_text(guest, steps, "".join(steps))


@guest_case("GUEST-UTF8-010", "utf8.long", "a token of 128 spaces is common, one of 5,000 bytes legal")
def test_long_tokens(guest: GuestSubject) -> None:
    """Tokens may be longer than a guest expects."""
    for size in (255, 256, 257, 4096, 100_000):
        tokenizer = Bytes(300, piece=b"x" * size)
        run = well(guest.run(winners([65, 256, 66], tokenizer), tokenizer=tokenizer))
        demand_of(run, run.text == f"A{'x' * size}B", f"of a token of {size} bytes {len(run.text)} - 2 came")


@guest_case("GUEST-UTF8-011", "utf8.empty", "special tokens and some others have no text")
def test_tokens_without_text(guest: GuestSubject) -> None:
    """A token without text is a token."""
    bos = int(VOCABULARY.bos_id or 0)
    run = well(guest.run(["a", (bos,), "b"]))
    special = "; a special token has no text: realm_decode with the flag skip_special"
    demand_of(run, run.text == "ab" or guest.version == 1, f"the text is {run.text!r}; due was 'ab'{special}")
    demand_of(run, run.tokens == (97, bos, 98), f"the tokens are {run.tokens}")

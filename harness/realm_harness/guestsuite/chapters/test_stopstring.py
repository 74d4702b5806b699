"""Stop strings, which know nothing of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from realm_abi.errors import ErrorCode, FinishReason
from realm_mocks.host import Step

from realm_harness.guestsuite.judging import demand_of, failed, offered
from realm_harness.guestsuite.marks import V2, guest_case
from realm_harness.guestsuite.subject import GuestSubject

HARMLESS: list[Step] = ["the", " hello", b"\xf0\x9f", b"\xa6\x80", "ing"]
"""Tokens with nothing in them that begins a snowman."""


def check_stop(guest: GuestSubject, steps: Sequence[Step], stops: list[str], due: str) -> None:
    """The text is cut there, and stop_string is the reason."""
    run = offered(guest.run(steps, stop_strings=stops, max_tokens=2000))
    demand_of(
        run, run.text == due, f"of {list(steps)} stop strings {stops} left {run.text!r}; due was {due!r}"
    )
    reason = run.reason is FinishReason.stop_string
    demand_of(run, reason, f"generate answered {run.answer}; due was reason stop_string")


def check_whole(guest: GuestSubject, steps: Sequence[Step], stops: list[str], due: str) -> None:
    """The text is not cut, and a stop token is the reason."""
    run = offered(guest.run(steps, stop_strings=stops, max_tokens=2000))
    demand_of(
        run, run.text == due, f"of {list(steps)} stop strings {stops} left {run.text!r}; due was {due!r}"
    )
    reason = run.reason is FinishReason.stop_token
    demand_of(run, reason, f"generate answered {run.answer}; due was reason stop_token")


@guest_case("GUEST-STOP-001", "stopstring.ends", "programs cut answers with it", versions=V2)
def test_one_token(guest: GuestSubject) -> None:
    """A stop string that is one token ends the text before it."""
    check_stop(guest, ["hello", "STOP", " world"], ["STOP"], "hello")
    check_stop(guest, ["hello", "###"], ["###"], "hello")


@guest_case("GUEST-STOP-002", "stopstring.across", "a stop string knows nothing of tokens", versions=V2)
def test_across_tokens(guest: GuestSubject) -> None:
    """A stop string over several tokens ends the text before its first character."""
    check_stop(guest, ["the", "st", "op", "ing"], ["stop"], "the")
    check_stop(guest, [*"a long way to go"], ["way to"], "a long ")


@guest_case("GUEST-STOP-003", "stopstring.across", "a stop string knows nothing of tokens", versions=V2)
def test_inside_tokens(guest: GuestSubject) -> None:
    """A stop string inside a token, or from inside one into the next, ends the text."""
    check_stop(guest, [" hello", " world"], ["ello"], " h")
    check_stop(guest, [" hello", " world"], ["lo wo"], " hel")
    check_stop(guest, ["stop", "stop"], ["ps"], "sto")


@guest_case(
    "GUEST-STOP-004", "stopstring.restart", "a beginning that leads nowhere may hold another", versions=V2
)
def test_false_starts(guest: GuestSubject) -> None:
    """A beginning that comes to nothing does not hide the stop string that begins inside it."""
    check_stop(guest, ["st", "st", "op", "and"], ["stop"], "st")
    check_stop(guest, [*"aaab"], ["aab"], "a")
    check_stop(guest, [*"xabababac"], ["ababac"], "xab")
    check_stop(guest, ["\n", "\n\n", "User:"], ["\n\nUser:"], "\n")


@guest_case("GUEST-STOP-005", "stopstring.first", "of several ends the first is the end", versions=V2)
def test_several(guest: GuestSubject) -> None:
    """Of several stop strings the one that is complete first ends the text, wherever in the list."""
    for stops in (["and", "hello"], ["hello", "and"]):
        check_stop(guest, ["the", " hello", "and"], stops, "the ")
    check_stop(guest, ["the", "st", "op"], ["op", "stop"], "the")
    check_stop(guest, [*"abcdef"], ["bcde", "cd"], "ab")


@guest_case("GUEST-STOP-006", "stopstring.ends", "nothing need come before it", versions=V2)
def test_at_the_very_start(guest: GuestSubject) -> None:
    """A stop string at the very start leaves an empty text."""
    check_stop(guest, ["STOP", "hello"], ["STOP"], "")


@guest_case(
    "GUEST-STOP-007",
    "stopstring.bytes",
    "characters are cut by tokens, stop strings by characters",
    versions=V2,
)
def test_in_pieces_of_characters(guest: GuestSubject) -> None:
    """A stop string whose characters come in pieces ends the text."""
    check_stop(guest, ["the", b"\xf0\x9f", b"\xa6\x80", "STOP"], ["🦀"], "the")
    check_stop(guest, ["é", "ß", "é"], ["ß"], "é")
    check_stop(guest, [b"\xe6\x97", b"\xa5\xe6", b"\x9c\xac", "the"], ["本"], "日")


@guest_case("GUEST-STOP-008", "stopstring.held-back", "what is handed on cannot be taken back", versions=V2)
def test_nothing_of_it_is_handed_on(guest: GuestSubject) -> None:
    """No character of a stop string is handed on, nor what may become one."""
    run = offered(guest.run([*"say stop now"], stop_strings=["stop"]))
    demand_of(run, run.text == "say ", f"the text is {run.text!r}; due was 'say '")
    run = offered(guest.run(["a", "st", "ing"], stop_strings=["stop"]))
    early = "".join(run.texts[:2])
    demand_of(run, "s" not in early, f"after 'a' and 'st' {early!r} is handed on, with 'stop' still possible")


@guest_case("GUEST-STOP-009", "stopstring.released", "what was held back was said", versions=V2)
def test_what_was_held_back_comes(guest: GuestSubject) -> None:
    """What was held back and became no stop string is handed on, at the latest with the last token."""
    check_whole(guest, ["hello", "st"], ["stop"], "hellost")
    check_whole(guest, ["st", "ing", "st", "the"], ["stop"], "stingstthe")
    run = offered(guest.run(["hello", "st", "op"], max_tokens=2, stop_strings=["stop"]))
    demand_of(run, run.text == "hellost", f"at max_tokens the text is {run.text!r}; due was 'hellost'")


@guest_case("GUEST-STOP-010", "stopstring.absent", "most texts contain none", versions=V2)
def test_one_that_does_not_occur(guest: GuestSubject) -> None:
    """A stop string that does not occur changes nothing."""
    check_whole(guest, HARMLESS, ["\u2603 never"], "the hello🦀ing")
    check_whole(guest, [*"ab"], ["abc", "b "], "ab")


@guest_case(
    "GUEST-STOP-011", "stopstring.text-only", "a template ends with what the answer must not", versions=V2
)
def test_in_the_prompt(guest: GuestSubject) -> None:
    """A stop string in the prompt, or begun there, ends nothing."""
    for prompt in ("a stop in it", "ends with st"):
        run = offered(guest.run(["op", "the"], prompt, stop_strings=["stop"]))
        demand_of(run, run.text == "opthe", f"after {prompt!r} the text is {run.text!r}; due was 'opthe'")


@guest_case("GUEST-STOP-012", "stopstring.empty", "every text contains it, so it means nothing", versions=V2)
def test_an_empty_one(guest: GuestSubject) -> None:
    """An empty stop string is an invalid_argument, wherever it stands in the list."""
    for stops in ([""], ["stop", ""], ["", "stop"]):
        run = guest.run("hello", stop_strings=stops)
        failed(run, ErrorCode.invalid_argument, to=f"the stop strings {stops}")


@guest_case("GUEST-STOP-013", "stopstring.long", "stop strings come from clients, of any size", versions=V2)
def test_long_ones_and_many(guest: GuestSubject) -> None:
    """A stop string of 600 characters works, and so do 100 of them."""
    long = "abcdefghijklmnopqrst" * 30
    check_stop(guest, ["!", *long[:590], *long, "x"], [long], "!" + long[:590])
    check_stop(guest, [*"one two three"], [*(f"no{n}" for n in range(99)), "two"], "one ")


@guest_case("GUEST-STOP-014", "stopstring.once", "every token is emitted once, the last one too", versions=V2)
def test_the_token_that_completes_it(guest: GuestSubject) -> None:
    """The token that completes a stop string is emitted like any other, and is the last one."""
    run = offered(guest.run([*"abcd"], stop_strings=["bc"]))
    emitted = [call.arguments["token"] for call in run.calls("realm_emit")]
    demand_of(run, emitted == [97, 98, 99], f"emitted were {emitted}; due were [97, 98, 99]")
    flags = [call.arguments["flags"] for call in run.calls("realm_emit")]
    demand_of(run, not any(flags), f"the flags are {flags}: none of these is a stop token")


@guest_case("GUEST-STOP-015", "loop.prompt-text", "streams have stuttered whenever stop was set", versions=V2)
def test_no_more_than_needed_is_held_back(guest: GuestSubject) -> None:
    """Text that cannot become a stop string is handed on as it is without one."""
    plain = offered(guest.run(HARMLESS))
    run = offered(guest.run(HARMLESS, stop_strings=["\u2603 never"]))
    demand_of(run, run.texts == plain.texts, f"the pieces are {run.texts}, without it {plain.texts}")

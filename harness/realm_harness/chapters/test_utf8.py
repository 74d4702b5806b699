"""Characters of several bytes, on their way in and out."""

from __future__ import annotations

from realm_harness.answers import Stream, shown
from realm_harness.case import Broken, Unjudged, case, demand
from realm_harness.prompts import HELLO, MULTIBYTE
from realm_harness.target import Target

REPLACEMENT = "\ufffd"
TOKENS = 32


def multibyte_stream(target: Target, above: int = 0x7F) -> tuple[str, Stream]:
    """(whole answer, stream) where the answer has characters above that code point; Unjudged if none has."""
    for prompt in MULTIBYTE:
        whole = target.ask(prompt, TOKENS, temperature=0).text()
        if any(ord(character) > above for character in whole.replace(REPLACEMENT, "")):
            return whole, target.stream(prompt, TOKENS, temperature=0)
    raise Unjudged(f"no answer had a character above U+{above:04X}")


@case("CHAT-UTF8-001", clause_id="utf8.bytes", reason="a strict client stops at the first bad byte")
def test_stream_is_utf8(target: Target) -> None:
    """Every byte of a stream with characters of several bytes is valid UTF-8."""
    _, stream = multibyte_stream(target)
    try:
        stream.exchange.body.decode("utf-8")
    except UnicodeDecodeError as error:
        around = stream.exchange.body[max(0, error.start - 20) : error.end + 20]
        raise Broken(f"byte {error.start} of the stream is not UTF-8: {around!r}") from None


@case(
    "CHAT-UTF8-002",
    clause_id="utf8.no-replacement",
    reason="half a character is unreadable in every client",
    confirm=True,
)
def test_no_replacement_characters(target: Target) -> None:
    """A stream has no replacement character where the whole answer has none."""
    whole, stream = multibyte_stream(target)
    # An answer that is cut inside a character may end with one.
    text, reference = stream.text().rstrip(REPLACEMENT), whole.rstrip(REPLACEMENT)
    if REPLACEMENT in reference:
        raise Unjudged(f"the whole answer has a replacement character, too: {shown(whole)}")
    demand(REPLACEMENT not in text, f"the whole answer is {shown(whole)}, the stream {shown(text)}")


@case(
    "CHAT-UTF8-003", clause_id="utf8.no-surrogates", reason="printing half a surrogate pair raises an error"
)
def test_no_half_surrogates(target: Target) -> None:
    """No delta contains half of a surrogate pair."""
    for delta in multibyte_stream(target, above=0xFFFF)[1].deltas():
        halves = [character for character in delta.content if 0xD800 <= ord(character) <= 0xDFFF]
        demand(not halves, f"a delta's content is {delta.content!a}")


@case("CHAT-UTF8-004", clause_id="utf8.nul", reason="C strings end at a NUL")
def test_nul_in_prompt(target: Target) -> None:
    """A NUL in the prompt causes no server error."""
    exchange = target.post(target.body(f"{HELLO}\0 And more.", 4))
    status = exchange.status or 0
    demand(
        status < 500, f"a NUL in the prompt got {status}: {shown(exchange.body.decode('utf-8', 'replace'))}"
    )


@case(
    "CHAT-UTF8-005",
    clause_id="utf8.request-surrogate",
    reason="text cut in the middle of an emoji is sent like that",
)
def test_half_surrogate_in_prompt(target: Target) -> None:
    """Half a surrogate pair in the prompt causes no server error."""
    exchange = target.post(target.body(f"{HELLO} \ud83d", 4))
    status = exchange.status or 0
    demand(status < 500, f"half a surrogate pair in the prompt got {status}: {shown(exchange.body)}")

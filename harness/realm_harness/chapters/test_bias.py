"""logit_bias, presence_penalty and frequency_penalty: that they reach the logits, and what is refused."""

from __future__ import annotations

from realm_harness.answers import shown
from realm_harness.case import Unjudged, case, demand
from realm_harness.chapters.test_errors import refused_value
from realm_harness.chapters.test_tokenize import ids_of
from realm_harness.prompts import HELLO, LONG_ANSWERS, STORY
from realm_harness.target import Target

TOKENS = 12
CANDIDATES = (100, 70, 345, 1000, 64)
"""Token ids that are words or letters in most vocabularies."""


def forced(target: Target, tokens: int = TOKENS, amount: int = 100, **params: object) -> tuple[int, str]:
    """A token with a text of its own, and a greedy answer with a bias for it; Unjudged when none is found."""
    for token in CANDIDATES:
        answer = target.ask(STORY, tokens, temperature=0, logit_bias={str(token): amount}, **params)
        if answer.text().strip() and answer.finish() == "length" and "\ufffd" not in answer.text():
            return token, answer.text()
    raise Unjudged(f"none of the tokens {CANDIDATES} makes a text of its own")


def is_repeated(text: str, times: int) -> bool:
    """Whether the text is one piece, `times` times."""
    size = len(text) // times
    return len(text) % times == 0 and text == text[:size] * times


@case(
    "CHAT-BIAS-001",
    clause_id="bias.forces",
    reason="classifiers force their labels with it",
    confirm=True,
)
def test_bias_of_100_forces_a_token(target: Target) -> None:
    """With a bias of 100 on one token the answer is that token again and again."""
    token, text = forced(target)
    demand(
        is_repeated(text.strip(), TOKENS) or is_repeated(text, TOKENS),
        f"with a bias of 100 on token {token} the answer is {shown(text)}, not one token {TOKENS} times",
    )


@case("CHAT-BIAS-002", clause_id="bias.forbids", reason="filters ban words with it", confirm=True)
def test_bias_of_minus_100_forbids_a_token(target: Target) -> None:
    """With a bias of -100 on its tokens a greedy answer is another one."""
    plain = target.settled(STORY, TOKENS)
    tokens = ids_of(target, plain)
    banned = target.ask(STORY, TOKENS, temperature=0, logit_bias=dict.fromkeys(map(str, tokens), -100)).text()
    demand(banned != plain, f"with a bias of -100 on its tokens {tokens} the answer is still {shown(plain)}")


@case("CHAT-BIAS-003", clause_id="bias.empty", reason="clients send their defaults", confirm=True)
def test_empty_bias_changes_nothing(target: Target) -> None:
    """logit_bias {} is as good as none."""
    plain = target.settled(STORY, TOKENS)
    empty = target.ask(STORY, TOKENS, temperature=0, logit_bias={}).text()
    demand(empty == plain, f"with logit_bias {{}} the answer is {shown(empty)}, without {shown(plain)}")


@case("CHAT-BIAS-004", clause_id="bias.range", reason="the official range ends at 100")
def test_bias_above_100(target: Target) -> None:
    """A bias above 100 is refused with a 4xx."""
    refused_value(target, "logit_bias", {str(CANDIDATES[0]): 101})


@case("CHAT-BIAS-005", clause_id="bias.key", reason="a word for an id has killed whole engines")
def test_bias_on_a_word(target: Target) -> None:
    """A key that is no token id is refused with a 4xx."""
    refused_value(target, "logit_bias", {"hello": 5})


@case("CHAT-BIAS-006", clause_id="bias.unknown-token", reason="such an id has killed whole engines")
def test_bias_on_a_token_that_there_is_not(target: Target) -> None:
    """A token id beyond any vocabulary is refused with a 4xx."""
    refused_value(target, "logit_bias", {"99999999": 5})


@case(
    "CHAT-PENALTY-001", clause_id="penalty.frequency", reason="it is there to end repetitions", confirm=True
)
def test_frequency_penalty_ends_a_repetition(target: Target) -> None:
    """A token that a bias repeats 32 times is not repeated so with frequency_penalty 2."""
    times = 32
    token, text = forced(target, times, 30)
    if not is_repeated(text.strip(), times) and not is_repeated(text, times):
        raise Unjudged("a bias of 30 does not make the model repeat a token")
    bias = {str(token): 30}
    less = target.ask(STORY, times, temperature=0, logit_bias=bias, frequency_penalty=2).text()
    demand(less != text, f"with frequency_penalty 2 token {token} is still said {times} times")


@case(
    "CHAT-PENALTY-002",
    clause_id="penalty.presence",
    reason="a parameter that is silently dropped changes the answer",
    confirm=True,
)
def test_presence_penalty_reaches_the_engine(target: Target) -> None:
    """presence_penalty 2 changes some greedy answer of 32 tokens."""
    for prompt in LONG_ANSWERS:
        plain = target.settled(prompt, 32)
        if target.ask(prompt, 32, temperature=0, presence_penalty=2).text() != plain:
            return
    demand(False, f"presence_penalty 2 changes none of {len(LONG_ANSWERS)} answers of 32 tokens")


@case("CHAT-PENALTY-003", clause_id="penalty.zero", reason="clients send their defaults", confirm=True)
def test_penalties_of_zero_change_nothing(target: Target) -> None:
    """Penalties of 0 are as good as none."""
    plain = target.settled(STORY, TOKENS)
    zero = target.ask(STORY, TOKENS, temperature=0, presence_penalty=0, frequency_penalty=0).text()
    demand(zero == plain, f"with penalties of 0 the answer is {shown(zero)}, without {shown(plain)}")


@case("CHAT-PENALTY-004", clause_id="penalty.frequency-range", reason="the official range is -2 to 2")
def test_frequency_penalty_out_of_range(target: Target) -> None:
    """A frequency_penalty of 2.5 or -2.5 is refused with a 4xx."""
    for value in (2.5, -2.5):
        refused_value(target, "frequency_penalty", value)


@case("CHAT-PENALTY-005", clause_id="penalty.presence-range", reason="the official range is -2 to 2")
def test_presence_penalty_out_of_range(target: Target) -> None:
    """A presence_penalty of 2.5 or -2.5 is refused with a 4xx."""
    for value in (2.5, -2.5):
        refused_value(target, "presence_penalty", value)


@case("CHAT-PENALTY-006", clause_id="penalty.type", reason="a word is a bug in the client")
def test_penalty_of_a_wrong_type(target: Target) -> None:
    """A frequency_penalty that is a word is refused with a 4xx."""
    refused_value(target, "frequency_penalty", HELLO)


@case(
    "CHAT-PENALTY-007",
    clause_id="penalty.negative",
    reason="below 0 it is an encouragement, which is not the same as nothing",
    confirm=True,
)
def test_negative_penalty_reaches_the_engine(target: Target) -> None:
    """frequency_penalty -2 changes some greedy answer of 32 tokens."""
    for prompt in LONG_ANSWERS:
        plain = target.settled(prompt, 32)
        if target.ask(prompt, 32, temperature=0, frequency_penalty=-2).text() != plain:
            return
    demand(False, f"frequency_penalty -2 changes none of {len(LONG_ANSWERS)} answers of 32 tokens")

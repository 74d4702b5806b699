"""LoRA adapters as the API shows them: models of the list whose names are the base's, a colon and their own,
or whose `parent` is the base (as vLLM lists them). Servers that list fewer than two are not judged.

At temperature 0, because that is where an answer betrays which weights it was computed with. No case asks
that adapters change every answer: one that was hardly trained may leave many as they are.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from realm_harness.answers import Answer, shown
from realm_harness.case import Broken, Unjudged, Unsupported, case, demand
from realm_harness.chapters.test_completions import ROUTE
from realm_harness.chapters.test_models import cards
from realm_harness.chapters.test_same import difference
from realm_harness.chapters.test_tenants import other
from realm_harness.prompts import LONG_ANSWERS, OPENING, STORY, long_prompt
from realm_harness.target import MODELS, Target, accepted

TOKENS: Final = 24


def adapters(target: Target) -> list[str]:
    """The names of two adapters at least that the asker may use; Unjudged when there are fewer."""
    names = listed(target)
    if len(names) < 2:
        raise Unjudged(f"{MODELS} lists {len(names)} adapters of '{target.model}': nothing to tell apart")
    return names


def listed(target: Target) -> list[str]:
    """The names of all adapters of the tested model that the asker sees."""
    try:
        seen = cards(target)
    except Broken as broken:
        raise Unjudged(f"the list of models cannot be read (see CHAT-MODELS-001): {broken}") from None
    ids = [card["id"] for card in seen if isinstance(card.get("id"), str) and _is_adapter(target, card)]
    return [name for name in ids if name != target.model]


def _is_adapter(target: Target, card: dict[str, Any]) -> bool:
    return card.get("parent") == target.model or str(card["id"]).startswith(f"{target.model}:")


def own_answers(target: Target, prompt: str) -> dict[str, str]:
    """What the base and two adapters say by themselves; Unjudged where that is not told apart."""
    names = [target.model, *adapters(target)[:2]]
    texts = {name: target.settled(prompt, TOKENS, model=name) for name in names}
    if len(set(texts.values())) < len(texts):
        raise Unjudged("the base and its adapters say the same: nobody could tell who answered")
    return texts


@case("CHAT-LORA-001", clause_id="lora.applied", reason="the fine-tuned model is what its user pays for")
def test_an_adapter_is_applied(target: Target) -> None:
    """Of many answers of an adapter's not all are the base's."""
    for name in adapters(target):
        pairs = [
            (target.settled(prompt, TOKENS), target.settled(prompt, TOKENS, model=name))
            for prompt in LONG_ANSWERS
        ]
        told = f"all {len(pairs)} answers of '{name}' are those of '{target.model}', word for word"
        demand(any(base != adapted for base, adapted in pairs), told)


@case("CHAT-LORA-002", clause_id="lora.unknown", reason="a misspelled adapter must not look like a bad one")
def test_an_unknown_adapter_is_refused(target: Target) -> None:
    """A request for an adapter that there is not gets a 4xx, and no answer."""
    adapters(target)
    for name in ("no-such-adapter", "..", f"{'x' * 300}"):
        wanted = f"{target.model}:{name}"
        exchange = target.post({**target.body(STORY, 4), "model": wanted})
        status = exchange.status or 0
        demand(400 <= status < 500, f"a request for the model {shown(wanted, 80)} gets {status}")


@case(
    "CHAT-LORA-003",
    clause_id="lora.own",
    reason="one customer's request has been served with another's adapter",
    confirm=True,
)
def test_adapters_beside_each_other(target: Target) -> None:
    """Requests for the base and two adapters at the same time: no answer is that of another's weights."""
    own = own_answers(target, STORY)
    names = list(own) * 3
    tasks = [lambda name=name: target.ask(STORY, TOKENS, model=name, temperature=0) for name in names]
    for name, answer in zip(names, target.together(tasks), strict=True):
        others = [one for one, text in own.items() if one != name and text == answer.text()]
        demand(not others, f"beside other requests '{name}' says what '{''.join(others)}' says by itself")


@case(
    "CHAT-LORA-004",
    clause_id="lora.same-beside",
    reason="an answer must not depend on who else asks",
    confirm=True,
)
def test_an_adapters_answer_is_the_same_beside_others(target: Target) -> None:
    """Requests for the base and two adapters at the same time get the answers that they get alone."""
    own = own_answers(target, LONG_ANSWERS[1])
    names = list(own) * 2
    tasks = [
        lambda name=name: target.stream(LONG_ANSWERS[1], TOKENS, model=name, temperature=0) for name in names
    ]
    for name, stream in zip(names, target.together(tasks), strict=True):
        parts = difference(own[name], stream.text())
        demand(stream.text() == own[name], f"the answer of '{name}' alone and beside others: {parts}")


@case(
    "CHAT-LORA-005",
    clause_id="lora.alone",
    reason="the next user gets a model that he did not ask for",
    confirm=True,
)
def test_the_base_is_the_base_after_an_adapter(target: Target) -> None:
    """What the base says is the same before and after requests for adapters."""
    before = target.settled(STORY, TOKENS)
    for name in adapters(target)[:2]:
        target.ask(STORY, TOKENS, model=name, temperature=0)
        after = target.ask(STORY, TOKENS, temperature=0).text()
        parts = difference(before, after)
        demand(after == before, f"the base before and after a request for '{name}': {parts}")


@case(
    "CHAT-LORA-006",
    clause_id="lora.cache",
    reason="caches of prompts and answers have left the adapter out of their keys",
)
def test_one_prompt_for_all(target: Target) -> None:
    """A prompt that one model has just answered is answered by each of the others by itself."""
    names = [target.model, *adapters(target)[:2]]
    alike = 0
    for turn in range(len(names)):
        order = names[turn:] + names[:turn]
        fresh = f"Tell me about number {48_611 + 7 * turn}, and about a river."
        texts = [target.ask(fresh, TOKENS, model=name, temperature=0).text() for name in order]
        alike += len(set(texts)) == 1
    demand(alike < len(names), f"{len(names)} new prompts got the same answer from the base and two adapters")


@case("CHAT-LORA-007", clause_id="lora.stream", reason="most clients stream", confirm=True)
def test_streams_have_the_adapter(target: Target) -> None:
    """An adapter's stream and its whole answer are the same answer."""
    for name in adapters(target)[:2]:
        whole = target.settled(STORY, TOKENS, model=name)
        streamed = target.stream(STORY, TOKENS, model=name, temperature=0).text()
        demand(streamed == whole, f"'{name}', whole and streamed: {difference(whole, streamed)}")


@case("CHAT-LORA-008", clause_id="lora.texts", reason="each route has its own way to the model")
def test_text_completions_have_the_adapter(target: Target) -> None:
    """Of an adapter's text completions not all are the base's."""
    names = adapters(target)[:2]

    def said(prompt: str, name: str) -> Any:
        body = {"model": name, "prompt": prompt, "max_tokens": TOKENS, "temperature": 0}
        exchange = target.post_to(ROUTE, body)
        if exchange.status in (404, 405, 501):
            raise Unsupported(f"the server has no {ROUTE}")
        accepted(exchange, {})
        return Answer.read(exchange).choices[0].get("text")

    for name in names:
        pairs = [
            (said(prompt, target.model), said(prompt, name)) for prompt in (OPENING, STORY, LONG_ANSWERS[2])
        ]
        demand(
            any(base != adapted for base, adapted in pairs),
            f"all {len(pairs)} text completions of '{name}' are those of '{target.model}'",
        )


@case(
    "CHAT-LORA-009", clause_id="lora.choices", reason="choices are made from copies of a prompt", confirm=True
)
def test_every_choice_has_the_adapter(target: Target) -> None:
    """At temperature 0 all of several choices of an adapter's are its one answer."""
    own = own_answers(target, STORY)
    for name in list(own)[1:]:
        answer = target.ask(STORY, TOKENS, model=name, n=3, temperature=0)
        for number in range(len(answer.choices)):
            others = [one for one, text in own.items() if one != name and text == answer.text(number)]
            demand(not others, f"choice {number} of '{name}' is what '{''.join(others)}' says")


@case("CHAT-LORA-010", clause_id="lora.named", reason="costs are booked under the model that answered")
def test_an_answer_names_the_adapter(target: Target) -> None:
    """The model of an adapter's answer, whole or streamed, is not the base's."""
    for name in adapters(target)[:2]:
        told = {target.ask(STORY, 2, model=name).data.get("model")}
        told |= {chunk.data.get("model") for chunk in target.stream(STORY, 2, model=name).chunks}
        demand(
            target.model not in told, f"an answer of '{name}' has the model {shown(sorted(map(str, told)))}"
        )


@case("CHAT-LORA-011", clause_id="lora.listed", reason="a list that cannot be asked is no list")
def test_what_is_listed_is_there(target: Target) -> None:
    """Each adapter of the list is answered for, and /v1/models/ID is its card where there are cards."""
    names = adapters(target)
    with_cards = target.get(f"{MODELS}/{target.model}").status == 200
    for name in names:
        exchange = target.post({**target.body(STORY, 2), "model": name})
        demand(exchange.status == 200, f"'{name}' is listed, and a request for it gets {exchange.status}")
        card = target.get(f"{MODELS}/{name}")
        demand(not with_cards or card.status == 200, f"GET {MODELS}/{name} gets {card.status}")
        if card.status == 200:
            found = re.search(rb'"id":\s*("(?:[^"\\]|\\.)*")', card.body)
            told = json.loads(found[1]) if found else None
            demand(told == name, f"GET {MODELS}/{name} is the card of {shown(told)}")


@case("CHAT-LORA-012", clause_id="lora.tenant", reason="an adapter is made of a customer's own data")
def test_another_tenants_adapter_is_refused(target: Target) -> None:
    """An adapter that another tenant alone sees gets a 4xx."""
    tenant = other(target)
    secret = [name for name in listed(tenant) if name not in listed(target)]
    if not secret:
        raise Unjudged("the second tenant sees no adapter that the first does not")
    for name in secret:
        status = target.post({**target.body(STORY, 2), "model": name}).status or 0
        demand(400 <= status < 500, f"a request for another tenant's '{name}' gets {status}")
        card = target.get(f"{MODELS}/{name}").status
        demand(card != 200, f"GET {MODELS}/{name}, another tenant's, gets {card}")


@case("CHAT-LORA-013", clause_id="lora.seed", reason="what was found has to be found again", confirm=True)
def test_a_seed_holds_with_an_adapter(target: Target) -> None:
    """Two requests for an adapter with the same seed get the same answer."""
    try:
        base = {target.ask(STORY, TOKENS, temperature=1, seed=7).text() for _ in range(2)}
    except Broken as broken:
        raise Unjudged(f"a request with a seed is refused: {broken}") from None
    if len(base) > 1:
        raise Unjudged("the base does not keep a seed (see CHAT-SAMPLE-*)")
    for name in adapters(target)[:2]:
        texts = {target.ask(STORY, TOKENS, model=name, temperature=1, seed=7).text() for _ in range(2)}
        demand(len(texts) == 1, f"with the seed 7 '{name}' says {shown(sorted(texts))}")


@case(
    "CHAT-LORA-014",
    clause_id="lora.cache",
    reason="keys and values that another adapter made are another model's",
    confirm=True,
)
def test_a_prompt_that_another_model_has_read(target: Target) -> None:
    """An adapter's answer to a long prompt does not depend on who has read that prompt before.

    The answer to compare with is another tenant's, who shares no cache with the first: --other-key.
    """
    tenant, names = other(target), adapters(target)[:2]
    if not set(names) <= set(listed(tenant)):
        raise Unjudged("the two tenants do not see the same adapters")
    for number, name in enumerate(names):
        prompt = long_prompt(7 + number, "of the adapters")
        clean = tenant.ask(prompt, TOKENS, model=name, temperature=0)
        for reader in (target.model, *names):
            if reader != name:
                target.ask(prompt, 1, model=reader)
        after = target.ask(prompt, TOKENS, model=name, temperature=0)
        parts = difference(clean.text(), after.text())
        demand(after.text() == clean.text(), f"'{name}', after others have read its prompt: {parts}")

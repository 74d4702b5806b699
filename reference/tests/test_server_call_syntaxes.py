"""Calls of functions as Llama 3 and Mistral write them: held to their schema, and told as calls."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from gguf import GGUFReader
from hypothesis import given
from hypothesis import strategies as st
from realm_harness.case import load_cases
from realm_harness.conform import run_cases
from realm_harness.discover import discover
from realm_harness.results import CaseResult
from realm_reference.model.chat import ChatTemplate
from realm_reference.model.model import Model, load_model
from realm_reference.server.answers.call_syntax import SYNTAXES
from realm_reference.server.answers.calls import Call, joined

TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% endfor %}<|im_start|>assistant\n"
LLAMA3 = 'Answer as {"name": ..., "parameters": ...}.{{ tools | tojson }}' + TURNS
MISTRAL = "[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]" + TURNS + "{# [TOOL_CALLS] #}"
TEMPLATES = {"llama3": LLAMA3, "mistral": MISTRAL}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("plan", "look")]
ASKED = {"tools": TOOLS, "temperature": 1.2, "max_tokens": 300}


@pytest.fixture(scope="module", params=list(TEMPLATES))
def model(request: pytest.FixtureRequest, make_gguf: Callable[..., Path], tiny_gguf: Path) -> Model:
    """The tiny model with a template of such a family, and Mistral's control token."""
    tokens = GGUFReader(tiny_gguf).fields["tokenizer.ggml.tokens"].contents()
    tokens = ["[TOOL_CALLS]", *tokens[1:]]
    return load_model(
        make_gguf(
            {
                "tokenizer.chat_template": TEMPLATES[request.param],
                "tokenizer.ggml.tokens": tokens,
                "llama.context_length": 2048,
            }
        )
    )


@pytest.fixture
async def server(start_server: Callable[..., Awaitable[Any]], model: Model) -> Any:
    return await start_server(model=model)


def test_a_template_says_how_calls_are_written() -> None:
    for name, template in TEMPLATES.items():
        assert ChatTemplate(template).call_syntax == name
    assert ChatTemplate(TURNS).call_syntax is None
    assert ChatTemplate("{{ tools }}").call_syntax is None
    assert ChatTemplate(MISTRAL + "{{ '[ARGS]' }}").call_syntax is None


async def test_calls_that_are_required_come_and_keep_their_schema(server: Any, model: Model) -> None:
    for seed in range(3):
        [choice] = (await server.ask(**ASKED, tool_choice="required", parallel_tool_calls=False, seed=seed))[
            "choices"
        ]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
        [call] = choice["message"]["tool_calls"]
        assert call["function"]["name"] in ("plan", "look")
        jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMA)
        mistral = model.chat is not None and model.chat.call_syntax == "mistral"
        assert re.fullmatch("[A-Za-z0-9]{9}" if mistral else "call_[0-9a-f]{24}", call["id"])


async def test_a_stream_tells_the_calls_of_the_whole_answer(server: Any) -> None:
    asked = {**ASKED, "tool_choice": "required", "seed": 5}
    [whole] = (await server.ask(**asked))["choices"]
    _, text = await server.stream(**asked)
    chunks = [json.loads(e.removeprefix("data: ")) for e in text.split("\n\n") if e.startswith("data: {")]
    deltas = [one for chunk in chunks for c in chunk["choices"] for one in c["delta"].get("tool_calls", [])]
    for index, call in enumerate(whole["message"]["tool_calls"]):
        pieces = [one["function"] for one in deltas if one["index"] == index]
        assert pieces[0]["name"] == call["function"]["name"]
        assert "".join(piece["arguments"] for piece in pieces) == call["function"]["arguments"]
    assert not any(c["delta"].get("content") for chunk in chunks for c in chunk["choices"])


async def test_what_is_no_call_is_text(server: Any) -> None:
    for seed in range(3):
        [choice] = (await server.ask(**{**ASKED, "max_tokens": 40}, seed=seed))["choices"]
        assert choice["message"]["content"] or "tool_calls" in choice["message"]


def read(name: str, pieces: list[str]) -> tuple[str, list[tuple[int, str | None, str]]]:
    reader, said, calls = SYNTAXES[name].reader(), "", list[Call]()
    for piece in pieces:
        text, more = reader.push(piece)
        said += text
        calls += more
    return said + reader.end(), [(call.index, call.name, call.arguments) for call in joined(calls)]


ARGUMENTS = '{"a": "}, {]"}'
LLAMA3_CALL = f'{{"name": "f", "parameters": {ARGUMENTS}}}'
MISTRAL_CALL = f'{{"name": "f", "arguments": {ARGUMENTS}}}'


@pytest.mark.parametrize(
    ("name", "text", "said", "calls"),
    [
        ("llama3", LLAMA3_CALL, "", 1),
        ("llama3", f" \n{LLAMA3_CALL} \n", "", 1),
        ("llama3", f"{LLAMA3_CALL} and so on", "and so on", 1),
        ("llama3", f"I say {LLAMA3_CALL}", f"I say {LLAMA3_CALL}", 0),
        ("llama3", MISTRAL_CALL, MISTRAL_CALL, 0),
        ("llama3", ' {"name": "f"', ' {"name": "f"', 0),
        ("llama3", ' {"nome"', ' {"nome"', 0),
        ("mistral", f"[{MISTRAL_CALL}]", "", 1),
        ("mistral", f"[TOOL_CALLS] [{MISTRAL_CALL}, {MISTRAL_CALL}]", "", 2),
        ("mistral", f"[TOOL_CALLS][{MISTRAL_CALL}] done", "done", 1),
        ("mistral", MISTRAL_CALL, MISTRAL_CALL, 0),
        ("mistral", "[TOOL_CALLS]hello", "[TOOL_CALLS]hello", 0),
        ("mistral", "[1, 2]", "[1, 2]", 0),
        ("mistral", "", "", 0),
    ],
)
def test_what_is_read(name: str, text: str, said: str, calls: int) -> None:
    expected = said, [(index, "f", ARGUMENTS) for index in range(calls)]
    assert read(name, [text]) == expected
    assert read(name, list(text)) == expected


PARTS = st.lists(
    st.sampled_from([LLAMA3_CALL, MISTRAL_CALL, "[", "]", ", ", " ", "[TOOL_CALLS]", '{"name": "', "x", "}"]),
    max_size=7,
)


@given(parts=PARTS, cuts=st.lists(st.integers(0, 200), max_size=12), name=st.sampled_from(list(TEMPLATES)))
def test_where_a_text_is_cut_makes_no_difference(parts: list[str], cuts: list[int], name: str) -> None:
    text = "".join(parts)
    borders = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in itertools.pairwise(borders)]
    assert read(name, pieces) == read(name, list(text)) == read(name, [text])


async def test_calls_over_the_wire_are_whole_streamed_and_answered(server: Any) -> None:
    def run() -> list[CaseResult]:
        target = discover(server.url, timeout=20)
        return run_cases(load_cases(["CHAT-TOOLS-00[78]", "CHAT-TOOLS-011"]), target).results

    results = await asyncio.to_thread(run)
    assert {r.case.id: f"{r.verdict}: {r.message}" for r in results if r.verdict != "ok"} == {}
    assert len(results) == 3

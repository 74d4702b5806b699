"""Conversations are written as Hugging Face writes them, and a hostile template gets nowhere."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from realm_reference.model.chat import ChatTemplate
from realm_reference.model.errors import ChatTemplateError, ModelFileError
from realm_reference.model.gguf import open_gguf
from realm_reference.model.model import load_model
from realm_reference.model.published_formats import published_format

_CHATS = json.loads((Path(__file__).parent / "data" / "tokens.json").read_text(encoding="ascii"))["chats"]
_HI = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize("chat", _CHATS, ids=range(len(_CHATS)))
def test_writes_what_hugging_face_writes(smollm2_path: Path, chat: dict[str, Any]) -> None:
    file = open_gguf(smollm2_path)
    template = ChatTemplate(str(file.metadata["tokenizer.chat_template"]))
    assert template.render(chat["messages"], chat["add_generation_prompt"]) == chat["text"]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% if true %}\n  a\n  {% endif %}\nb", "  a\nb"),  # trim_blocks, lstrip_blocks
        ("{{ bos_token }}{{ messages[0].content | trim }}{{ eos_token }}", "<s>Hi</s>"),
        ("{{ {'a': ['é', 1, none]} | tojson }}", '{"a": ["é", 1, null]}'),
        ("{{ {'b': 1} | tojson(indent=2) }}", '{\n  "b": 1\n}'),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        (
            "{% set s = namespace(n=0) %}{% for c in 'abc' %}{% set s.n = s.n + 1 %}{% endfor %}{{ s.n }}",
            "3",
        ),
        ("{% generation %}{{ messages[0]['role'] }}{% endgeneration %}", "user"),
        ("{% if tools is none and documents is none %}no tools{% endif %}", "no tools"),
        ("{{ 'a' ~ 1 ~ missing ~ ('b' * 3) }}{{ 'x,y'.split(',') | join('-') }}", "a1bbbx-y"),
        ("{{ messages | map(attribute='role') | list | length }}{{ 7 // 2 + 2 ** 3 }}", "111"),
        ("{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ loop.last }}{% endfor %}", "1/1True"),
        ("{% macro say(x) %}<{{ x }}>{% endmacro %}{{ say('a') }}{{ say(x='b') }}", "<a><b>"),
        ("{{ strftime_now('%Y') | length }}", "4"),
        ("{{ messages[0].items() | list | length }}{{ messages[0].get('name', 'none') }}", "2none"),
        ("{{ 'abcabc' | replace('b', 'XX') }}{{ 'b'.replace('b', 'c') }}", "aXXcaXXcc"),
    ],
)
def test_offers_what_templates_use(source: str, text: str) -> None:
    assert ChatTemplate(source, bos_token="<s>", eos_token="</s>").render(_HI) == text


def test_a_model_without_a_template_has_the_published_format_of_its_architecture() -> None:
    turns = frozenset({"<start_of_turn>", "<end_of_turn>"})
    published = published_format("gemma3", turns)
    assert published is not None
    template = ChatTemplate(published.template, bos_token="<bos>")
    assert template.render(_HI) == "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"
    messages = [
        {"role": "system", "content": "Be brief. "},
        *_HI,
        {"role": "assistant", "content": " Hello."},
        {"role": "user", "content": "<b>\n"},
        {"role": "system", "content": "Last."},
    ]
    assert template.render(messages, add_generation_prompt=False) == (
        "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
        "<start_of_turn>user\n<b><end_of_turn>\n<start_of_turn>user\nLast.<end_of_turn>\n"
    )
    assert published_format("gemma3", {"<start_of_turn>"}) is None, "the vocabulary cannot spell it"
    assert published_format("llama", turns) is None


def test_a_refusal_is_the_templates_own_words() -> None:
    template = ChatTemplate("{{ raise_exception('Roles must\n alternate') }}")
    with pytest.raises(ChatTemplateError, match="refused the messages: Roles must alternate"):
        template.render(_HI)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ().__class__ }}{{ {}.__init__.__globals__ }}",
        "{{ messages[0] | attr('__class__') }}",
        "{{ raise_exception.__globals__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ self._TemplateReference__context.environment }}",
        "{{ cycler.__init__ }}",
        "{{ range.__self__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ strftime_now.__wrapped__ }}",
    ],
)
def test_python_is_out_of_reach(source: str) -> None:
    messages = [dict(_HI[0])]
    try:
        text = ChatTemplate(source).render(messages)
    except ChatTemplateError:
        text = ""
    assert text == "", "an attribute outside of the sandbox is undefined, and prints as nothing"
    assert messages == _HI


_DOUBLING = "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = EXPRESSION %}{% endfor %}"
_HOSTILE = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "filtered loops": "{% for i in range(9**5) %}{% for j in range(9**5) if j < 0 %}{% endfor %}{% endfor %}",
    "a range too long": "{% for i in range(10**12) %}{% endfor %}",
    "endless macros": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "branching macros": "{% macro m(n) %}{% if n %}{{ m(n-1) ~ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "recursive loops": "{% set a = [1, 2] %}{% for i in a recursive %}{{ loop(a) }}{% endfor %}",
    "a long string": "{{ 'a' * 10**12 }}",
    "a long list": "{{ 10**9 * [1] }}",
    "a large power": "{{ 10 ** (10 ** 10) }}",
    "growing integers": _DOUBLING.replace("'a'", "3").replace("EXPRESSION", "ns.x * ns.x"),
    "doubling with +": _DOUBLING.replace("EXPRESSION", "ns.x + ns.x"),
    "doubling with ~": _DOUBLING.replace("EXPRESSION", "ns.x ~ ns.x"),
    "doubling with join": _DOUBLING.replace("EXPRESSION", "[ns.x, ns.x] | join"),
    "doubling with .join": _DOUBLING.replace("EXPRESSION", "''.join([ns.x, ns.x])"),
    "doubling with replace": _DOUBLING.replace("EXPRESSION", "ns.x.replace('a', 'aa')"),
    "doubling with the filter replace": _DOUBLING.replace("EXPRESSION", "ns.x | replace('a', 'aa')"),
    "doubling a list": _DOUBLING.replace("EXPRESSION", "[ns.x, ns.x]"),
    "doubling a dictionary": _DOUBLING.replace("EXPRESSION", "{1: ns.x, 2: ns.x}"),
    "doubling a tuple": _DOUBLING.replace("EXPRESSION", "(ns.x, ns.x)"),
    "long separators": "{{ range(99999) | join('a' * 99999) }}",
    "formatting": "{{ '%999999999d' % 1 }}",
    "padding": "{{ 'a'.ljust(10**10) }}{{ 'a'.zfill(10**10) }}{{ raise_exception('no method') }}",
    "an unknown filter": "{{ 'a' | center(10**10) }}",
    "indenting": "{{ messages | tojson(indent=10**9) }}",
    "long output": "{% for i in range(99999) %}{{ 'a' * 9999 }}{% endfor %}",
    "many values": "{{ range(99999) | map('replace', '', 'a' * 99999) | list | length }}",
    "bytes": "{{ (1).to_bytes(10**10) }}{{ raise_exception('no method') }}",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("attack", _HOSTILE)
def test_time_and_memory_are_bounded(attack: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ChatTemplateError) as caught:
            ChatTemplate(_HOSTILE[attack]).render(_HI)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert peak < 256 << 20


def test_a_long_conversation_is_within_the_limits(smollm2_path: Path) -> None:
    template = ChatTemplate(str(open_gguf(smollm2_path).metadata["tokenizer.chat_template"]))
    messages = [{"role": "user", "content": "word " * 2000}] * 100
    assert len(template.render(messages)) > 1_000_000


def test_a_template_that_does_not_compile_is_the_files_fault(make_gguf: Callable[..., Path]) -> None:
    path = make_gguf({"tokenizer.chat_template": "{% if %}"})
    with pytest.raises(ModelFileError, match="chat template does not compile") as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_a_model_without_a_template_cannot_chat(make_gguf: Callable[..., Path]) -> None:
    assert load_model(make_gguf({"tokenizer.chat_template": None})).chat is None

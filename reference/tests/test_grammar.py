"""Grammars: what they let through validates, what they cannot express is refused, and they go back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realm_reference.model.model import Model
from realm_reference.orchestration.grammar import (
    Grammar,
    GrammarCompiler,
    GrammarError,
    GrammarFault,
    GrammarProcessor,
    json_grammar,
)

LIMIT = 600
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}

VALUES = st.lists(st.text('ab"\\é', max_size=3) | st.integers(-5, 5), min_size=1, max_size=3, unique=True)
BOUNDS = st.tuples(st.integers(-99, 99), st.integers(0, 50))
SCALARS = st.one_of(
    st.just({"type": "null"}),
    st.just({"type": "boolean"}),
    BOUNDS.map(lambda bounds: {"type": "integer", "minimum": bounds[0], "maximum": sum(bounds)}),
    st.integers(0, 4).map(lambda longest: {"type": "string", "maxLength": longest}),
    VALUES.map(lambda values: {"enum": values}),
    (st.text(max_size=3) | st.booleans()).map(lambda value: {"const": value}),
)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects with exactly these properties."""
    properties = st.dictionaries(st.text("xyz", min_size=1, max_size=2), inner, max_size=3)
    return st.builds(
        lambda named: {
            "type": "object",
            "properties": named,
            "required": sorted(named),
            "additionalProperties": False,
        },
        properties,
    )


SCHEMAS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        inner.map(lambda items: {"type": "array", "items": items, "maxItems": 2}),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
        objects(inner),
    ),
    max_leaves=5,
)


def nested(depth: int) -> dict[str, Any]:
    """Arrays in arrays."""
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.fixture(scope="module")
def compiler(tiny_model: Model) -> GrammarCompiler:
    return GrammarCompiler(tiny_model.tokenizer)


def said(model: Model, grammar: Grammar, seed: int) -> str:
    """What a model that knows nothing says under `grammar`."""
    draw = np.random.default_rng(seed)
    processor, tokens = GrammarProcessor(grammar), list[int]()
    for _ in range(LIMIT):
        row = draw.standard_normal(model.tokenizer.vocab_size).astype(np.float32)
        processor(tokens, row)
        token = int(row.argmax())
        assert processor.allows(tokens, token)
        if token in model.tokenizer.eos_ids:
            return model.tokenizer.decode(tokens).decode()
        tokens.append(token)
    raise AssertionError(f"no end: {model.tokenizer.decode(tokens)!r}")


@given(schema=SCHEMAS, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_what_a_schema_lets_through_validates(
    tiny_model: Model, compiler: GrammarCompiler, schema: dict[str, Any], seed: int
) -> None:
    text = said(tiny_model, compiler.compile(json_grammar(schema)), seed)
    jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "whatever"}, "whatever"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        ({"not": {"type": "string"}}, "not"),
        ({"type": "string", "pattern": "("}, "unclosed"),
        ({"type": "array", "uniqueItems": True, "x-guidance": {"lenient": True}}, "uniqueItems"),
        ({"enum": ["x" * 300_000]}, "characters"),
        ({"$ref": "#"}, "without end"),
        ({"$ref": "https://example.com/schema"}, "not fetch"),
        ({"anyOf": []}, "empty"),
        (nested(400), "too deeply"),
        ({"const": -(2**63)}, "2 to the power of 53"),
        ({"items": [{"enum": [-(2**63) + 1]}]}, "2 to the power of 53"),
        ({"type": "integer", "multipleOf": 2**31}, "multipleOf"),
        ({"type": "number", "multipleOf": 3.14159}, "multipleOf"),
        ({"enum": [-(10**15), -1e15]}, "text"),  # makes the library panic
        (nested(100_000), "too deeply"),
    ],
)
def test_what_it_cannot_express_is_refused(
    compiler: GrammarCompiler, schema: dict[str, Any], why: str
) -> None:
    with pytest.raises(GrammarError, match=why) as caught:
        compiler.compile(json_grammar(schema))
    assert "\n" not in str(caught.value)


def test_it_goes_back_with_the_tokens(tiny_model: Model, compiler: GrammarCompiler) -> None:
    grammar, encode = compiler.compile(json_grammar(PERSON)), tiny_model.tokenizer.encode
    there = GrammarProcessor(grammar)

    def allowed(processor: GrammarProcessor, tokens: Sequence[int]) -> list[int]:
        row = np.zeros(tiny_model.tokenizer.vocab_size, np.float32)
        processor(tokens, row)
        return np.flatnonzero(np.isfinite(row)).tolist()

    texts = ['{"name"', '{"name": "a', '{"name": "a", "age": 4}', '{"name": "b', "{", "", '{"name"']
    for text in texts:
        fresh = GrammarProcessor(grammar)
        assert allowed(there, encode(text)) == allowed(fresh, encode(text)) != []
    whole = encode(texts[2])
    assert allowed(there, whole) == sorted(tiny_model.tokenizer.eos_ids)


def test_what_follows_a_forbidden_token_is_nobodys_business(
    tiny_model: Model, compiler: GrammarCompiler
) -> None:
    processor = GrammarProcessor(compiler.compile(json_grammar(PERSON)))
    row = np.zeros(tiny_model.tokenizer.vocab_size, np.float32)
    wrong = tiny_model.tokenizer.encode("[1]")
    processor(wrong, row)
    assert not row.any()
    assert not processor.allows(wrong, wrong[0])
    assert not processor.allows([], wrong[0])
    assert processor.allows([], tiny_model.tokenizer.encode("{")[0])


NUMBERS = st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.sampled_from(["string", "integer", "object", "array", "#", "^a+$", "date", "(", "a{1,9}"])
KEYWORDS = st.sampled_from(
    [
        "type",
        "properties",
        "items",
        "prefixItems",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "$ref",
        "$defs",
        "pattern",
        "format",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "multipleOf",
        "minItems",
        "maxItems",
        "additionalProperties",
        "required",
        "not",
    ]
)
ANYTHING = st.recursive(
    NUMBERS | WORDS | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=3),
    max_leaves=8,
)


@given(schema=st.dictionaries(KEYWORDS, ANYTHING, max_size=4), seed=st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_any_json_is_a_grammar_or_is_refused(
    tiny_model: Model, compiler: GrammarCompiler, schema: dict[str, Any], seed: int
) -> None:
    draw, tokens = np.random.default_rng(seed), list[int]()
    try:
        processor = GrammarProcessor(compiler.compile(json_grammar(schema)))
        for _ in range(8):
            row = draw.standard_normal(tiny_model.tokenizer.vocab_size).astype(np.float32)
            processor(tokens, row)
            tokens.append(int(row.argmax()))
            assert np.isfinite(row[tokens[-1]])
    except (GrammarError, GrammarFault):
        pass

"""A whole model: its parts fit together, and it answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from realm_reference.model.compute import Compute
from realm_reference.model.model import Model, load_model


def test_the_real_model_answers_a_question(smollm2: Model) -> None:
    assert smollm2.chat is not None
    prompt = smollm2.chat.render([{"role": "user", "content": "What is the capital of France?"}])
    cache, chunk, answer = smollm2.transformer.new_cache(), smollm2.tokenizer.encode(prompt), list[int]()
    for _ in range(20):
        token = int(smollm2.transformer.forward(chunk, cache)[-1].argmax())
        if token in smollm2.tokenizer.eos_ids:
            break
        answer.append(token)
        chunk = [token]
    assert smollm2.tokenizer.decode(answer) == b"The capital of France is Paris."


def test_what_a_model_says_of_itself(tiny_gguf: Path) -> None:
    model = load_model(tiny_gguf)
    assert (model.name, model.path, model.context_length) == ("tiny", tiny_gguf, 640)
    assert model.licence == "Apache-2.0"
    assert model.transformer.vocab_size == model.tokenizer.vocab_size


def test_the_fingerprint_follows_file_and_precision(tiny_gguf: Path, make_gguf: Callable[..., Path]) -> None:
    prints = [
        load_model(tiny_gguf).fingerprint,
        load_model(tiny_gguf, Compute(precision="float64")).fingerprint,
        load_model(make_gguf({"general.name": "Other"})).fingerprint,
    ]
    assert len(set(prints)) == 3
    assert load_model(make_gguf()).fingerprint == prints[0], "the same file under another name"

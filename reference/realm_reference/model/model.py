"""A whole model, ready to answer: file, configuration, tokenizer, chat template and weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from realm_reference.compute.cuda import cupy_arrays
from realm_reference.compute.numpy import Arrays, numpy_arrays
from realm_reference.model.array_cache import ArrayCache
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.chat import ChatTemplate
from realm_reference.model.compute import NUMPY, Compute, prepare_jit
from realm_reference.model.config import LlamaConfig
from realm_reference.model.gguf import GGUFFile, open_gguf
from realm_reference.model.packed_weights import PackedWeights, load_packed_weights
from realm_reference.model.runner import Runner
from realm_reference.model.store import KNOWN_MODELS, cache_folder, locate
from realm_reference.model.tokenizer import Tokenizer
from realm_reference.model.transformer import Transformer
from realm_reference.model.weights import load_weights


@dataclass(frozen=True)
class Model:
    """A loaded model. Everything in it is immutable or safe to share between threads.

    `name` is the known name, or else the file's name without its ending. `fingerprint` is short and changes
    with the file's header, its size and the precision: a system_fingerprint for answers that should be
    reproducible.
    """

    name: str
    path: Path
    file: GGUFFile
    config: LlamaConfig
    tokenizer: Tokenizer
    chat: ChatTemplate | None
    context_length: int
    licence: str
    fingerprint: str
    compute: Compute
    weights: Transformer | PackedWeights

    @cached_property
    def transformer(self) -> Transformer:
        """The truth's lines, on NumPy or CuPy; where compiled code computes, its weights are read when first
        asked for.
        """
        if isinstance(self.weights, Transformer):
            return self.weights
        return _transformer(self.file, self.config, numpy_arrays())

    @property
    def vocab_size(self) -> int:
        """The number of tokens, and of logits of a position."""
        return self.tokenizer.vocab_size

    def runner(self) -> Runner:
        """What an engine runs the model with: the weights are shared, keys and values are its own."""
        if isinstance(self.weights, Transformer):
            return ArrayRunner(self.weights)
        from realm_reference.model.jit_runner import JitRunner  # which needs Numba

        precision: Literal["exact", "int8"] = "int8" if self.compute.precision == "int8" else "exact"
        return JitRunner(self.config, self.weights, precision, self.compute.threads)


def load_model(name_or_path: str | Path, compute: Compute = NUMPY) -> Model:
    """Load a model by known name (from the cache) or by the path of a GGUF file.

    Raises ModelError (ModelStoreError, ModelFileError) with one line that says what is wrong and what to do.
    """
    path = locate(name_or_path)
    file = open_gguf(path)
    config = LlamaConfig.from_gguf(file)
    tokenizer = Tokenizer(file)
    if compute.way == "jit":
        prepare_jit()
        cache = ArrayCache(cache_folder() / "packed-weights")
        weights: Transformer | PackedWeights = load_packed_weights(file, config, cache)
    else:
        weights = _transformer(file, config, _arrays(compute))
    if weights.vocab_size != tokenizer.vocab_size:
        raise file.error(f"it has {tokenizer.vocab_size} tokens but logits for {weights.vocab_size}")
    eos = tokenizer.eos_ids[0] if tokenizer.eos_ids else None
    known = KNOWN_MODELS.get(str(name_or_path))
    return Model(
        name=known.name if known else path.stem,
        path=path,
        file=file,
        config=config,
        tokenizer=tokenizer,
        chat=ChatTemplate.from_gguf(file, tokenizer.vocabulary.texts, tokenizer.bos_id, eos),
        context_length=config.context_length,
        licence=known.licence if known else str(file.metadata.get("general.license", "unknown")),
        fingerprint=_fingerprint(file, compute.precision),
        compute=compute,
        weights=weights,
    )


def _arrays(compute: Compute) -> Arrays:
    return cupy_arrays(compute.precision) if compute.way == "cuda" else numpy_arrays(compute.precision)


def _transformer(file: GGUFFile, config: LlamaConfig, arrays: Arrays) -> Transformer:
    return Transformer(config, load_weights(file, config, arrays), arrays)


def _fingerprint(file: GGUFFile, precision: str) -> str:
    """Sixteen hex digits over the header and a sample of each tensor: the whole file would take a second to
    hash.
    """
    return f"realm-{hashlib.sha256(file.sample() + precision.encode()).hexdigest()[:16]}"

"""A whole model, ready to answer: file, configuration, tokenizer, chat template and transformer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from realm_reference.compute.numpy import numpy_arrays
from realm_reference.model.chat import ChatTemplate
from realm_reference.model.config import LlamaConfig
from realm_reference.model.gguf import GGUFFile, open_gguf
from realm_reference.model.store import KNOWN_MODELS, locate
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
    transformer: Transformer
    context_length: int
    licence: str
    fingerprint: str


def load_model(name_or_path: str | Path, *, dtype: str = "float32") -> Model:
    """Load a model by known name (from the cache) or by the path of a Llama-architecture GGUF file.

    `dtype` is the precision of all arithmetic: "float32", or "float64" as the oracle. Raises ModelError
    (ModelStoreError, ModelFileError) with one line that says what is wrong and what to do.
    """
    path = locate(name_or_path)
    file = open_gguf(path)
    config = LlamaConfig.from_gguf(file)
    tokenizer = Tokenizer(file)
    arrays = numpy_arrays(dtype)
    transformer = Transformer(config, load_weights(file, config, arrays), arrays)
    if transformer.vocab_size != tokenizer.vocab_size:
        raise file.error(f"it has {tokenizer.vocab_size} tokens but logits for {transformer.vocab_size}")
    eos = tokenizer.eos_ids[0] if tokenizer.eos_ids else None
    known = KNOWN_MODELS.get(str(name_or_path))
    return Model(
        name=known.name if known else path.stem,
        path=path,
        file=file,
        config=config,
        tokenizer=tokenizer,
        chat=ChatTemplate.from_gguf(file, tokenizer.vocabulary.texts, tokenizer.bos_id, eos),
        transformer=transformer,
        context_length=config.context_length,
        licence=known.licence if known else str(file.metadata.get("general.license", "unknown")),
        fingerprint=_fingerprint(file, dtype),
    )


def _fingerprint(file: GGUFFile, dtype: str) -> str:
    """Sixteen hex digits over the header and a sample of each tensor: the whole file would take a second to
    hash.
    """
    return f"realm-{hashlib.sha256(file.sample() + dtype.encode()).hexdigest()[:16]}"

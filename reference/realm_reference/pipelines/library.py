"""A folder of pipelines, by name."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

from realm_reference.pipelines.definition import Pipeline
from realm_reference.pipelines.document import PipelineError, Problem
from realm_reference.pipelines.reading import read_pipeline

ENDINGS: Final = (".yaml", ".yml", ".json")
MAX_FILES: Final = 256


def pipeline_files(folder: Path) -> list[Path]:
    """The pipeline files of a folder, sorted; PipelineError when it is none or holds too many."""
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS and path.is_file())
    except OSError as error:
        what = f"the folder cannot be read: {error.strerror}; name another with --pipelines"
        raise PipelineError([Problem(str(folder), 1, 1, what)]) from None
    if len(found) > MAX_FILES:
        raise PipelineError([Problem(str(folder), 1, 1, f"it has more than {MAX_FILES} pipelines")])
    return found


def load_folder(
    folder: Path, *, model: str | None = None, adapters: Collection[str] | None = None
) -> dict[str, Pipeline]:
    """All pipelines of a folder by name; PipelineError with everything that is wrong in any of its files.

    With `model`, a step that wants another one is wrong too, and with `adapters` one that wants none of them.
    """
    loaded: dict[str, Pipeline] = {}
    problems: list[Problem] = []
    for path in pipeline_files(folder):
        try:
            pipeline = read_pipeline(path)
        except PipelineError as error:
            problems += error.problems
            continue
        if pipeline.name in loaded:
            problems.append(Problem(str(path), 1, 1, f"another file has the name '{pipeline.name}' too"))
        problems += [Problem(str(path), 1, 1, message) for message in wrong_models(pipeline, model, adapters)]
        loaded[pipeline.name] = pipeline
    if problems:
        raise PipelineError(problems)
    return loaded


def wrong_models(pipeline: Pipeline, model: str | None, adapters: Collection[str] | None = None) -> list[str]:
    """What is wrong with the models and adapters of its steps where only `model` is there, with `adapters`;
    None stands for any.
    """
    models = [
        f"step '{step.name}' wants the model '{step.model}', and '{model}' is what is loaded"
        for step in pipeline.steps
        if model is not None and step.model not in (None, model)
    ]
    there = ", ".join(adapters or ()) or "none"
    return models + [
        f"step '{step.name}' wants the adapter '{step.adapter}', and loaded are: {there}"
        for step in pipeline.steps
        if adapters is not None and step.adapter is not None and step.adapter not in adapters
    ]

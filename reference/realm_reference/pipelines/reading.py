"""From a located tree to a pipeline: every key known, every value in its range, every field there in time.

All that is wrong is collected, so that a file is mended in one go.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

from realm_reference.pipelines.definition import DEFAULT_INPUT, Pipeline, Sampling, Step
from realm_reference.pipelines.document import MAX_BYTES, Located, PipelineError, Problem, read_document
from realm_reference.pipelines.prompts import MAX_TEMPLATE, StepTemplate, TemplateFault
from realm_reference.pipelines.values import SAMPLING, Check, ValueFault, boolean, identifier, text

MAX_STEPS: Final = 32
MAX_INPUTS: Final = 32

_PIPELINE_KEYS: Final = ("name", "description", "inputs", "steps")
# Realm writes model_id; both names mean the same.
_STEP_KEYS: Final = (
    "name", "model", "model_id", "template", "input_field", "output_field", "optional", "chat", "adapter",
    "params",
)  # fmt: skip
T = TypeVar("T")
_RESERVED: Final = re.compile(r"loop|self|caller|varargs|kwargs")


def read_pipeline(path: Path) -> Pipeline:
    """The pipeline in a file; its ending (.yaml, .yml or .json) says how it is written. PipelineError."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        return parse_pipeline(raw.decode("utf-8"), str(path))
    except OSError as error:
        raise PipelineError([Problem(str(path), 1, 1, f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise PipelineError([Problem(str(path), 1, 1, "it is not UTF-8")]) from None


def parse_pipeline(source_text: str, source: str) -> Pipeline:
    """The pipeline in a text; PipelineError with the place of everything that is wrong in it."""
    return _Reader(source).pipeline(read_document(source_text, source))


class _Reader:
    """Reads one document and collects what is wrong with it."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._problems: list[Problem] = []

    def pipeline(self, root: Located) -> Pipeline:
        entries = self._mapping(root, "a pipeline", _PIPELINE_KEYS)
        name = self._value(entries, "name", identifier, root, required=True)
        description = self._value(entries, "description", text, root) or ""
        inputs = self._inputs(entries.get("inputs"))
        steps = self._steps(entries.get("steps"), inputs, root)
        if self._problems:
            raise PipelineError(sorted(self._problems, key=lambda problem: (problem.line, problem.column)))
        assert name is not None  # or there would be a problem
        return Pipeline(name, tuple(steps), inputs, description)

    # ------------------------------------------------------------------------------------------ parts

    def _inputs(self, node: Located | None) -> tuple[str, ...]:
        if node is None:
            return (DEFAULT_INPUT,)
        if not isinstance(node.value, list) or not 1 <= len(node.value) <= MAX_INPUTS:
            self._note(node, f"'inputs' must be a list of 1 to {MAX_INPUTS} names")
            return (DEFAULT_INPUT,)
        names = [self._field(item, "inputs") for item in node.value]
        for index, name in enumerate(names):
            if name in names[:index]:
                self._note(node.value[index], f"the input '{name}' is there twice")
        return tuple(name for name in names if name) or (DEFAULT_INPUT,)

    def _steps(self, node: Located | None, inputs: tuple[str, ...], root: Located) -> list[Step]:
        if node is None:
            self._note(root, "a pipeline needs 'steps'")
            return []
        if not isinstance(node.value, list) or not 1 <= len(node.value) <= MAX_STEPS:
            self._note(node, f"'steps' must be a list of 1 to {MAX_STEPS} steps")
            return []
        steps: list[Step] = []
        known = [*inputs]
        for item in node.value:
            step = self._step(item, known, steps[-1].output_field if steps else inputs[0])
            if any(step.name and step.name == earlier.name for earlier in steps):
                self._note(item.value["name"], f"the step name '{step.name}' is there twice")
            steps.append(step)
            known.append(step.output_field)
        return steps

    def _step(self, node: Located, known: list[str], before: str) -> Step:
        entries = self._mapping(node, "a step", _STEP_KEYS)
        name = self._value(entries, "name", identifier, node, required=True) or ""
        if "model" in entries and "model_id" in entries:
            self._note(entries["model_id"], "'model' and 'model_id' are the same; give one of them")
        model = self._value(entries, "model", text, node) or self._value(entries, "model_id", text, node)
        output = (
            self._field(entries["output_field"], "output_field")
            if "output_field" in entries
            else name.replace("-", "_")
        )
        optional = self._value(entries, "optional", boolean, node)
        chat = self._value(entries, "chat", boolean, node)
        return Step(
            name=name,
            model=model,
            template=self._template(entries.get("template"), known),
            input_field=self._input_field(entries.get("input_field"), known, before),
            output_field=output,
            optional=bool(optional),
            chat=chat is not False,
            sampling=self._sampling(entries.get("params")),
            adapter=self._adapter(entries.get("adapter")),
        )

    def _adapter(self, node: Located | None) -> str | None:
        """null is none, as Realm writes it."""
        return None if node is None or node.value is None else self._checked(node, "adapter", text)

    def _input_field(self, node: Located | None, known: list[str], before: str) -> str:
        name = before if node is None else self._field(node, "input_field")
        if node is not None and name and name not in known:
            self._note(node, f"the field '{name}' is not there yet{_meant(name, known)}")
        return name

    def _template(self, node: Located | None, known: list[str]) -> StepTemplate:
        plain = StepTemplate("{{ input }}")
        if node is None:
            return plain
        source = self._checked(node, "template", text)
        if source is None:
            return plain
        if len(source) > MAX_TEMPLATE:
            self._note(node, f"'template' has more than {MAX_TEMPLATE} characters")
            return plain
        try:
            template = StepTemplate(source)
        except TemplateFault as fault:
            self._note(node, str(fault))
            return plain
        for name in sorted(template.names - {*known, DEFAULT_INPUT}):
            self._note(node, f"the template asks for '{name}', which is not there yet{_meant(name, known)}")
        return template

    def _sampling(self, node: Located | None) -> Sampling:
        if node is None:
            return Sampling()
        entries = self._mapping(node, "'params'", tuple(SAMPLING))
        values = {name: self._checked(entry, name, SAMPLING[name]) for name, entry in entries.items()}
        return Sampling(**{name: value for name, value in values.items() if value is not None})

    # ----------------------------------------------------------------------------------------- values

    def _mapping(self, node: Located, what: str, known: tuple[str, ...]) -> dict[str, Located]:
        if not isinstance(node.value, dict):
            self._note(node, f"{what} must be a mapping")
            return {}
        for key, (line, column) in (node.keys or {}).items():
            if key not in known:
                hint = _meant(key, list(known)) or f"; known are {', '.join(known)}"
                message = f"{what} has the unknown key '{key[:64]}'{hint}"
                self._problems.append(Problem(self._source, line, column, message))
        return {key: value for key, value in node.value.items() if key in known}

    def _value(
        self,
        entries: Mapping[str, Located],
        name: str,
        check: Check[T],
        parent: Located,
        *,
        required: bool = False,
    ) -> T | None:
        node = entries.get(name)
        if node is None:
            if required:
                self._note(parent, f"'{name}' is missing")
            return None
        return self._checked(node, name, check)

    def _field(self, node: Located, name: str) -> str:
        value = self._checked(node, name, identifier) or ""
        if _RESERVED.fullmatch(value) or "-" in value:
            self._note(node, f"'{value}' cannot be used as a field: templates could not name it")
        return value

    def _checked(self, node: Located, name: str, check: Check[T]) -> T | None:
        value = [item.value for item in node.value] if isinstance(node.value, list) else node.value
        try:
            return check(value)
        except ValueFault as fault:
            self._note(node, f"'{name}' {fault}")
            return None

    def _note(self, node: Located, message: str) -> None:
        self._problems.append(Problem(self._source, node.line, node.column, message))


def _meant(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean '{close[0]}'?" if close else ""

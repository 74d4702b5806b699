"""A YAML or JSON text as a tree of values that know their place, so that every complaint can name it.

YAML is taken for what it shares with JSON: no aliases (a few lines of them make a billion nodes), no tags,
and the plain scalars of YAML 1.2's core schema, where `no` is a word and not a boolean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

MAX_BYTES: Final = 64 * 1024

_CONSTANTS: Final[dict[str, Any]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,20}")
_NUMBER: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong and where: line and column count from 1."""

    source: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}: {self.message}"


class PipelineError(Exception):
    """A pipeline cannot be used; all that is wrong with it, a line each."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Located:
    """A value and its place. Mappings are dicts of Located by key, sequences are lists of Located."""

    value: Any
    line: int
    column: int
    keys: dict[str, tuple[int, int]] | None = None  # where each key of a mapping stands


def read_document(text: str, source: str) -> Located:
    """The tree in `text`, which `source` names in complaints; PipelineError for what is no such text."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise PipelineError([Problem(source, 1, 1, f"it is larger than {MAX_BYTES // 1024} KiB")])
    if source.endswith(".json"):
        _check_json(text, source)
        # JSON allows tabs between tokens and nowhere else; YAML does not allow them there.
        text = text.replace("\t", " ")
    try:
        _refuse_aliases(text, source)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise PipelineError([_yaml_problem(error, source)]) from None
    except yaml.YAMLError as error:
        raise PipelineError([Problem(source, 1, 1, " ".join(str(error).split())[:200])]) from None
    except RecursionError:
        raise PipelineError([Problem(source, 1, 1, "it is nested too deeply")]) from None
    if node is None:
        raise PipelineError([Problem(source, 1, 1, "it is empty")])
    return _located(node, source)


def _check_json(text: str, source: str) -> None:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise PipelineError([Problem(source, error.lineno, error.colno, error.msg)]) from None
    except RecursionError:
        raise PipelineError([Problem(source, 1, 1, "it is nested too deeply")]) from None


def _refuse_aliases(text: str, source: str) -> None:
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None):
            raise PipelineError(
                [Problem(source, *_place(event.start_mark), "aliases and tags are not allowed")]
            )


def _yaml_problem(error: yaml.MarkedYAMLError, source: str) -> Problem:
    what = error.problem or error.context or "it is not YAML"
    return Problem(source, *_place(error.problem_mark or error.context_mark), what)


def _place(mark: Any) -> tuple[int, int]:
    """Line and column of a mark of PyYAML's, which counts from 0 and may have none."""
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _located(node: yaml.Node, source: str) -> Located:
    place = _place(node.start_mark)
    if isinstance(node, yaml.MappingNode):
        entries: dict[str, Located] = {}
        keys: dict[str, tuple[int, int]] = {}
        for key, at, value in _entries(node, source):
            if key in entries:
                raise PipelineError([Problem(source, *at, f"the key '{key}' is there twice")])
            entries[key], keys[key] = _located(value, source), at
        return Located(entries, *place, keys)
    if isinstance(node, yaml.SequenceNode):
        return Located([_located(item, source) for item in node.value], *place)
    assert isinstance(node, yaml.ScalarNode)  # there is no fourth kind
    return Located(_scalar(node), *place)


def _entries(node: yaml.MappingNode, source: str) -> Iterator[tuple[str, tuple[int, int], yaml.Node]]:
    for key, value in node.value:
        at = _place(key.start_mark)
        if not isinstance(key, yaml.ScalarNode):
            raise PipelineError([Problem(source, *at, "a key must be a string")])
        yield key.value, at, value


def _scalar(node: yaml.ScalarNode) -> Any:
    # JSON writes what is outside the BMP as two escapes, which PyYAML leaves apart.
    text = str(node.value).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    if node.style is not None:  # quoted or a block: always a string
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text

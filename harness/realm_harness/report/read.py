"""Result files into values: strict about shape, so that a broken file is named and never half-believed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from realm_harness.report.model import (
    CASE_VERDICTS,
    LEVELS,
    Calibration,
    Case,
    Clause,
    Conformance,
    Distribution,
    Load,
    WireEvent,
)
from realm_harness.report.text import clean_tree

CONFORMANCE_SCHEMA = "realm-conformance/1"
LOAD_SCHEMA = "realm-load/1"
MAX_FILE_BYTES = 256 * 2**20

Choice = TypeVar("Choice", bound=str)


class BrokenResults(Exception):
    """A result file that is missing, too big, not JSON or not of its schema; the message is one line."""


class Node:
    """A JSON value that knows its path, so that a mistake in a file is reported by where it is."""

    def __init__(self, value: Any, path: str) -> None:
        self.value = value
        self.path = path

    def _fail(self, wanted: str) -> BrokenResults:
        return BrokenResults(f"{self.path} should be {wanted}, found {json.dumps(self.value)[:80]}")

    def __getitem__(self, key: str) -> Node:
        """A member of an object; one that is not there is a null."""
        if not isinstance(self.value, dict):
            raise self._fail("an object")
        return Node(self.value.get(key), f"{self.path}.{key}")

    def or_empty(self) -> Node:
        """This object, or an empty one where there is none."""
        return self if self.value is not None else Node({}, self.path)

    def items(self) -> Iterator[tuple[str, Node]]:
        """The members of an object; null counts as an empty one."""
        if self.value is not None and not isinstance(self.value, dict):
            raise self._fail("an object")
        return ((key, Node(item, f"{self.path}.{key}")) for key, item in (self.value or {}).items())

    def elements(self) -> list[Node]:
        """The elements of an array."""
        if not isinstance(self.value, list):
            raise self._fail("an array")
        return [Node(item, f"{self.path}[{index}]") for index, item in enumerate(self.value)]

    def text(self) -> str:
        """A string; null is the empty string."""
        if self.value is None:
            return ""
        if not isinstance(self.value, str):
            raise self._fail("a string")
        return self.value

    def choice(self, allowed: tuple[Choice, ...]) -> Choice:
        """One of the allowed words."""
        if self.value not in allowed:
            raise self._fail("one of " + ", ".join(allowed))
        return cast(Choice, self.value)

    def number(self) -> float:
        """A number that must be there."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self._fail("a number")
        return float(self.value)

    def optional_number(self) -> float | None:
        """A number, or None where nothing was measured."""
        return None if self.value is None else self.number()

    def count(self) -> int:
        """A whole number, zero or more."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or self.value < 0:
            raise self._fail("a count")
        return self.value

    def shown(self) -> str:
        """Any value as a person would write it."""
        return self.value if isinstance(self.value, str) else json.dumps(self.value, ensure_ascii=False)

    def labels(self) -> dict[str, str]:
        """An object as label -> shown value, without its nulls."""
        return {key: node.shown() for key, node in self.items() if node.value is not None}


def read_json(path: Path, schema: str, secret: str | None = None) -> dict[str, Any]:
    """The contents of a result file of the given schema, cleaned and without `secret`, or BrokenResults."""
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise BrokenResults(
                f"{path.name} is {size:,} bytes, more than the {MAX_FILE_BYTES:,} that are read"
            )
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BrokenResults(f"{path.name} was not written") from None
    except OSError as error:
        raise BrokenResults(f"{path.name} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise BrokenResults(f"{path.name} is not JSON: {error}") from None
    if not isinstance(found, dict) or found.get("schema") != schema:
        raise BrokenResults(f"{path.name} is not of the schema {schema}")
    return cast(dict[str, Any], clean_tree(found, secret))


def conformance_of(results: Mapping[str, Any]) -> Conformance:
    """The conformance run in the contents of a `realm-conformance/1` file."""
    root = Node(results, "conformance")
    return Conformance(
        started=root["started"].text(),
        seconds=root["seconds"].number(),
        cases=tuple(_case(node) for node in root["cases"].elements()),
        target=root["target"].labels(),
        machine=root["machine"].labels(),
        tool=" ".join(root["tool"].labels().values()),
        seed=root["seed"].shown() if root["seed"].value is not None else "",
    )


def _case(node: Node) -> Case:
    clause = node["clause"]
    return Case(
        id=node["id"].text(),
        title=node["title"].text(),
        chapter=node["chapter"].text(),
        clause=Clause(clause["id"].text(), clause["sentence"].text(), clause["source"].text()),
        level=node["level"].choice(LEVELS),
        reason=node["reason"].text(),
        verdict=node["verdict"].choice(CASE_VERDICTS),
        message=node["message"].text(),
        ending=node["ending"].text(),
        repro=node["repro"].text(),
        seconds=node["seconds"].optional_number() or 0.0,
        wire=tuple(
            WireEvent(event["t_ms"].number(), event["dir"].choice((">", "<")) == ">", event["text"].text())
            for event in node["wire"].elements()
        ),
    )


def load_of(results: Mapping[str, Any]) -> Load:
    """The load test in the contents of a `realm-load/1` file."""
    root = Node(results, "load")
    figures = root["figures"]
    generator = root["generator"].or_empty()
    return Load(
        started=root["started"].text(),
        seconds=root["seconds"].number(),
        latencies={
            name: _distribution(node)
            for name, node in figures.items()
            if isinstance(node.value, dict) and "p50" in node.value
        },
        tokens_per_second=figures["tokens_per_second"].optional_number(),
        tokens_per_second_per_user=figures["tokens_per_second_per_user"].optional_number(),
        requests=figures["requests"].count(),
        completed=figures["completed"].count(),
        failed=figures["failed"].count(),
        cut=figures["cut"].count() if figures["cut"].value is not None else 0,
        errors={name: node.count() for name, node in figures["errors"].items()},
        definitions={name: node.text() for name, node in root["definitions"].items()},
        settings=root["settings"].labels(),
        plots={name: node.text() for name, node in root["plots"].items()},
        machine=root["machine"].labels(),
        versions=root["versions"].labels(),
        tool=" ".join(root["tool"].labels().values()),
        note=root["note"].text(),
        bottleneck=generator["may_be_the_bottleneck"].value is True,
        generator_cpu_share=generator["cpu_share"].optional_number(),
        generator_lag_ms=generator["lag_ms"].or_empty()["p99"].optional_number(),
        calibration=None if root["calibration"].value is None else _calibration(root["calibration"]),
    )


def _calibration(node: Node) -> Calibration:
    return Calibration(
        streams=node["streams"].count(),
        ttft_ms=node["ttft"]["p99"].number(),
        itl_ms=node["itl"]["p99"].number(),
    )


def _distribution(node: Node) -> Distribution:
    return Distribution(
        count=node["count"].count(),
        mean=node["mean"].optional_number(),
        p50=node["p50"].optional_number(),
        p90=node["p90"].optional_number(),
        p95=node["p95"].optional_number(),
        p99=node["p99"].optional_number(),
        max=node["max"].optional_number(),
    )

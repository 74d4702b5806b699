"""Calls of functions in a model's text, and how they are read out of a stream as Hermes and Qwen write them:
each call is a JSON object with `name` and `arguments` between two tags.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final, Protocol

BEGIN: Final = "<tool_call>"
END: Final = "</tool_call>"
_HEAD: Final = re.compile(r'\s*\{\s*"name"\s*:\s*"(?P<name>[^"\\]*)"\s*,\s*"arguments"\s*:\s*(?=\{)')


@dataclass(frozen=True)
class Call:
    """A function to call, or more of its `arguments`, which are JSON text. Only the first piece of a call has
    its name and id.
    """

    index: int
    arguments: str
    name: str | None = None
    id: str | None = None


def joined(calls: Iterable[Call]) -> list[Call]:
    """The calls with the pieces of each put together."""
    whole: dict[int, Call] = {}
    for piece in calls:
        so_far = whole.get(piece.index)
        arguments = so_far.arguments + piece.arguments if so_far else piece.arguments
        whole[piece.index] = replace(so_far or piece, arguments=arguments)
    return list(whole.values())


def new_id() -> str:
    """An id for a call."""
    return f"call_{secrets.token_hex(12)}"


class Reader(Protocol):
    """Takes a text as it comes and tells calls from what is said beside them.

    Once a call's name is known it is told as it comes; what looks like one and is none is text.
    """

    calls: int
    """How many there have been."""

    def push(self, text: str) -> tuple[str, list[Call]]:
        """The text and the pieces of calls that are certain now."""

    def end(self) -> str:
        """What was held back and is text, when nothing more comes."""


class _State(Enum):
    TEXT = auto()
    HEAD = auto()  # behind a tag, before it is certain that this is a call
    ARGUMENTS = auto()
    TAIL = auto()  # behind the arguments, before the closing tag


class CallReader:
    """A Reader that holds back what may become a tag, and space that may be the space round a call."""

    def __init__(self) -> None:
        self._held = ""
        self._state = _State.TEXT
        self._behind = False  # a call, so that space is no text yet
        self._end_of_arguments = ObjectEnd()
        self.calls = 0

    def push(self, text: str) -> tuple[str, list[Call]]:
        """The text and the pieces of calls that are certain now."""
        self._held += text
        said, calls, before = "", list[Call](), None
        while before != (self._state, len(self._held)):
            before = (self._state, len(self._held))
            if self._state is _State.TEXT:
                said += self._text()
            elif self._state is _State.HEAD:
                said += self._head(calls)
            elif self._state is _State.ARGUMENTS:
                self._arguments(calls)
            elif END in self._held:
                self._held = self._held.partition(END)[2]
                self._state, self._behind = _State.TEXT, True
        return said, joined(calls)

    def end(self) -> str:
        """What was held back, when nothing more comes: a tag without a call is text."""
        held, self._held = self._held, ""
        if self._state is _State.HEAD:
            return BEGIN + held
        return self._shown(held) if self._state is _State.TEXT else ""

    def _text(self) -> str:
        if BEGIN in self._held:
            before, _, self._held = self._held.partition(BEGIN)
            self._state = _State.HEAD
            return self._shown(before).rstrip()
        keep = len(self._held.rstrip())
        for size in range(min(len(BEGIN) - 1, len(self._held)), 0, -1):
            if BEGIN.startswith(self._held[-size:]):
                keep = len(self._held[:-size].rstrip())
                break
        said, self._held = self._held[:keep], self._held[keep:]
        return self._shown(said)

    def _head(self, calls: list[Call]) -> str:
        if head := _HEAD.match(self._held):
            calls.append(Call(self.calls, "", head["name"], new_id()))
            self.calls += 1
            self._held = self._held[head.end() :]
            self._state, self._end_of_arguments = _State.ARGUMENTS, ObjectEnd()
        elif END in self._held:
            before, _, self._held = self._held.partition(END)
            self._state = _State.TEXT
            return BEGIN + before + END
        return ""

    def _arguments(self, calls: list[Call]) -> None:
        size = self._end_of_arguments.find(self._held)
        if size:
            calls.append(Call(self.calls - 1, self._held[:size]))
            self._held = self._held[size:]
        if self._end_of_arguments.found:
            self._state = _State.TAIL

    def _shown(self, text: str) -> str:
        """`text` without the space behind a call."""
        shown = text.lstrip() if self._behind else text
        self._behind = self._behind and not shown
        return shown


class ObjectEnd:
    """Finds where a JSON object ends in a text that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._escaped = False
        self.found = False

    def find(self, text: str) -> int:
        """How many characters of `text` belong to the object."""
        for size, character in enumerate(text, 1):
            if self._in_string:
                self._in_string = self._escaped or character != '"'
                self._escaped = character == "\\" and not self._escaped
            elif character == '"':
                self._in_string = True
            elif character in "{}":
                self._depth += 1 if character == "{" else -1
                self.found = self._depth == 0
                if self.found:
                    return size
        return len(text)

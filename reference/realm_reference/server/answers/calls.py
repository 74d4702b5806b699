"""Calls of functions in a model's text, and what all ways of reading them out of a stream have in common."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto


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


class State(Enum):
    """What a Reader reads."""

    TEXT = auto()  # what is said beside calls
    HEAD = auto()  # what may be a call, before that is certain
    ARGUMENTS = auto()
    TAIL = auto()  # behind the arguments
    OVER = auto()  # behind the last call


class Reader(ABC):
    """Takes a text as it comes and tells calls from what is said beside them.

    Once a call's name is known it is told as it comes; what looks like one and is none is text. How a call
    begins and ends is the subclass's.
    """

    def __init__(self, state: State) -> None:
        self._held = ""
        self._state = state
        self._end_of_arguments = ObjectEnd()
        self.calls = 0
        """How many there have been."""

    def push(self, text: str) -> tuple[str, list[Call]]:
        """The text and the pieces of calls that are certain now."""
        self._held += text
        said, calls, before = "", list[Call](), None
        while before != (self._state, len(self._held)):
            before = (self._state, len(self._held))
            if self._state is State.ARGUMENTS:
                self._arguments(calls)
            else:
                said += self._step(calls)
        return said, joined(calls)

    @abstractmethod
    def end(self) -> str:
        """What was held back and is text, when nothing more comes."""

    @abstractmethod
    def _step(self, calls: list[Call]) -> str:
        """Take what is certain from what is held, in any state but ARGUMENTS; what of it is text."""

    def _begin(self, name: str, identifier: str, behind: str) -> Call:
        """A call whose arguments begin the text `behind` its head; they are read from here on."""
        call = Call(self.calls, "", name, identifier)
        self.calls += 1
        self._held = behind
        self._state, self._end_of_arguments = State.ARGUMENTS, ObjectEnd()
        return call

    def _arguments(self, calls: list[Call]) -> None:
        size = self._end_of_arguments.find(self._held)
        if size:
            calls.append(Call(self.calls - 1, self._held[:size]))
            self._held = self._held[size:]
        if self._end_of_arguments.found:
            self._state = State.TAIL


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

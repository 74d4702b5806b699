"""Calls of functions that are the whole of a message, without tags: JSON from its first character on."""

from __future__ import annotations

import re
import secrets
import string
from enum import Enum, auto
from typing import Final

from realm_reference.server.answers.calls import Call, ObjectEnd, joined, new_id

_SPACE: Final = re.compile(r"\s+")
_LONGEST_NAME: Final = 64
_ALPHABET: Final = string.ascii_letters + string.digits


def short_id() -> str:
    """Nine letters and digits, as Mistral's templates want the ids of calls that they are shown again."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(9))


class _State(Enum):
    HEAD = auto()  # before a call: at the message's beginning, or behind the one before
    ARGUMENTS = auto()
    TAIL = auto()  # behind the arguments
    OVER = auto()  # behind the last call
    TEXT = auto()  # it is no call, or there are no more


class BareCallReader:
    """As `CallReader`. A message that begins as a call does is held back until it is certain."""

    def __init__(self, arguments: str, *, mark: str = "", listed: bool = False) -> None:
        """`arguments` is the key of a call's arguments; `listed` calls stand in an array, perhaps behind
        `mark`.
        """
        self._mark, self._listed = mark, listed
        self._key = f'","{arguments}":{{'
        self._opening = '{"name":"'
        head = rf'\s*\{{\s*"name"\s*:\s*"(?P<name>[^"\\]*)"\s*,\s*"{arguments}"\s*:\s*(?=\{{)'
        self._first = re.compile(rf"\s*\[{head}" if listed else head)
        self._next = re.compile(head)
        self._held = ""
        self._state = _State.HEAD
        self._end_of_arguments = ObjectEnd()
        self.calls = 0

    def push(self, text: str) -> tuple[str, list[Call]]:
        """The text and the pieces of calls that are certain now."""
        self._held += text
        said, calls, before = "", list[Call](), None
        while before != (self._state, len(self._held)):
            before = (self._state, len(self._held))
            if self._state is _State.HEAD:
                self._head(calls)
            elif self._state is _State.ARGUMENTS:
                self._arguments(calls)
            elif self._state is _State.TAIL:
                self._tail()
            elif self._state is _State.OVER and self._held.strip():
                self._held, self._state = self._held.lstrip(), _State.TEXT
            elif self._state is _State.TEXT:
                said, self._held = said + self._held, ""
        return said, joined(calls)

    def end(self) -> str:
        """What was held back, when nothing more comes: what only begins as a call does is text."""
        held, self._held = self._held, ""
        return held if self._state is _State.HEAD and not self.calls else ""

    def _head(self, calls: list[Call]) -> None:
        begun = self._held.lstrip()
        if self._mark and self._mark.startswith(begun):
            return
        body = begun.removeprefix(self._mark) if self._mark and not self.calls else begun
        if head := (self._next if self.calls else self._first).match(body):
            calls.append(Call(self.calls, "", head["name"], short_id() if self._listed else new_id()))
            self.calls += 1
            self._held = body[head.end() :]
            self._state, self._end_of_arguments = _State.ARGUMENTS, ObjectEnd()
        elif not self._may_begin(_SPACE.sub("", body)):
            self._state = _State.TEXT

    def _may_begin(self, compact: str) -> bool:
        opening = self._opening if self.calls or not self._listed else "[" + self._opening
        if len(compact) <= len(opening):
            return opening.startswith(compact)
        name, quote, rest = compact.removeprefix(opening).partition('"')
        fine = compact.startswith(opening) and len(name) <= _LONGEST_NAME
        return fine and (not quote or self._key.startswith(quote + rest))

    def _arguments(self, calls: list[Call]) -> None:
        size = self._end_of_arguments.find(self._held)
        if size:
            calls.append(Call(self.calls - 1, self._held[:size]))
            self._held = self._held[size:]
        if self._end_of_arguments.found:
            self._state = _State.TAIL

    def _tail(self) -> None:
        """The brace of the call, and what stands between two calls or behind the last."""
        tail = _SPACE.sub("", self._held)
        if not self._listed and tail.startswith("}"):
            self._held, self._state = self._held.partition("}")[2], _State.OVER
        elif self._listed and tail.startswith(("},", "}]")):
            last = tail[1]
            self._held = self._held.partition(last)[2]
            self._state = _State.HEAD if last == "," else _State.OVER

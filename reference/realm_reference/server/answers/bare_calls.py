"""Calls of functions that are the whole of a message, without tags: JSON from its first character on."""

from __future__ import annotations

import re
import secrets
import string
from typing import Final

from realm_reference.server.answers.calls import Call, Reader, State, new_id

_SPACE: Final = re.compile(r"\s+")
_LONGEST_NAME: Final = 64
_ALPHABET: Final = string.ascii_letters + string.digits


def short_id() -> str:
    """Nine letters and digits, as Mistral's templates want the ids of calls that they are shown again."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(9))


class BareCallReader(Reader):
    """Holds a message that begins as a call does back until it is certain."""

    def __init__(self, arguments: str, *, mark: str = "", listed: bool = False) -> None:
        """`arguments` is the key of a call's arguments; `listed` calls stand in an array, perhaps behind
        `mark`.
        """
        super().__init__(State.HEAD)
        self._mark, self._listed = mark, listed
        self._key = f'","{arguments}":{{'
        self._opening = '{"name":"'
        head = rf'\s*\{{\s*"name"\s*:\s*"(?P<name>[^"\\]*)"\s*,\s*"{arguments}"\s*:\s*(?=\{{)'
        self._first = re.compile(rf"\s*\[{head}" if listed else head)
        self._next = re.compile(head)

    def end(self) -> str:
        """What was held back, when nothing more comes: what only begins as a call does is text."""
        held, self._held = self._held, ""
        return held if self._state is State.HEAD and not self.calls else ""

    def _step(self, calls: list[Call]) -> str:
        said = ""
        if self._state is State.HEAD:
            self._head(calls)
        elif self._state is State.TAIL:
            self._tail()
        elif self._state is State.OVER and self._held.strip():
            self._held, self._state = self._held.lstrip(), State.TEXT
        elif self._state is State.TEXT:
            said, self._held = self._held, ""
        return said

    def _head(self, calls: list[Call]) -> None:
        begun = self._held.lstrip()
        if self._mark and self._mark.startswith(begun):
            return
        body = begun.removeprefix(self._mark) if self._mark and not self.calls else begun
        if head := (self._next if self.calls else self._first).match(body):
            identifier = short_id() if self._listed else new_id()
            calls.append(self._begin(head["name"], identifier, body[head.end() :]))
        elif not self._may_begin(_SPACE.sub("", body)):
            self._state = State.TEXT

    def _may_begin(self, compact: str) -> bool:
        opening = self._opening if self.calls or not self._listed else "[" + self._opening
        if len(compact) <= len(opening):
            return opening.startswith(compact)
        name, quote, rest = compact.removeprefix(opening).partition('"')
        fine = compact.startswith(opening) and len(name) <= _LONGEST_NAME
        return fine and (not quote or self._key.startswith(quote + rest))

    def _tail(self) -> None:
        """The brace of the call, and what stands between two calls or behind the last."""
        tail = _SPACE.sub("", self._held)
        if not self._listed and tail.startswith("}"):
            self._held, self._state = self._held.partition("}")[2], State.OVER
        elif self._listed and tail.startswith(("},", "}]")):
            last = tail[1]
            self._held = self._held.partition(last)[2]
            self._state = State.HEAD if last == "," else State.OVER

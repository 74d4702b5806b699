"""Calls as Hermes and Qwen write them: each is a JSON object with `name` and `arguments` between two tags."""

from __future__ import annotations

import re
from typing import Final

from realm_reference.server.answers.calls import Call, Reader, State, new_id

BEGIN: Final = "<tool_call>"
END: Final = "</tool_call>"
_HEAD: Final = re.compile(r'\s*\{\s*"name"\s*:\s*"(?P<name>[^"\\]*)"\s*,\s*"arguments"\s*:\s*(?=\{)')


class TaggedCallReader(Reader):
    """Holds back what may become a tag, and space that may be the space round a call."""

    def __init__(self) -> None:
        super().__init__(State.TEXT)
        self._behind = False  # a call, so that space is no text yet

    def end(self) -> str:
        """What was held back, when nothing more comes: a tag without a call is text."""
        held, self._held = self._held, ""
        if self._state is State.HEAD:
            return BEGIN + held
        return self._shown(held) if self._state is State.TEXT else ""

    def _step(self, calls: list[Call]) -> str:
        if self._state is State.TEXT:
            return self._text()
        if self._state is State.HEAD:
            return self._head(calls)
        if END in self._held:
            self._held = self._held.partition(END)[2]
            self._state, self._behind = State.TEXT, True
        return ""

    def _text(self) -> str:
        if BEGIN in self._held:
            before, _, self._held = self._held.partition(BEGIN)
            self._state = State.HEAD
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
            calls.append(self._begin(head["name"], new_id(), self._held[head.end() :]))
        elif END in self._held:
            before, _, self._held = self._held.partition(END)
            self._state = State.TEXT
            return BEGIN + before + END
        return ""

    def _shown(self, text: str) -> str:
        """`text` without the space behind a call."""
        shown = text.lstrip() if self._behind else text
        self._behind = self._behind and not shown
        return shown

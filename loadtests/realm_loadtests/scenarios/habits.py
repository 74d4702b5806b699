"""Users who do not read to the end, or not as fast as the server writes."""

from __future__ import annotations

from typing import Final

from realm_loadtests.scenarios.chat import Chat
from realm_loadtests.scenarios.scenario import Ask

SLOW_SHARE: Final = 0.25
SLOW_PAUSE_S: Final = 0.5


class Cancel(Chat):
    """Every second request is hung up on half way: its place has to be free again at once."""

    def next(self) -> Ask:
        """A question, with or without the patience for its answer."""
        ask = super().next()
        if self.random.random() < 0.5:
            return ask
        return Ask(ask.body, cancel_after=max(1, self.settings.max_tokens // 2))


class SlowReaders(Chat):
    """One reader in four pauses after each read: the others must not wait for it."""

    def next(self) -> Ask:
        """A question, read at once or slowly."""
        ask = super().next()
        return Ask(ask.body, read_pause_s=SLOW_PAUSE_S) if self.random.random() < SLOW_SHARE else ask

"""The state behind ABI v2: sessions as an engine keeps them, but all they hold is the tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from realm_abi.errors import AbiError, ErrorCode

FIRST_HANDLE = 0x1001
HANDLE_STEP = 0x11


@dataclass
class Session:
    """One session: whose it is, what it has seen, what was emitted on it."""

    handle: int
    owner: int
    tokens: list[int] = field(default_factory=list)
    emitted: list[int] = field(default_factory=list)


class SessionTable:
    """All sessions of one host, by handle.

    Handles are never small, dense or used twice: a guest that guesses one, counts on 1, or keeps a freed one
    is told so. `owner` is the guest instance; another instance's handle is as invalid as one that never was.
    """

    def __init__(self, context_length: int) -> None:
        self._context_length = context_length
        self._sessions: dict[int, Session] = {}
        self._next = FIRST_HANDLE

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def open(self, owner: int) -> Session:
        """A new, empty session."""
        session = Session(self._next, owner)
        self._next += HANDLE_STEP
        self._sessions[session.handle] = session
        return session

    def get(self, owner: int, handle: int) -> Session:
        """The owner's session; `invalid_handle` for any other number."""
        session = self._sessions.get(handle)
        if session is None or session.owner != owner:
            raise AbiError(ErrorCode.invalid_handle, f"no session {handle} of this guest")
        return session

    def append(self, session: Session, ids: Sequence[int]) -> None:
        """Feeds tokens; `context_full`, with nothing appended, when they do not fit."""
        if len(session.tokens) + len(ids) > self._context_length:
            raise AbiError(ErrorCode.context_full, f"the context holds {self._context_length} tokens")
        session.tokens.extend(ids)

    def fork(self, owner: int, handle: int) -> Session:
        """A second session with the same past."""
        source = self.get(owner, handle)
        copy = self.open(owner)
        copy.tokens.extend(source.tokens)
        copy.emitted.extend(source.emitted)
        return copy

    def truncate(self, owner: int, handle: int, length: int) -> None:
        """Forgets everything from `length` on; `invalid_argument` when there is less."""
        session = self.get(owner, handle)
        if not 0 <= length <= len(session.tokens):
            raise AbiError(
                ErrorCode.invalid_argument, f"{len(session.tokens)} tokens, asked to keep {length}"
            )
        del session.tokens[length:]

    def free(self, owner: int, handle: int) -> None:
        """Ends a session; its handle stays invalid for good."""
        del self._sessions[self.get(owner, handle).handle]

    def owned(self, owner: int) -> list[Session]:
        """The sessions that an instance has open."""
        return [session for session in self if session.owner == owner]

    def drop(self, owner: int) -> None:
        """Frees all that an instance left open, as a host does when the instance ends."""
        for session in self.owned(owner):
            del self._sessions[session.handle]

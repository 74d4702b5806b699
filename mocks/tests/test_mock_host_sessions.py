from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, multiple, rule
from realm_abi.errors import AbiError, ErrorCode
from realm_mocks.host import SessionTable

CONTEXT = 12


class Sessions(RuleBasedStateMachine):
    """The table against plain lists of tokens, from two instances at once."""

    handles = Bundle("handles")
    freed = Bundle("freed")

    def __init__(self) -> None:
        super().__init__()
        self.table = SessionTable(CONTEXT)
        self.model: dict[int, tuple[int, list[int]]] = {}

    @rule(target=handles, owner=st.integers(1, 2))
    def open(self, owner: int) -> int:
        handle = self.table.open(owner).handle
        assert handle not in self.model
        self.model[handle] = (owner, [])
        return handle

    @rule(handle=handles, ids=st.lists(st.integers(0, 9), max_size=6))
    def append(self, handle: int, ids: list[int]) -> None:
        owner, tokens = self.model[handle]
        session = self.table.get(owner, handle)
        if len(tokens) + len(ids) > CONTEXT:
            with pytest.raises(AbiError) as caught:
                self.table.append(session, ids)
            assert caught.value.code == ErrorCode.context_full
        else:
            self.table.append(session, ids)
            tokens.extend(ids)
        assert session.tokens == tokens

    @rule(target=handles, handle=handles)
    def fork(self, handle: int) -> int:
        owner, tokens = self.model[handle]
        copy = self.table.fork(owner, handle)
        self.model[copy.handle] = (owner, list(tokens))
        assert copy.tokens == tokens
        return copy.handle

    @rule(handle=handles, length=st.integers(-1, CONTEXT + 1))
    def truncate(self, handle: int, length: int) -> None:
        owner, tokens = self.model[handle]
        if 0 <= length <= len(tokens):
            self.table.truncate(owner, handle, length)
            del tokens[length:]
        else:
            with pytest.raises(AbiError) as caught:
                self.table.truncate(owner, handle, length)
            assert caught.value.code == ErrorCode.invalid_argument
        assert self.table.get(owner, handle).tokens == tokens

    @rule(target=freed, handle=consumes(handles))
    def free(self, handle: int) -> int:
        self.table.free(self.model.pop(handle)[0], handle)
        return handle

    @rule(handle=handles)
    def another_instance_may_not(self, handle: int) -> None:
        with pytest.raises(AbiError) as caught:
            self.table.get(3 - self.model[handle][0], handle)
        assert caught.value.code == ErrorCode.invalid_handle

    @rule(target=freed, handle=freed)
    def a_freed_one_stays_invalid(self, handle: int) -> object:
        with pytest.raises(AbiError) as caught:
            self.table.free(1, handle)
        assert caught.value.code == ErrorCode.invalid_handle
        return multiple()


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_an_instance_that_ends_leaves_nothing() -> None:
    table = SessionTable(CONTEXT)
    mine, other = table.open(1), table.open(2)
    table.fork(1, mine.handle)
    table.drop(1)
    assert [session.handle for session in table] == [other.handle]

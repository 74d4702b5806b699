from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from realm_mocks.host import Cancel, Fault, FaultPlan, Return, Trap


def test_calls_are_counted_by_function_or_over_all() -> None:
    plan = FaultPlan((Fault(Return(-9), "realm_forward", 2), Fault(Cancel(), None, 4)))
    assert plan.at("realm_forward", 2, 3) == (plan.faults[0],)
    assert plan.at("realm_emit", 2, 4) == (plan.faults[1],)
    assert plan.at("realm_forward", 2, 4) == plan.faults
    assert plan.at("realm_emit", 2, 3) == ()


def test_calls_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="from 1"):
        Fault(Trap(), nth=0)


@given(st.builds(Fault, nth=st.integers(1, 5)))
def test_faults_can_be_drawn_and_are_values(fault: Fault) -> None:
    plan = FaultPlan((fault,))
    assert plan == FaultPlan((fault,))
    assert hash(plan) == hash(FaultPlan((fault,)))
    assert str(fault.nth) in str(fault)

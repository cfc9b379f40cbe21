"""Which calls a plan of faults strikes."""

from random import Random

import pytest

from sparekey.activation.fake.faults import METHODS, Fault, FaultKind, FaultPlan, chaos


def struck(plan: FaultPlan, method: str = "RedeemCode", calls: int = 1000) -> list[bool]:
    return [plan.strike(method, can_repeat=True) is not None for _ in range(calls)]


def test_a_fault_strikes_so_many_calls_and_no_more() -> None:
    plan = FaultPlan([Fault(kind=FaultKind.UNAVAILABLE, calls=2)], Random(1))
    assert struck(plan, calls=4) == [True, True, False, False]
    assert all(struck(FaultPlan([Fault(kind=FaultKind.UNAVAILABLE)], Random(1))))


def test_a_fault_strikes_its_own_method_only() -> None:
    plan = FaultPlan([Fault(kind=FaultKind.DELAY, method="RenewKey", calls=1)], Random(1))
    assert struck(plan, "CheckKeys", calls=2) == [False, False]
    assert struck(plan, "RenewKey", calls=2) == [True, False]


def test_the_first_fault_that_fits_strikes_and_the_next_one_takes_over() -> None:
    kinds = (FaultKind.DELAY, FaultKind.UNAVAILABLE)
    plan = FaultPlan([Fault(kind=kind, calls=1) for kind in kinds], Random(1))
    faults = [plan.strike("RenewKey", can_repeat=True) for _ in range(3)]
    assert [fault and fault.kind for fault in faults] == [*kinds, None]


def test_a_share_is_drawn_and_drawn_again_alike_from_the_same_seed() -> None:
    faults = [Fault(kind=FaultKind.UNAVAILABLE, percent=20)]
    first = struck(FaultPlan(faults, Random(5)))
    assert 150 < sum(first) < 250
    assert struck(FaultPlan(faults, Random(5))) == first
    assert struck(FaultPlan(faults, Random(6))) != first


def test_a_share_of_a_number_of_calls_ends_with_the_number() -> None:
    plan = FaultPlan([Fault(kind=FaultKind.UNAVAILABLE, percent=50, calls=10)], Random(5))
    assert sum(struck(plan)) == 10


def test_an_answer_is_duplicated_only_where_there_was_one() -> None:
    plan = FaultPlan([Fault(kind=FaultKind.DUPLICATE_ANSWER, calls=1)], Random(1))
    assert plan.strike("RedeemCode", can_repeat=False) is None
    assert plan.strike("RedeemCode", can_repeat=True) is not None


@pytest.mark.parametrize("method", METHODS)
def test_a_signature_is_spoiled_only_where_keys_are_answered(method: str) -> None:
    plan = FaultPlan([Fault(kind=FaultKind.BAD_SIGNATURE)], Random(1))
    is_struck = plan.strike(method, can_repeat=True) is not None
    assert is_struck is (method in ("RedeemCode", "RenewKey"))


def test_chaos_is_a_share_of_all_calls_and_none_at_zero() -> None:
    assert chaos(0) == ()
    assert 50 < sum(struck(FaultPlan(chaos(10), Random(3)), "GetSubscription")) < 150

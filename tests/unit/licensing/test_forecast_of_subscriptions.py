"""A forecast goes by what providers say of subscriptions, not by the keys' own ends."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparekey.licensing.forecast import GapReason, SvmSituation, forecast
from sparekey.licensing.guests import GuestMix
from sparekey.licensing.keyring import HeldKey, Keyring, Role, Slot
from sparekey.licensing.keys import KeyKind, LicenseKey
from sparekey.licensing.modes import Mode
from sparekey.licensing.outlook import tell_present
from sparekey.licensing.renewal_plan import plan_renewal
from sparekey.licensing.subscriptions import Subscription, SubscriptionState
from sparekey.licensing.walking import BlockKey, EndKey, KeyTerms, WhatIf

from .random_fleets import NOW, UNTIL, acts, cured, day, fleets, gaps_met, key, subscriptions_of

KEY = key(1, kind=KeyKind.SUBSCRIPTION, ends=10)
SVM = SvmSituation(
    "svm-1",
    Keyring({Slot(KEY.type, Role.ACTIVE): HeldKey(KEY, NOW - timedelta(days=1))}),
    GuestMix(3),
)


def terms(state: SubscriptionState, ends: float | None = None, **more: object) -> KeyTerms:
    said = Subscription(
        state=state,
        said_at=NOW,
        ends_at=None if ends is None else day(ends),
        **more,  # type: ignore[arg-type]
    )
    return KeyTerms({KEY.serial: said})


def test_R55_an_unlimited_subscription_has_no_gap_although_its_key_has_an_end() -> None:
    assert len(forecast([SVM], NOW, UNTIL).gaps) == 1
    assert forecast([SVM], NOW, UNTIL, (), terms(SubscriptionState.ACTIVE)).gaps == ()


@pytest.mark.parametrize(("stops", "mode"), [(False, Mode.LIMITED), (True, Mode.OFF)])
def test_R58_R59_the_gap_starts_when_the_grace_is_over(stops: bool, mode: Mode) -> None:
    known = terms(SubscriptionState.ACTIVE, 20, grace=timedelta(days=5), stops_protection=stops)
    (found,) = forecast([SVM], NOW, UNTIL, (), known).gaps
    assert (found.gap.starts_at, found.gap.mode) == (day(25), mode)
    assert found.gap.reason is GapReason.SUBSCRIPTION_ENDED
    (bought,) = plan_renewal([SVM], [], NOW, UNTIL, (), known).keys
    assert (bought.tasks[0].role, bought.tasks[0].run_by) == (Role.ACTIVE, day(25))


def test_R96_a_pause_without_grace_is_a_gap_now() -> None:
    (found,) = forecast([SVM], NOW, UNTIL, (), terms(SubscriptionState.PAUSED)).gaps
    assert (found.gap.starts_at, found.gap.reason) == (NOW, GapReason.SUBSCRIPTION_PAUSED)


def test_R96_a_cancellation_that_is_supposed_is_a_hard_one() -> None:
    known = terms(SubscriptionState.ACTIVE, 50, grace=timedelta(days=5))
    (found,) = forecast([SVM], NOW, UNTIL, [EndKey(KEY.serial, day(7))], known).gaps
    assert found.gap.starts_at == day(7)


def test_R95_a_blocked_key_has_the_grace_that_its_issuer_gives() -> None:
    known = KeyTerms(block_graces={KEY.serial: timedelta(days=2)})
    grace, limited = forecast([SVM], NOW, UNTIL, [BlockKey(KEY.serial, day(3))], known).gaps
    assert (grace.gap.mode, limited.gap.starts_at) == (Mode.FULL, day(5))


def test_R62_a_subscription_is_told_as_its_provider_calls_it() -> None:
    known = terms(SubscriptionState.CANCELLED_SOFT, 20)
    _, of_key, guests = tell_present(SVM, NOW, known)
    assert of_key.text == (
        f"It runs under the server key {KEY.serial} (subscription, standard), a subscription that"
        " its provider calls cancelled soft; it ends on 21 January 2030, 00:00 UTC."
    )
    assert guests.text == "Its 3 server guests are protected."


@st.composite
def fleets_with_subscriptions(
    draw: st.DrawFn,
) -> tuple[list[SvmSituation], list[WhatIf], dict[str, Subscription]]:
    pool: list[LicenseKey]
    pool, svms, what_if = draw(fleets())
    return svms, what_if, draw(subscriptions_of(pool))


@settings(max_examples=60, deadline=None)
@given(fleets_with_subscriptions())
def test_R96_walking_the_clock_meets_exactly_the_gaps_of_subscriptions_too(
    fleet: tuple[list[SvmSituation], list[WhatIf], dict[str, Subscription]],
) -> None:
    svms, what_if, subscriptions = fleet
    told = forecast(svms, NOW, UNTIL, what_if, KeyTerms(subscriptions)).gaps
    for one in svms:
        foreseen = {
            (now, found.gap.os_class)
            for now in (day(half / 2) for half in range(120))
            for found in told
            if found.svm_id == one.svm_id
            and found.gap.starts_at <= now < (found.gap.ends_at or UNTIL)
        }
        assert foreseen == gaps_met(one, what_if, None, subscriptions)


@settings(max_examples=60, deadline=None)
@given(fleets_with_subscriptions(), st.booleans())
def test_R4_a_plan_closes_the_gaps_of_subscriptions_too_and_each_key_is_needed(
    fleet: tuple[list[SvmSituation], list[WhatIf], dict[str, Subscription]], late: bool
) -> None:
    svms, what_if, subscriptions = fleet
    plan = plan_renewal(svms, [], NOW, UNTIL, what_if, KeyTerms(subscriptions))
    told = acts(plan.keys, {}, late)
    svms = [cured(one) for one in svms]
    for one in svms:
        assert gaps_met(one, what_if, told.get(one.svm_id), subscriptions) == set()
    for needed in plan.keys:
        rest = acts([other for other in plan.keys if other is not needed], {}, late)
        assert any(gaps_met(one, what_if, rest.get(one.svm_id), subscriptions) for one in svms)

"""How a subscription passes through its states."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from sparekey.licensing.coverage import uncovered_classes
from sparekey.licensing.guests import GuestMix
from sparekey.licensing.keyring import HeldKey, Keyring
from sparekey.licensing.keys import KeyKind, LicenseKey
from sparekey.licensing.modes import Mode, mode_at
from sparekey.licensing.subscriptions import (
    OVER,
    Subscription,
    SubscriptionState,
    has_new_key,
    in_force,
    in_grace,
)
from sparekey.licensing.transitions import block

MakeKey = Callable[..., LicenseKey]
MakeKeyring = Callable[..., Keyring]
At = Callable[[float], datetime]
MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1)
PENDING, ACTIVE, PAUSED, GRACE, EXPIRED, SOFT, HARD = SubscriptionState


@pytest.fixture
def limited(at: At) -> Subscription:
    """Ends in ten days, with five days of grace."""
    return Subscription(state=ACTIVE, said_at=at(-20), ends_at=at(10), grace=5 * DAY)


def test_R96_an_active_one_goes_through_grace_to_its_end(at: At, limited: Subscription) -> None:
    assert limited.turns(at(-20), at(99)) == ((at(10), GRACE), (at(15), EXPIRED))
    assert limited.turns(at(10), at(15)) == ((at(15), EXPIRED),)
    assert limited.turns(at(-20), at(10) - MICROSECOND) == ()
    assert limited.next_turn(at(0)) == at(10)
    assert limited.next_turn(at(10)) == at(15)
    assert limited.next_turn(at(15)) is None


def test_R58_R96_without_grace_it_ends_at_once(at: At, limited: Subscription) -> None:
    none = replace(limited, grace=timedelta(0))
    assert none.turns(at(0), at(99)) == ((at(10), EXPIRED),)


def test_R55_R96_an_unlimited_one_runs_on(at: At) -> None:
    unlimited = Subscription(state=ACTIVE, said_at=at(0), grace=5 * DAY)
    assert unlimited.turns(at(0), at(9999)) == ()
    assert unlimited.works_at(at(9999))
    assert unlimited.next_turn(at(0)) is None


def test_R56_R96_a_soft_cancellation_runs_to_the_end_and_has_no_grace(
    at: At, limited: Subscription
) -> None:
    cancelled = replace(limited, state=SOFT)
    assert cancelled.works_at(at(10) - MICROSECOND)
    assert cancelled.turns(at(0), at(99)) == ((at(10), EXPIRED),)


def test_R56_R96_a_hard_cancellation_ends_now(at: At, limited: Subscription) -> None:
    cancelled = replace(limited, state=HARD, said_at=at(0))
    assert not cancelled.works_at(at(0))
    assert cancelled.state in OVER
    assert cancelled.turns(at(0), at(99)) == ()


def test_R56_R96_a_pause_works_for_the_grace_and_never_gets_it_twice(
    at: At, limited: Subscription
) -> None:
    paused = replace(limited, state=PAUSED, said_at=at(0))
    assert paused.works_at(at(5) - MICROSECOND)
    assert not paused.works_at(at(5))
    assert paused.state_at(at(5)) is PAUSED
    assert paused.turns(at(0), at(99)) == ((at(10), EXPIRED),)
    late = replace(paused, said_at=at(8))
    assert late.turns(at(8), at(99)) == ((at(10), GRACE), (at(13), EXPIRED))
    assert not replace(paused, grace=timedelta(0)).works_at(at(0))


def test_R96_one_that_has_not_begun_does_not_work_and_waits_for_its_provider(
    at: At, limited: Subscription
) -> None:
    pending = replace(limited, state=PENDING)
    assert not pending.works_at(at(0))
    assert pending.turns(at(0), at(99)) == ()


def test_R58_R59_R90_the_mode_follows_the_subscription(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, limited: Subscription
) -> None:
    key = make_key(kind=KeyKind.SUBSCRIPTION, ends=10)
    keyring = keyring_of([key])

    def mode(days: float, subscription: Subscription) -> Mode:
        return mode_at(keyring, at(days), subscriptions={key.serial: subscription})

    assert mode(14.9, limited) is Mode.FULL
    assert mode(15, limited) is Mode.LIMITED
    stopping = replace(limited, stops_protection=True)
    assert mode(14.9, stopping) is Mode.FULL
    assert mode(15, stopping) is Mode.OFF
    assert mode(0, replace(stopping, state=HARD)) is Mode.OFF
    assert mode(6, replace(stopping, state=PAUSED, said_at=at(0))) is Mode.LIMITED
    blocked = block(keyring, key.serial, at(0)).keyring
    assert mode_at(blocked, at(8), subscriptions={key.serial: limited}) is Mode.LIMITED


def test_R58_a_key_covers_its_guests_through_the_grace(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, limited: Subscription
) -> None:
    key = make_key(kind=KeyKind.SUBSCRIPTION, ends=10)
    known = {key.serial: limited}
    for days, covered in ((12, True), (15, False)):
        gap = uncovered_classes(keyring_of([key]), GuestMix(3), at(days), subscriptions=known)
        assert (gap == frozenset()) is covered
    held = HeldKey(key, at(0))
    assert not in_force(held, at(12))
    assert in_force(held, at(12), known)
    assert not in_force(replace(held, blocked_at=at(1)), at(2), known)


def test_R60_a_renewal_beyond_the_present_key_is_a_new_key(
    make_key: MakeKey, at: At, limited: Subscription
) -> None:
    key = make_key(kind=KeyKind.SUBSCRIPTION, ends=10)
    assert not has_new_key(limited, key, at(0))
    assert has_new_key(replace(limited, ends_at=at(40)), key, at(0))
    assert has_new_key(replace(limited, ends_at=at(40)), key, at(12))
    assert has_new_key(replace(limited, ends_at=None), key, at(7))
    assert not has_new_key(replace(limited, ends_at=None), key, at(7) - MICROSECOND)
    assert not has_new_key(replace(limited, ends_at=at(40), state=SOFT), key, at(0))
    unlimited = make_key(kind=KeyKind.SUBSCRIPTION, ends=None)
    assert not has_new_key(replace(limited, ends_at=None), unlimited, at(0))


def test_R52_a_key_in_its_grace_stands_against_new_tasks(at: At, limited: Subscription) -> None:
    known = {"A": limited}
    for days, stands in ((9, False), (10, True), (14.9, True), (15, False)):
        assert in_grace(["A", "B"], known, at(days)) is stands
    assert not in_grace(["B"], known, at(12))

"""How an SVM is, and why."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from sparekey.licensing.guests import GuestMix
from sparekey.licensing.keyring import EMPTY, Keyring
from sparekey.licensing.keys import KeyKind, KeyType, LicenseKey
from sparekey.licensing.modes import Mode, mode_at
from sparekey.licensing.status import Status, StatusReason, reasons_at, worst_of
from sparekey.licensing.subscriptions import Subscription, SubscriptionState
from sparekey.licensing.transitions import block

MakeKey = Callable[..., LicenseKey]
MakeKeyring = Callable[..., Keyring]
At = Callable[[float], datetime]
MICROSECOND = timedelta(microseconds=1)


def reasons(
    keyring: Keyring, now: datetime, mix: GuestMix | None = None, **more: Any
) -> tuple[StatusReason, ...]:
    return reasons_at(keyring, mix or GuestMix(), now, **{"last_seen_at": now, **more})


def test_R94_a_key_that_is_far_from_its_end_is_fine(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    keyring = keyring_of([make_key(ends=20)])
    assert reasons(keyring, at(6) - MICROSECOND) == ()
    assert worst_of(()) is Status.OK


def test_R94_from_fourteen_days_on_a_missing_reserve_is_a_warning(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    key = make_key(ends=20)
    assert reasons(keyring_of([key]), at(6)) == (StatusReason.EXPIRES_SOON,)
    assert reasons(keyring_of([key], [make_key(ends=60)]), at(6)) == ()
    assert worst_of((StatusReason.EXPIRES_SOON,)) is Status.WARNING


def test_R74_R94_no_key_and_an_ended_key_are_critical(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    assert reasons(EMPTY, at(0)) == (StatusReason.NO_ACTIVE_KEY,)
    assert reasons(keyring_of([make_key(ends=5)]), at(5)) == (StatusReason.KEY_EXPIRED,)
    pair = keyring_of([make_key(ends=5), make_key(KeyType.DESKTOP, ends=50)])
    assert reasons(pair, at(5)) == (StatusReason.KEY_EXPIRED,)
    assert worst_of((StatusReason.KEY_EXPIRED, StatusReason.SILENT)) is Status.CRITICAL


def test_R72_R94_a_blocked_key_is_critical_even_in_its_grace(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    key = make_key()
    blocked = block(keyring_of([key]), key.serial, at(0)).keyring
    assert mode_at(blocked, at(0)) is Mode.FULL
    assert reasons(blocked, at(0)) == (StatusReason.KEY_BLOCKED,)
    assert worst_of((StatusReason.KEY_BLOCKED,)) is Status.CRITICAL


def test_R94_guests_that_no_key_covers_are_a_warning(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    found = reasons(keyring_of([make_key()]), at(0), GuestMix(1, 1))
    assert found == (StatusReason.UNCOVERED_OS_CLASS,)
    assert worst_of(found) is Status.WARNING


def test_R74_R94_two_hours_of_silence_are_a_warning(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    keyring, two_hours = keyring_of([make_key()]), timedelta(hours=2)
    seen = at(0) - two_hours
    assert reasons(keyring, at(0) - MICROSECOND, last_seen_at=seen) == ()
    assert reasons(keyring, at(0), last_seen_at=seen) == (StatusReason.SILENT,)
    assert reasons(keyring, at(0), last_seen_at=seen, connected=True) == ()


@pytest.mark.parametrize(
    ("days", "found"),
    [
        (-5, ()),
        (-4, (StatusReason.EXPIRES_SOON,)),
        (10, (StatusReason.SUBSCRIPTION_IN_GRACE,)),
        (15, (StatusReason.SUBSCRIPTION_OVER,)),
    ],
)
def test_R62_R94_a_subscription_warns_in_its_grace_and_is_critical_after(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, days: int, found: tuple[StatusReason, ...]
) -> None:
    key = make_key(kind=KeyKind.SUBSCRIPTION, starts=-60, ends=10)
    grace = timedelta(days=5)
    running = Subscription(
        state=SubscriptionState.ACTIVE, said_at=at(-20), ends_at=at(10), grace=grace
    )
    assert reasons(keyring_of([key]), at(days), subscriptions={key.serial: running}) == found
    paused = replace(running, state=SubscriptionState.PAUSED)
    assert reasons(keyring_of([key]), at(-5), subscriptions={key.serial: paused}) == (
        StatusReason.SUBSCRIPTION_PAUSED,
    )


def test_R82_R94_void_keys_are_critical_and_limited(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    keyring = keyring_of([make_key()])
    assert reasons(keyring, at(0), void=True) == (StatusReason.KEY_VOID,)
    assert worst_of((StatusReason.KEY_VOID,)) is Status.CRITICAL
    assert mode_at(keyring, at(0), void=True) is Mode.LIMITED
    assert mode_at(EMPTY, at(0), void=True) is Mode.OFF
    assert reasons(EMPTY, at(0), void=True) == (StatusReason.NO_ACTIVE_KEY,)
    assert reasons(keyring, at(0), GuestMix(1), void=True) == (
        StatusReason.KEY_VOID,
        StatusReason.UNCOVERED_OS_CLASS,
    )


def test_R95_the_delay_of_a_block_can_be_each_keys_own(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    key = make_key()
    blocked = block(keyring_of([key]), key.serial, at(0)).keyring
    assert mode_at(blocked, at(0), block_graces={key.serial: timedelta(0)}) is Mode.LIMITED
    assert mode_at(blocked, at(9), block_graces={key.serial: timedelta(days=10)}) is Mode.FULL
    assert mode_at(blocked, at(7), block_graces={"another": timedelta(0)}) is Mode.FULL

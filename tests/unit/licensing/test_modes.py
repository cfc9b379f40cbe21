"""How much keeps running."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from sparekey.licensing.keyring import EMPTY, Keyring
from sparekey.licensing.keys import KeyKind, KeyType, LicenseKey
from sparekey.licensing.modes import Mode, mode_at
from sparekey.licensing.transitions import block

MakeKey = Callable[..., LicenseKey]
MakeKeyring = Callable[..., Keyring]
At = Callable[[float], datetime]
MICROSECOND = timedelta(microseconds=1)


def test_R45_R95_without_a_key_everything_is_off(at: At) -> None:
    assert mode_at(EMPTY, at(0)) is Mode.OFF


@pytest.mark.parametrize(
    ("kind", "after"),
    [
        (KeyKind.TRIAL, Mode.OFF),
        (KeyKind.COMMERCIAL, Mode.LIMITED),
        (KeyKind.SUBSCRIPTION, Mode.LIMITED),
    ],
)
def test_R70_R71_what_is_left_when_a_key_has_expired(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, kind: KeyKind, after: Mode
) -> None:
    keyring = keyring_of([make_key(kind=kind, ends=10)])
    assert mode_at(keyring, at(10) - MICROSECOND) is Mode.FULL
    assert mode_at(keyring, at(10)) is after


def test_R11_a_reserve_keeps_everything_running_past_the_expiry(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    keyring = keyring_of([make_key(ends=10)], [make_key(ends=60)])
    assert mode_at(keyring, at(10)) is Mode.FULL
    assert mode_at(keyring, at(60)) is Mode.LIMITED


def test_R39_R90_the_milder_of_two_counts(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    trial = make_key(kind=KeyKind.TRIAL, ends=10)
    keyring = keyring_of([trial, make_key(KeyType.DESKTOP, ends=20)])
    assert mode_at(keyring, at(10)) is Mode.FULL
    assert mode_at(keyring, at(20)) is Mode.LIMITED


def test_R95_a_blocked_key_has_a_grace_of_eight_days_by_default(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    key = make_key()
    keyring = block(keyring_of([key]), key.serial, at(0)).keyring
    assert mode_at(keyring, at(0)) is Mode.FULL
    assert mode_at(keyring, at(8) - MICROSECOND) is Mode.FULL
    assert mode_at(keyring, at(8)) is Mode.LIMITED
    assert mode_at(keyring, at(0), block_grace=timedelta(0)) is Mode.LIMITED
    assert mode_at(keyring, at(1), block_grace=timedelta(days=1)) is Mode.LIMITED


@pytest.mark.parametrize(
    ("kind", "after"), [(KeyKind.TRIAL, Mode.OFF), (KeyKind.COMMERCIAL, Mode.LIMITED)]
)
def test_R70_R95_a_blocked_key_that_expires_has_no_more_grace(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, kind: KeyKind, after: Mode
) -> None:
    key = make_key(kind=kind, ends=2)
    keyring = block(keyring_of([key]), key.serial, at(0)).keyring
    assert mode_at(keyring, at(1)) is Mode.FULL
    assert mode_at(keyring, at(2)) is after


def test_R82_a_key_that_has_not_started_leaves_protection_on(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    assert mode_at(keyring_of([make_key(starts=1)]), at(0)) is Mode.LIMITED

"""Adding a reserve key (reserve flag on)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from sparekey.licensing.changes import Change, ChangeKind, ChangeReason, Transition
from sparekey.licensing.keyring import EMPTY, Keyring, Role, Slot
from sparekey.licensing.keys import Edition, KeyKind, KeyType, LicenseKey
from sparekey.licensing.refusals import Refusal
from sparekey.licensing.settling import settle
from sparekey.licensing.transitions import add_reserve, block

MakeKey = Callable[..., LicenseKey]
MakeKeyring = Callable[..., Keyring]
At = Callable[[float], datetime]
Sound = Callable[[Keyring, Transition | Refusal, datetime], Transition]
ACTIVE_SERVER = Slot(KeyType.SERVER, Role.ACTIVE)
RESERVE_SERVER = Slot(KeyType.SERVER, Role.RESERVE)


def test_R1_a_reserve_waits_beside_the_active_key(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    active, spare = make_key(), make_key(ends=60)
    before = keyring_of([active])
    done = sound(before, add_reserve(before, spare, at(0)), at(0))
    assert done.changes == (
        Change(
            ChangeKind.RESERVE_ADDED, RESERVE_SERVER, spare.serial, at(0), ChangeReason.REQUESTED
        ),
    )
    assert done.keyring.actives() == before.actives()
    assert done.keyring.slots[RESERVE_SERVER].installed_at == at(0)


# Each request below fails in the way that its row names and in all ways that come after it.
BAD_AT_THE_END: dict[str, Any] = {
    "type": KeyType.SERVER,
    "kind": KeyKind.TRIAL,
    "edition": Edition.ENTERPRISE,
    "ends": 0,
}
SUBSCRIBED: list[dict[str, Any]] = [{"type": KeyType.DESKTOP, "kind": KeyKind.SUBSCRIPTION}]


@pytest.mark.parametrize(
    ("active", "mended", "expected"),
    [
        ([], {}, Refusal.KEY_EXPIRED),
        ([], {"ends": 10}, Refusal.KIND_NOT_ALLOWED_AS_RESERVE),
        ([], {"ends": 10, "kind": KeyKind.COMMERCIAL}, Refusal.NO_ACTIVE_KEY),
        (
            SUBSCRIBED,
            {"ends": 10, "kind": KeyKind.COMMERCIAL},
            Refusal.ACTIVE_IS_SUBSCRIPTION,
        ),
        (
            [{"type": KeyType.DESKTOP}],
            {"ends": 10, "kind": KeyKind.COMMERCIAL},
            Refusal.TYPE_MISMATCH,
        ),
        ([{}], {"ends": 10, "kind": KeyKind.COMMERCIAL}, Refusal.EDITION_MISMATCH),
        (
            [{}],
            {"ends": 10, "kind": KeyKind.COMMERCIAL, "edition": Edition.STANDARD},
            Refusal.RESERVE_NOT_LATER,
        ),
    ],
)
def test_R77_the_first_failure_wins(
    make_key: MakeKey,
    keyring_of: MakeKeyring,
    at: At,
    active: list[dict[str, Any]],
    mended: dict[str, Any],
    expected: Refusal,
) -> None:
    before = keyring_of([make_key(**fields) for fields in active])
    key = make_key(**BAD_AT_THE_END | mended)
    assert add_reserve(before, key, at(0)) is expected
    assert add_reserve(before, key, at(0), blocked=True) is Refusal.KEY_BLOCKED


@pytest.mark.parametrize("key_type", [KeyType.SERVER, KeyType.DESKTOP])
@pytest.mark.parametrize("ends", [30, None])
def test_R77_R4_any_active_subscription_key_rules_a_reserve_out(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, key_type: KeyType, ends: float | None
) -> None:
    server = make_key()
    subscribed = make_key(KeyType.DESKTOP, kind=KeyKind.SUBSCRIPTION, ends=ends)
    before = keyring_of([server, subscribed])
    spare = make_key(key_type, ends=60)
    assert add_reserve(before, spare, at(0)) is Refusal.ACTIVE_IS_SUBSCRIPTION


def test_R13_a_subscription_that_is_over_still_rules_a_reserve_out(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    before = keyring_of([make_key(kind=KeyKind.SUBSCRIPTION, ends=-0.5)])
    assert add_reserve(before, make_key(), at(0)) is Refusal.ACTIVE_IS_SUBSCRIPTION


def test_R10_R12_a_reserve_needs_an_active_key(make_key: MakeKey, at: At) -> None:
    assert add_reserve(EMPTY, make_key(), at(0)) is Refusal.NO_ACTIVE_KEY


@pytest.mark.parametrize("active_type", KeyType)
@pytest.mark.parametrize("reserve_type", KeyType)
def test_R5_R6_R7_R14_R28_the_type_must_be_that_of_an_active_key(
    make_key: MakeKey,
    keyring_of: MakeKeyring,
    at: At,
    active_type: KeyType,
    reserve_type: KeyType,
) -> None:
    before = keyring_of([make_key(active_type)])
    result = add_reserve(before, make_key(reserve_type, ends=60), at(0))
    if active_type is reserve_type:
        assert isinstance(result, Transition)
    else:
        assert result is Refusal.TYPE_MISMATCH


def test_R9_two_active_keys_take_a_reserve_each(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    keyring = keyring_of([make_key(), make_key(KeyType.DESKTOP)])
    for key_type in (KeyType.SERVER, KeyType.DESKTOP):
        result = add_reserve(keyring, make_key(key_type, ends=60), at(0))
        keyring = sound(keyring, result, at(0)).keyring
    assert len(keyring.reserves()) == 2


@pytest.mark.parametrize("edition", Edition)
def test_R8_R28_R75_the_edition_must_be_that_of_the_active_key_of_the_type(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, edition: Edition
) -> None:
    server = make_key(edition=Edition.STANDARD)
    before = keyring_of([server, make_key(KeyType.DESKTOP, edition=Edition.ENTERPRISE)])
    for key_type, fits in (
        (KeyType.SERVER, Edition.STANDARD),
        (KeyType.DESKTOP, Edition.ENTERPRISE),
    ):
        result = add_reserve(before, make_key(key_type, edition=edition, ends=60), at(0))
        if edition is fits:
            assert isinstance(result, Transition)
        else:
            assert result is Refusal.EDITION_MISMATCH


@pytest.mark.parametrize(("ends", "later"), [(29.999, False), (30, False), (30.001, True)])
def test_R84_a_reserve_must_end_strictly_later(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, ends: float, later: bool
) -> None:
    result = add_reserve(keyring_of([make_key()]), make_key(ends=ends), at(0))
    assert isinstance(result, Transition) if later else result is Refusal.RESERVE_NOT_LATER


def test_R84_each_type_is_measured_by_its_own_active_key(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    before = keyring_of([make_key(ends=10), make_key(KeyType.DESKTOP, ends=90)])
    sound(before, add_reserve(before, make_key(ends=20), at(0)), at(0))


def test_R84_the_active_key_itself_is_no_reserve_even_if_issued_anew(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    key = make_key()
    before = keyring_of([key])
    assert add_reserve(before, key, at(0)) is Refusal.RESERVE_NOT_LATER
    longer = replace(key, expires_at=at(60))
    assert add_reserve(before, longer, at(0)) is Refusal.RESERVE_NOT_LATER


def test_R84_a_second_reserve_replaces_the_first(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    first, second = make_key(ends=60), make_key(ends=50)
    before = keyring_of([make_key()], [first])
    done = sound(before, add_reserve(before, second, at(0)), at(0))
    assert done.changes == (
        Change(
            ChangeKind.RESERVE_REPLACED,
            RESERVE_SERVER,
            second.serial,
            at(0),
            ChangeReason.REQUESTED,
            first.serial,
        ),
    )


def test_R97_the_same_reserve_again_changes_nothing(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    spare = make_key(ends=60)
    before = keyring_of([make_key()], [spare])
    done = sound(before, add_reserve(before, spare, at(0)), at(0))
    assert done.keyring == before
    assert done.changes == ()


def test_a_reserve_that_starts_later_is_accepted(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    before = keyring_of([make_key()])
    spare = make_key(starts=29, ends=60)
    after = sound(before, add_reserve(before, spare, at(0)), at(0)).keyring
    assert [held.key for held in after.reserves()] == [spare]


@pytest.mark.parametrize(
    ("kind", "ends"),
    [(KeyKind.TRIAL, 60), (KeyKind.SUBSCRIPTION, 60), (KeyKind.SUBSCRIPTION, None)],
)
def test_R26_a_trial_or_subscription_key_is_never_a_reserve(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, kind: KeyKind, ends: float | None
) -> None:
    spare = make_key(kind=kind, ends=ends)
    for active in (make_key(), make_key(kind=KeyKind.TRIAL)):
        result = add_reserve(keyring_of([active]), spare, at(0))
        assert result is Refusal.KIND_NOT_ALLOWED_AS_RESERVE


def test_R23_a_trial_may_be_followed_by_a_commercial_reserve(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    before = keyring_of([make_key(kind=KeyKind.TRIAL)])
    sound(before, add_reserve(before, make_key(ends=60), at(0)), at(0))


def test_R11_R87_a_reserve_for_an_ended_key_is_promoted_at_once(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    ended, spare = make_key(ends=-0.5), make_key()
    before = settle(keyring_of([ended]), at(0)).keyring
    done = sound(before, add_reserve(before, spare, at(0)), at(0))
    assert [(change.kind, change.reason, change.at) for change in done.changes] == [
        (ChangeKind.RESERVE_ADDED, ChangeReason.REQUESTED, at(0)),
        (ChangeKind.RESERVE_PROMOTED, ChangeReason.ACTIVE_EXPIRED, at(0)),
    ]
    assert done.changes[1].slot == ACTIVE_SERVER
    assert done.changes[1].previous_serial == ended.serial
    assert [held.key for held in done.keyring.actives()] == [spare]
    assert done.keyring.reserves() == ()


def test_R85_a_reserve_for_a_blocked_key_is_promoted_at_once(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    active, spare = make_key(), make_key(ends=60)
    before = block(keyring_of([active]), active.serial, at(-0.5)).keyring
    done = sound(before, add_reserve(before, spare, at(0)), at(0))
    assert [change.reason for change in done.changes] == [
        ChangeReason.REQUESTED,
        ChangeReason.ACTIVE_BLOCKED,
    ]
    assert add_reserve(before, make_key(ends=30), at(0)) is Refusal.RESERVE_NOT_LATER


def test_R87_a_reserve_to_start_later_waits_beside_an_ended_key(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    before = settle(keyring_of([make_key(ends=-0.5)]), at(0)).keyring
    spare = make_key(starts=5, ends=60)
    waiting = sound(before, add_reserve(before, spare, at(0)), at(0)).keyring
    assert [held.key for held in waiting.reserves()] == [spare]
    done = sound(waiting, settle(waiting, at(6)), at(6))
    assert [(change.kind, change.at) for change in done.changes] == [
        (ChangeKind.RESERVE_PROMOTED, at(5))
    ]

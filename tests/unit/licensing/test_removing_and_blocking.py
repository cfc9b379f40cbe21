"""Taking keys out, and keys that may no longer be used."""

from collections.abc import Callable
from datetime import datetime

import pytest

from sparekey.licensing.changes import Change, ChangeKind, ChangeReason, Transition
from sparekey.licensing.keyring import EMPTY, Keyring, Role, Slot
from sparekey.licensing.keys import KeyType, LicenseKey
from sparekey.licensing.refusals import Refusal
from sparekey.licensing.settling import settle
from sparekey.licensing.transitions import block, remove

MakeKey = Callable[..., LicenseKey]
MakeKeyring = Callable[..., Keyring]
At = Callable[[float], datetime]
Sound = Callable[[Keyring, Transition | Refusal, datetime], Transition]
ACTIVE_SERVER = Slot(KeyType.SERVER, Role.ACTIVE)
RESERVE_SERVER = Slot(KeyType.SERVER, Role.RESERVE)


def told(transition: Transition) -> list[tuple[ChangeKind, Slot, ChangeReason]]:
    return [(change.kind, change.slot, change.reason) for change in transition.changes]


def test_removing_the_only_key_leaves_nothing(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    key = make_key()
    before = keyring_of([key])
    done = sound(before, remove(before, ACTIVE_SERVER, at(0)), at(0))
    assert done.keyring == EMPTY
    assert done.changes == (
        Change(
            ChangeKind.KEY_REMOVED, ACTIVE_SERVER, key.serial, at(0), ChangeReason.REQUESTED, None
        ),
    )


def test_R85_removing_an_active_key_promotes_its_reserve_at_once(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    active, spare = make_key(), make_key(ends=60)
    before = keyring_of([active, make_key(KeyType.DESKTOP)], [spare])
    done = sound(before, remove(before, ACTIVE_SERVER, at(0)), at(0))
    assert told(done) == [
        (ChangeKind.KEY_REMOVED, ACTIVE_SERVER, ChangeReason.REQUESTED),
        (ChangeKind.RESERVE_PROMOTED, ACTIVE_SERVER, ChangeReason.ACTIVE_REMOVED),
    ]
    assert done.changes[1].serial == spare.serial
    assert done.changes[1].previous_serial == active.serial
    assert done.keyring.slots[ACTIVE_SERVER].key == spare
    assert len(done.keyring.actives()) == 2


def test_R85_a_reserve_that_has_not_started_goes_with_its_active_key(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    before = keyring_of([make_key()], [make_key(starts=1, ends=60)])
    done = sound(before, remove(before, ACTIVE_SERVER, at(0)), at(0))
    assert done.keyring == EMPTY
    assert told(done)[1:] == [
        (ChangeKind.RESERVE_REMOVED, RESERVE_SERVER, ChangeReason.ACTIVE_REMOVED)
    ]


def test_R85_the_reserve_of_the_other_type_is_left_alone(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    desktop, spare = make_key(KeyType.DESKTOP), make_key(KeyType.DESKTOP, ends=60)
    before = keyring_of([make_key(), desktop], [spare])
    after = sound(before, remove(before, ACTIVE_SERVER, at(0)), at(0)).keyring
    assert after == before.without(ACTIVE_SERVER)


def test_removing_a_reserve_leaves_the_active_key(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    active = make_key()
    before = keyring_of([active], [make_key(ends=60)])
    done = sound(before, remove(before, RESERVE_SERVER, at(0)), at(0))
    assert done.keyring == keyring_of([active])
    assert told(done) == [(ChangeKind.RESERVE_REMOVED, RESERVE_SERVER, ChangeReason.REQUESTED)]


def test_an_empty_slot_is_refused(make_key: MakeKey, keyring_of: MakeKeyring, at: At) -> None:
    assert remove(EMPTY, ACTIVE_SERVER, at(0)) is Refusal.SLOT_EMPTY
    assert remove(keyring_of([make_key()]), RESERVE_SERVER, at(0)) is Refusal.SLOT_EMPTY


def test_R87_a_reserve_that_took_over_meanwhile_is_no_longer_in_its_slot(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    before = keyring_of([make_key(ends=0)], [make_key()])
    assert remove(before, RESERVE_SERVER, at(0)) is Refusal.SLOT_EMPTY


def test_R72_a_blocked_active_key_stays_and_is_marked(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    key = make_key()
    before = keyring_of([key])
    done = sound(before, block(before, key.serial, at(0)), at(0))
    assert done.keyring.slots[ACTIVE_SERVER].blocked_at == at(0)
    assert told(done) == [(ChangeKind.KEY_BLOCKED, ACTIVE_SERVER, ChangeReason.BLOCKED)]
    again = sound(done.keyring, block(done.keyring, key.serial, at(1)), at(1))
    assert again.keyring == done.keyring
    assert again.changes == ()


def test_R85_blocking_an_active_key_promotes_its_reserve_at_once(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    active, spare = make_key(), make_key(ends=60)
    before = keyring_of([active], [spare])
    done = sound(before, block(before, active.serial, at(0)), at(0))
    assert told(done) == [
        (ChangeKind.KEY_BLOCKED, ACTIVE_SERVER, ChangeReason.BLOCKED),
        (ChangeKind.RESERVE_PROMOTED, ACTIVE_SERVER, ChangeReason.ACTIVE_BLOCKED),
    ]
    assert [held.key for held in done.keyring.actives()] == [spare]
    assert done.keyring.slots[ACTIVE_SERVER].blocked_at is None


def test_R85_a_blocked_key_waits_for_a_reserve_that_starts_later(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    active, spare = make_key(), make_key(starts=3, ends=60)
    before = keyring_of([active], [spare])
    waiting = sound(before, block(before, active.serial, at(0)), at(0)).keyring
    assert [held.key for held in waiting.reserves()] == [spare]
    done = sound(waiting, settle(waiting, at(9)), at(9))
    assert [(change.kind, change.at, change.reason) for change in done.changes] == [
        (ChangeKind.RESERVE_PROMOTED, at(3), ChangeReason.ACTIVE_BLOCKED)
    ]


def test_R87_a_blocked_reserve_is_discarded(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    active, spare = make_key(), make_key(ends=60)
    before = keyring_of([active], [spare])
    done = sound(before, block(before, spare.serial, at(0)), at(0))
    assert done.keyring == keyring_of([active])
    assert told(done) == [(ChangeKind.RESERVE_REMOVED, RESERVE_SERVER, ChangeReason.BLOCKED)]


def test_R87_what_time_did_comes_before_the_blocking(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    spare = make_key()
    before = keyring_of([make_key(ends=-0.5)], [spare])
    done = sound(before, block(before, spare.serial, at(0)), at(0))
    assert [(change.kind, change.at) for change in done.changes] == [
        (ChangeKind.RESERVE_PROMOTED, at(-0.5)),
        (ChangeKind.KEY_BLOCKED, at(0)),
    ]
    assert len(done.own_changes) == 1


@pytest.mark.parametrize("ended", [False, True])
def test_R72_a_key_that_is_not_held_changes_nothing(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound, ended: bool
) -> None:
    before = keyring_of([make_key(ends=-0.5 if ended else 30)])
    done = sound(before, block(before, make_key().serial, at(0)), at(0))
    assert done == settle(before, at(0))
    assert done.own_changes == ()

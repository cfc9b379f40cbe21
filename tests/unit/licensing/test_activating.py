"""Adding an active key (reserve flag off)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest

from sparekey.licensing.changes import Change, ChangeKind, ChangeReason, Transition
from sparekey.licensing.keyring import EMPTY, HeldKey, Keyring, Role, Slot
from sparekey.licensing.keys import Edition, KeyKind, KeyType, LicenseKey
from sparekey.licensing.refusals import Refusal
from sparekey.licensing.transitions import add_active, add_reserve, block

MakeKey = Callable[..., LicenseKey]
MakeKeyring = Callable[..., Keyring]
At = Callable[[float], datetime]
Sound = Callable[[Keyring, Transition | Refusal, datetime], Transition]
ACTIVE_SERVER = Slot(KeyType.SERVER, Role.ACTIVE)
RESERVE_SERVER = Slot(KeyType.SERVER, Role.RESERVE)


def told(transition: Transition) -> list[tuple[ChangeKind, ChangeReason, str]]:
    return [(change.kind, change.reason, change.serial) for change in transition.changes]


def test_R38_R45_an_svm_without_a_key_is_activated(make_key: MakeKey, at: At, sound: Sound) -> None:
    key = make_key()
    done = sound(EMPTY, add_active(EMPTY, key, at(0)), at(0))
    assert done.keyring == Keyring({ACTIVE_SERVER: HeldKey(key, at(0))})
    assert done.changes == (
        Change(
            ChangeKind.KEY_ACTIVATED, ACTIVE_SERVER, key.serial, at(0), ChangeReason.REQUESTED, None
        ),
    )


def test_R35_R38_a_key_of_the_same_type_is_replaced(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    old, new = make_key(), make_key()
    before = keyring_of([old])
    done = sound(before, add_active(before, new, at(0)), at(0))
    assert done.changes == (
        Change(
            ChangeKind.KEY_REPLACED,
            ACTIVE_SERVER,
            new.serial,
            at(0),
            ChangeReason.REQUESTED,
            old.serial,
        ),
    )


def test_R24_R25_at_most_two_active_keys_and_only_server_with_desktop(
    make_key: MakeKey, at: At, sound: Sound
) -> None:
    for first in KeyType:
        for second in KeyType:
            before = EMPTY
            for key_type in (first, second):
                result = add_active(before, make_key(key_type), at(0))
                before = sound(before, result, at(0)).keyring
            pair = {first, second}
            allowed = pair if pair == {KeyType.SERVER, KeyType.DESKTOP} else {second}
            assert {held.key.type for held in before.actives()} == allowed


def test_R36_R37_a_change_of_scheme_tells_each_key_that_it_removes(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    server, desktop = make_key(), make_key(KeyType.DESKTOP)
    spares = [make_key(ends=60), make_key(KeyType.DESKTOP, ends=60)]
    before = keyring_of([server, desktop], spares)
    cores = make_key(KeyType.CORES)
    done = sound(before, add_active(before, cores, at(0)), at(0))
    gone = ChangeReason.SCHEME_CHANGED
    assert told(done) == [
        (ChangeKind.RESERVE_REMOVED, gone, spares[0].serial),
        (ChangeKind.RESERVE_REMOVED, gone, spares[1].serial),
        (ChangeKind.KEY_REMOVED, gone, server.serial),
        (ChangeKind.KEY_REMOVED, gone, desktop.serial),
        (ChangeKind.KEY_ACTIVATED, ChangeReason.REQUESTED, cores.serial),
    ]


@pytest.mark.parametrize(
    ("starts", "ends", "blocked", "kind", "expected"),
    [
        (-30, 0, True, KeyKind.TRIAL, Refusal.KEY_BLOCKED),
        (-30, 0, False, KeyKind.TRIAL, Refusal.KEY_EXPIRED),
        (1, 30, True, KeyKind.TRIAL, Refusal.KEY_BLOCKED),
        (1, 30, False, KeyKind.TRIAL, Refusal.KEY_NOT_YET_VALID),
        (-30, 30, False, KeyKind.TRIAL, Refusal.TRIAL_OVER_COMMERCIAL),
        (-30, 0, False, KeyKind.COMMERCIAL, Refusal.KEY_EXPIRED),
        (1, 30, False, KeyKind.SUBSCRIPTION, Refusal.KEY_NOT_YET_VALID),
    ],
)
def test_the_first_failure_wins(
    make_key: MakeKey,
    keyring_of: MakeKeyring,
    at: At,
    starts: int,
    ends: int,
    blocked: bool,
    kind: KeyKind,
    expected: Refusal,
) -> None:
    before = keyring_of([make_key()])
    key = make_key(kind=kind, starts=starts, ends=ends)
    assert add_active(before, key, at(0), blocked=blocked) is expected


def test_R81_a_key_can_be_activated_from_its_first_instant_to_its_last(
    make_key: MakeKey, at: At, sound: Sound
) -> None:
    key = make_key(starts=0, ends=1)
    sound(EMPTY, add_active(EMPTY, key, at(0)), at(0))
    assert add_active(EMPTY, key, at(-0.001)) is Refusal.KEY_NOT_YET_VALID
    sound(EMPTY, add_active(EMPTY, key, at(0.999)), at(0.999))
    assert add_active(EMPTY, key, at(1)) is Refusal.KEY_EXPIRED


def test_R27_a_trial_may_replace_a_commercial_key_that_is_no_longer_usable(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    trial = make_key(kind=KeyKind.TRIAL)
    commercial = make_key()
    ended = keyring_of([make_key(ends=-1)])
    blocked = block(keyring_of([commercial]), commercial.serial, at(-1)).keyring
    for before in (ended, blocked):
        after = sound(before, add_active(before, trial, at(0)), at(0)).keyring
        assert [held.key for held in after.actives()] == [trial]


def test_R27_a_reserve_that_has_just_taken_over_is_protected_too(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    before = keyring_of([make_key(ends=0)], [make_key()])
    trial = make_key(kind=KeyKind.TRIAL)
    assert add_active(before, trial, at(0)) is Refusal.TRIAL_OVER_COMMERCIAL


@pytest.mark.parametrize("kind", [KeyKind.TRIAL, KeyKind.SUBSCRIPTION])
def test_R27_a_trial_may_replace_other_kinds_and_stand_beside_a_commercial_key(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound, kind: KeyKind
) -> None:
    trial = make_key(kind=KeyKind.TRIAL)
    before = keyring_of([make_key(kind=kind)])
    sound(before, add_active(before, trial, at(0)), at(0))
    before = keyring_of([make_key(KeyType.DESKTOP)])
    after = sound(before, add_active(before, trial, at(0)), at(0)).keyring
    assert len(after.actives()) == 2


def test_R97_the_key_that_is_in_use_already_changes_nothing(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    for kind in KeyKind:
        key = make_key(kind=kind)
        before = keyring_of([key], [make_key(ends=60)] if kind is KeyKind.COMMERCIAL else [])
        done = sound(before, add_active(before, key, at(0)), at(0))
        assert done.keyring == before
        assert done.changes == ()


def test_a_key_issued_anew_under_its_serial_replaces_itself(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    key = make_key(kind=KeyKind.SUBSCRIPTION)
    before = keyring_of([key])
    renewed = replace(key, expires_at=at(60))
    done = sound(before, add_active(before, renewed, at(0)), at(0))
    assert done.keyring.ends_at() == at(60)
    assert told(done) == [(ChangeKind.KEY_REPLACED, ChangeReason.REQUESTED, key.serial)]


def test_a_blocked_key_that_is_allowed_again_replaces_itself(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    key = make_key()
    before = block(keyring_of([key]), key.serial, at(-1)).keyring
    done = sound(before, add_active(before, key, at(0)), at(0))
    assert told(done) == [(ChangeKind.KEY_REPLACED, ChangeReason.REQUESTED, key.serial)]
    assert done.keyring.slots[ACTIVE_SERVER].blocked_at is None


@pytest.mark.parametrize(("ends", "stays"), [(39.999, False), (40, False), (40.001, True)])
def test_R18_R83_a_reserve_that_ends_no_later_than_the_new_active_key_goes(
    make_key: MakeKey,
    keyring_of: MakeKeyring,
    at: At,
    sound: Sound,
    ends: float,
    stays: bool,
) -> None:
    spare, new = make_key(ends=ends), make_key(ends=40)
    before = keyring_of([make_key()], [spare])
    done = sound(before, add_active(before, new, at(0)), at(0))
    replaced = (ChangeKind.KEY_REPLACED, ChangeReason.REQUESTED, new.serial)
    removed = (
        ChangeKind.RESERVE_REMOVED,
        ChangeReason.RESERVE_ENDS_TOO_EARLY,
        spare.serial,
    )
    assert told(done) == ([replaced] if stays else [replaced, removed])


def test_R83_replacing_the_server_key_never_touches_the_desktop_reserve(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    spare = make_key(KeyType.DESKTOP, ends=31)
    before = keyring_of([make_key(), make_key(KeyType.DESKTOP)], [make_key(ends=31), spare])
    new = make_key(edition=Edition.ENTERPRISE, ends=90)
    after = sound(before, add_active(before, new, at(0)), at(0)).keyring
    assert [held.key for held in after.reserves()] == [spare]


def test_R19_another_reserve_may_be_added_after_one_was_dropped(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    before = keyring_of([make_key()], [make_key(ends=35)])
    later = make_key(ends=60)
    between = sound(before, add_active(before, make_key(ends=40), at(0)), at(0)).keyring
    assert between.reserves() == ()
    after = sound(between, add_reserve(between, later, at(0)), at(0)).keyring
    assert [held.key for held in after.reserves()] == [later]


def test_R86_a_reserve_of_another_edition_goes(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    spare, new = make_key(ends=60), make_key(edition=Edition.ENTERPRISE)
    before = keyring_of([make_key()], [spare])
    done = sound(before, add_active(before, new, at(0)), at(0))
    assert told(done)[1:] == [
        (ChangeKind.RESERVE_REMOVED, ChangeReason.EDITION_CHANGED, spare.serial)
    ]


@pytest.mark.parametrize(
    ("kind", "ends"),
    [(KeyKind.TRIAL, 31), (KeyKind.SUBSCRIPTION, 31), (KeyKind.SUBSCRIPTION, None)],
)
def test_R86_R4_any_reserve_goes_when_the_new_active_key_is_not_commercial(
    make_key: MakeKey,
    keyring_of: MakeKeyring,
    at: At,
    sound: Sound,
    kind: KeyKind,
    ends: float | None,
) -> None:
    spares = [make_key(KeyType.SERVER, ends=60), make_key(KeyType.DESKTOP, ends=60)]
    before = keyring_of([make_key(kind=KeyKind.TRIAL), make_key(KeyType.DESKTOP)], spares)
    new = make_key(kind=kind, ends=ends)
    done = sound(before, add_active(before, new, at(0)), at(0))
    assert done.keyring.reserves() == ()
    assert told(done)[1:] == [
        (ChangeKind.RESERVE_REMOVED, ChangeReason.ACTIVE_NOT_COMMERCIAL, spare.serial)
        for spare in spares
    ]


def test_R84_activating_with_the_reserve_itself_empties_the_reserve(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    spare = make_key(ends=60)
    before = keyring_of([make_key()], [spare])
    after = sound(before, add_active(before, spare, at(0)), at(0)).keyring
    assert [held.key for held in after.actives()] == [spare]
    assert after.reserves() == ()


def test_R84_also_when_the_reserve_was_issued_anew_and_ends_later(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    spare = make_key(ends=60)
    before = keyring_of([make_key()], [replace(spare, expires_at=at(90))])
    after = sound(before, add_active(before, spare, at(0)), at(0)).keyring
    assert after.reserves() == ()


def test_R87_the_past_happens_before_the_request_and_stays_in_the_answer(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    spare, new = make_key(), make_key(ends=90)
    before = keyring_of([make_key(ends=-0.5)], [spare])
    done = sound(before, add_active(before, new, at(0)), at(0))
    assert [(change.kind, change.at) for change in done.changes] == [
        (ChangeKind.RESERVE_PROMOTED, at(-0.5)),
        (ChangeKind.KEY_REPLACED, at(0)),
    ]
    assert done.changes[1].previous_serial == spare.serial
    assert done.own_changes == done.changes[1:]
    again = sound(before, add_active(before, spare, at(0)), at(0))
    assert len(again.changes) == 1
    assert again.own_changes == ()


def test_R83_a_late_reserve_stays_for_a_new_key_that_ends_before_it(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    """The active key has ended and its reserve is still to start."""
    spare = make_key(starts=5, ends=60)
    before = keyring_of([make_key(ends=-0.5)], [spare])
    done = sound(before, add_active(before, make_key(ends=20), at(0)), at(0))
    assert [held.key for held in done.keyring.reserves()] == [spare]

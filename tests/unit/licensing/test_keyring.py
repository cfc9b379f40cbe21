"""The keyring as a value, and the checker of its invariants."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest

from sparekey.licensing.keyring import EMPTY, HeldKey, Keyring, Role, Slot, ends_later, usable
from sparekey.licensing.keys import Edition, KeyKind, KeyType, LicenseKey, Scheme

MakeKey = Callable[..., LicenseKey]
MakeKeyring = Callable[..., Keyring]
At = Callable[[float], datetime]
ACTIVE_SERVER = Slot(KeyType.SERVER, Role.ACTIVE)
RESERVE_SERVER = Slot(KeyType.SERVER, Role.RESERVE)


def test_slots_are_ordered_by_type_then_role() -> None:
    slots = [Slot(key_type, role) for key_type in KeyType for role in Role]
    backwards = slots[::-1]
    assert sorted(backwards) == slots
    assert ACTIVE_SERVER < RESERVE_SERVER < Slot(KeyType.DESKTOP, Role.ACTIVE)
    with pytest.raises(TypeError):
        assert ACTIVE_SERVER < "SERVER"


def test_R24_a_slot_holds_one_key(make_key: MakeKey, at: At) -> None:
    first, second = HeldKey(make_key(), at(0)), HeldKey(make_key(), at(0))
    keyring = EMPTY.with_(ACTIVE_SERVER, first).with_(ACTIVE_SERVER, second)
    assert keyring.actives() == (second,)


def test_a_keyring_never_changes(make_key: MakeKey, at: At) -> None:
    held = HeldKey(make_key(), at(0))
    slots = {ACTIVE_SERVER: held}
    keyring = Keyring(slots)
    slots.clear()
    assert keyring.active(KeyType.SERVER) == held
    assert keyring.without(ACTIVE_SERVER) == EMPTY
    assert keyring.active(KeyType.SERVER) == held
    with pytest.raises(TypeError):
        keyring.slots[ACTIVE_SERVER] = held  # type: ignore[index]


def test_equal_keyrings_are_equal_however_they_were_made(
    make_key: MakeKey, keyring_of: MakeKeyring
) -> None:
    server, desktop = make_key(), make_key(KeyType.DESKTOP)
    one, other = keyring_of([server, desktop]), keyring_of([desktop, server])
    assert one == other
    assert hash(one) == hash(other)
    assert list(one.slots) == list(other.slots)
    assert one != keyring_of([server])
    assert Keyring.EMPTY == EMPTY == Keyring()


def test_what_is_held_is_found(make_key: MakeKey, keyring_of: MakeKeyring) -> None:
    server, desktop, spare = make_key(), make_key(KeyType.DESKTOP), make_key(ends=60)
    keyring = keyring_of([desktop, server], [spare])
    assert [held.key for held in keyring.actives()] == [server, desktop]
    assert [held.key for held in keyring.reserves()] == [spare]
    found = keyring.reserve(KeyType.SERVER)
    assert found is not None
    assert found.key == spare
    assert keyring.reserve(KeyType.DESKTOP) is None
    assert keyring.serials()[RESERVE_SERVER] == spare.serial


def test_R36_the_scheme_is_that_of_the_keys(make_key: MakeKey, keyring_of: MakeKeyring) -> None:
    assert EMPTY.scheme() is None
    assert keyring_of([make_key(KeyType.DESKTOP)]).scheme() is Scheme.PER_VM
    assert keyring_of([make_key(KeyType.CORES)]).scheme() is Scheme.PER_CORE
    assert keyring_of([make_key(KeyType.PROCESSORS)]).scheme() is Scheme.PER_PROCESSOR


def test_R39_two_keys_last_as_long_as_the_longer(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    server, desktop = make_key(ends=10), make_key(KeyType.DESKTOP, ends=20)
    assert keyring_of([server, desktop]).ends_at() == at(20)
    assert keyring_of([server]).ends_at() == at(10)
    assert keyring_of([server], [make_key(ends=90)]).ends_at() == at(10)
    assert EMPTY.ends_at() is None
    unlimited = make_key(KeyType.DESKTOP, kind=KeyKind.SUBSCRIPTION, ends=None)
    assert keyring_of([server, unlimited]).ends_at() is None


def test_R39_a_blocked_key_ends_at_its_blocking(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    keyring = keyring_of([make_key(ends=10), make_key(KeyType.DESKTOP, ends=20)])
    slot = Slot(KeyType.DESKTOP, Role.ACTIVE)
    blocked = replace(keyring.slots[slot], blocked_at=at(5))
    assert keyring.with_(slot, blocked).ends_at() == at(10)
    assert Keyring({slot: blocked}).ends_at() == at(5)
    assert Keyring({slot: replace(blocked, blocked_at=at(25))}).ends_at() == at(20)


def test_R81_R72_usable_is_valid_and_not_blocked(make_key: MakeKey, at: At) -> None:
    held = HeldKey(make_key(starts=0, ends=10), at(0))
    assert not usable(held, at(-1))
    assert usable(held, at(0))
    assert not usable(held, at(10))
    assert not usable(replace(held, blocked_at=at(5)), at(6))


def test_R84_ends_later_is_strict_and_no_end_is_the_latest(make_key: MakeKey) -> None:
    early, late = make_key(ends=10), make_key(ends=11)
    unlimited = make_key(kind=KeyKind.SUBSCRIPTION, ends=None)
    assert ends_later(late, early)
    assert not ends_later(early, late)
    assert not ends_later(early, make_key(ends=10))
    assert ends_later(unlimited, late)
    assert not ends_later(late, unlimited)
    assert not ends_later(unlimited, unlimited)


def test_the_checker_finds_nothing_in_sound_keyrings(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    enterprise = make_key(KeyType.DESKTOP, edition=Edition.ENTERPRISE)
    spare = make_key(KeyType.DESKTOP, edition=Edition.ENTERPRISE, ends=60)
    for keyring in (
        EMPTY,
        keyring_of([make_key(kind=KeyKind.TRIAL)], [make_key(ends=31)]),
        keyring_of([make_key(), enterprise], [make_key(ends=60), spare]),
        keyring_of([make_key(kind=KeyKind.SUBSCRIPTION, ends=None), enterprise]),
    ):
        assert keyring.problems(at(0)) == []


def test_the_checker_names_every_broken_invariant(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    spare, trial = make_key(ends=60), make_key(kind=KeyKind.TRIAL, ends=60)
    enterprise = make_key(edition=Edition.ENTERPRISE, ends=60)
    subscribed = make_key(KeyType.DESKTOP, kind=KeyKind.SUBSCRIPTION, ends=None)
    cores, server = make_key(KeyType.CORES), make_key()
    blocked = Keyring(
        {
            ACTIVE_SERVER: HeldKey(server, at(-1), blocked_at=at(-1)),
            RESERVE_SERVER: HeldKey(spare, at(-1)),
        }
    )
    ended_elsewhen = Keyring({ACTIVE_SERVER: HeldKey(server, at(-1), ended_at=at(-1))})
    spare_blocked = HeldKey(spare, at(-1), blocked_at=at(-1))
    for keyring, words in (
        (keyring_of([server, cores]), "two schemes"),
        (Keyring({ACTIVE_SERVER: HeldKey(cores, at(0))}), "slot holds a CORES key"),
        (keyring_of([spare], [spare]), "in two slots"),
        (keyring_of([server, subscribed], [spare]), "beside an active subscription"),
        (keyring_of([make_key(ends=0)]), "not marked as ended"),
        (ended_elsewhen, "ended at another instant"),
        (keyring_of([server], [trial]), "not commercial"),
        (keyring_of([server], [make_key(ends=0)]), "blocked or expired"),
        (keyring_of([server]).with_(RESERVE_SERVER, spare_blocked), "blocked or expired"),
        (keyring_of([], [spare]), "no active key of its type"),
        (keyring_of([make_key(KeyType.DESKTOP)], [spare]), "no active key of its type"),
        (keyring_of([server], [enterprise]), "differs from its active key in edition"),
        (keyring_of([server], [make_key(ends=30)]), "does not end later"),
        (blocked, "not promoted"),
    ):
        assert any(words in problem for problem in keyring.problems(at(0))), words

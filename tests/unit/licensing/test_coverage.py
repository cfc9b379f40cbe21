"""Whether keys fit the guests: advice that never refuses anything."""

from collections.abc import Callable
from datetime import datetime

import pytest

from sparekey.licensing.coverage import (
    Advice,
    advise,
    covers,
    installation_advice,
    uncovered_classes,
)
from sparekey.licensing.guests import GuestMix, OsClass
from sparekey.licensing.keyring import EMPTY, Keyring, Role, Slot
from sparekey.licensing.keys import Edition, KeyKind, KeyType, LicenseKey
from sparekey.licensing.settling import settle
from sparekey.licensing.transitions import block

MakeKey = Callable[..., LicenseKey]
MakeKeyring = Callable[..., Keyring]
At = Callable[[float], datetime]
SERVERS, DESKTOPS = GuestMix(5, 0, 0), GuestMix(0, 5, 0)
BOTH, NONE, UNKNOWN = GuestMix(5, 5, 0), GuestMix(0, 0, 0), GuestMix(0, 0, 5)


def active(key_type: KeyType) -> Slot:
    return Slot(key_type, Role.ACTIVE)


def reserve(key_type: KeyType) -> Slot:
    return Slot(key_type, Role.RESERVE)


@pytest.mark.parametrize(
    ("key_type", "servers", "desktops"),
    [
        (KeyType.SERVER, True, False),
        (KeyType.DESKTOP, False, True),
        (KeyType.CORES, True, True),
        (KeyType.PROCESSORS, True, True),
    ],
)
def test_R21_R33_R34_which_type_covers_which_class(
    key_type: KeyType, servers: bool, desktops: bool
) -> None:
    """R34: Linux guests are reported as servers (or unknown), so no desktop key covers them."""
    assert covers(key_type, OsClass.SERVER) is servers
    assert covers(key_type, OsClass.DESKTOP) is desktops


@pytest.mark.parametrize(
    ("types", "mix", "uncovered"),
    [
        ([], NONE, set()),
        ([], BOTH, {OsClass.SERVER, OsClass.DESKTOP}),
        ([KeyType.SERVER], SERVERS, set()),
        ([KeyType.SERVER], UNKNOWN, set()),
        ([KeyType.DESKTOP], UNKNOWN, {OsClass.SERVER}),
        ([KeyType.SERVER], BOTH, {OsClass.DESKTOP}),
        ([KeyType.DESKTOP], BOTH, {OsClass.SERVER}),
        ([KeyType.SERVER, KeyType.DESKTOP], BOTH, set()),
        ([KeyType.CORES], BOTH, set()),
        ([KeyType.PROCESSORS], BOTH, set()),
    ],
)
def test_R33_a_mixed_svm_needs_both_keys(
    make_key: MakeKey,
    keyring_of: MakeKeyring,
    at: At,
    types: list[KeyType],
    mix: GuestMix,
    uncovered: set[OsClass],
) -> None:
    keyring = keyring_of([make_key(key_type) for key_type in types])
    assert uncovered_classes(keyring, mix, at(0)) == uncovered


def test_R33_R90_only_usable_active_keys_cover(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    server, desktop = make_key(), make_key(KeyType.DESKTOP, ends=10)
    keyring = keyring_of([server, desktop])
    assert uncovered_classes(keyring, BOTH, at(9)) == set()
    assert uncovered_classes(keyring, BOTH, at(10)) == {OsClass.DESKTOP}
    blocked = block(keyring, server.serial, at(0)).keyring
    assert uncovered_classes(blocked, BOTH, at(0)) == {OsClass.SERVER}
    with_reserve = keyring_of([server, desktop], [make_key(KeyType.DESKTOP, ends=60)])
    assert uncovered_classes(with_reserve, BOTH, at(20)) == set()
    assert uncovered_classes(with_reserve, BOTH, at(20), void=True) == set(OsClass)


@pytest.mark.parametrize("role", Role)
def test_R76_a_key_for_a_class_that_the_svm_does_not_report_is_advised_against(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, role: Role
) -> None:
    for key_type, mix, misfit in (
        (KeyType.DESKTOP, SERVERS, True),
        (KeyType.DESKTOP, UNKNOWN, True),
        (KeyType.SERVER, DESKTOPS, True),
        (KeyType.SERVER, UNKNOWN, False),
        (KeyType.DESKTOP, BOTH, False),
        (KeyType.DESKTOP, NONE, False),
        (KeyType.CORES, SERVERS, False),
        (KeyType.PROCESSORS, DESKTOPS, False),
    ):
        keyring = keyring_of([make_key(key_type)], [make_key(key_type, ends=60)])
        advice = advise(Slot(key_type, role), keyring, mix, at(0))
        assert (Advice.OS_MIX_MISMATCH in advice) is misfit, (key_type, mix)


def test_R76_no_mismatch_for_a_slot_that_holds_nothing(at: At) -> None:
    assert advise(reserve(KeyType.DESKTOP), EMPTY, SERVERS, at(0)) == ()


def test_R9_R76_a_mixed_svm_should_have_both_reserves(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    actives = [make_key(), make_key(KeyType.DESKTOP)]
    server, desktop = make_key(ends=60), make_key(KeyType.DESKTOP, ends=60)
    slot = reserve(KeyType.SERVER)
    gap = (Advice.RESERVE_COVERAGE_GAP,)
    assert advise(slot, keyring_of(actives, [server]), BOTH, at(0)) == gap
    assert advise(slot, keyring_of(actives, [desktop]), BOTH, at(0)) == gap
    assert advise(slot, keyring_of(actives, [server, desktop]), BOTH, at(0)) == ()
    assert advise(slot, keyring_of(actives), BOTH, at(0)) == ()
    assert advise(slot, keyring_of(actives, [server]), SERVERS, at(0)) == ()
    cores = keyring_of([make_key(KeyType.CORES)], [make_key(KeyType.CORES, ends=60)])
    assert advise(reserve(KeyType.CORES), cores, BOTH, at(0)) == ()


def test_R33_an_uncovered_class_is_told_after_an_activation_only(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    keyring = keyring_of([make_key()])
    assert advise(active(KeyType.SERVER), keyring, BOTH, at(0)) == (Advice.UNCOVERED_OS_CLASS,)
    assert advise(active(KeyType.SERVER), keyring, SERVERS, at(0)) == ()
    with_reserves = keyring_of(
        [make_key(), make_key(KeyType.DESKTOP, ends=-0.5)],
        [make_key(ends=60), make_key(KeyType.DESKTOP, starts=5, ends=60)],
    )
    assert Advice.UNCOVERED_OS_CLASS not in advise(
        reserve(KeyType.SERVER), with_reserves, BOTH, at(0)
    )


def test_a_reserve_that_starts_after_the_end_is_told(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    slot = reserve(KeyType.SERVER)
    for starts, late in ((29, False), (30, False), (30.001, True)):
        keyring = keyring_of([make_key(ends=30)], [make_key(starts=starts, ends=60)])
        expected = (Advice.RESERVE_STARTS_LATE,) if late else ()
        assert advise(slot, keyring, SERVERS, at(0)) == expected
    held = make_key()
    blocked = block(keyring_of([held], [make_key(starts=5, ends=60)]), held.serial, at(0)).keyring
    assert advise(slot, blocked, SERVERS, at(0)) == (Advice.RESERVE_STARTS_LATE,)


def test_R54_R82_void_keys_are_told_after_all_else(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    keyring = keyring_of([make_key()])
    assert advise(active(SERVER), keyring, SERVERS, at(0), void=True) == (Advice.KEYS_VOID,)
    assert advise(active(SERVER), keyring, BOTH, at(0), void=True) == (
        Advice.UNCOVERED_OS_CLASS,
        Advice.KEYS_VOID,
    )


STANDARD, ENTERPRISE = Edition.STANDARD, Edition.ENTERPRISE
SERVER, DESKTOP = KeyType.SERVER, KeyType.DESKTOP
CORES, PROCESSORS = KeyType.CORES, KeyType.PROCESSORS
EDITIONS, SCHEMES = Advice.MIXED_EDITIONS, Advice.MIXED_SCHEMES


@pytest.mark.parametrize(
    ("svms", "expected"),
    [
        ([], ()),
        ([[]], ()),
        ([[(SERVER, STANDARD)], [(DESKTOP, STANDARD)]], ()),
        ([[(SERVER, STANDARD), (DESKTOP, ENTERPRISE)]], ()),
        ([[(SERVER, STANDARD)], [(DESKTOP, ENTERPRISE)]], ()),
        ([[(SERVER, STANDARD)], [(SERVER, ENTERPRISE)]], (EDITIONS,)),
        (
            [[(SERVER, STANDARD), (DESKTOP, ENTERPRISE)], [(SERVER, ENTERPRISE)]],
            (EDITIONS,),
        ),
        ([[(CORES, STANDARD)], [(CORES, ENTERPRISE)]], (EDITIONS,)),
        ([[(CORES, STANDARD)], [(PROCESSORS, STANDARD)]], (SCHEMES,)),
        ([[(SERVER, STANDARD)], [(CORES, STANDARD)]], (SCHEMES,)),
        ([[(SERVER, STANDARD)], [(CORES, ENTERPRISE)]], (EDITIONS, SCHEMES)),
    ],
)
def test_R40_R41_one_edition_and_one_scheme_for_the_installation(
    make_key: MakeKey,
    keyring_of: MakeKeyring,
    svms: list[list[tuple[KeyType, Edition]]],
    expected: tuple[Advice, ...],
) -> None:
    keyrings = [
        keyring_of([make_key(key_type, edition=edition) for key_type, edition in keys])
        for keys in svms
    ]
    assert installation_advice(iter(keyrings)) == expected


def test_R40_R41_ended_and_blocked_keys_do_not_count(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    now = keyring_of([make_key()])
    ended = settle(keyring_of([make_key(CORES, ends=-0.5)]), at(0)).keyring
    key = make_key(edition=ENTERPRISE, kind=KeyKind.TRIAL)
    blocked = block(keyring_of([key]), key.serial, at(0)).keyring
    assert installation_advice([now, ended, blocked]) == ()


def test_R40_R41_keys_elsewhere_count_too(make_key: MakeKey, keyring_of: MakeKeyring) -> None:
    here = keyring_of([make_key(SERVER, edition=STANDARD)])
    assert installation_advice([here], [(SERVER, STANDARD), (DESKTOP, ENTERPRISE)]) == ()
    assert installation_advice([here], [(SERVER, ENTERPRISE)]) == (EDITIONS,)
    assert installation_advice([here], [(CORES, STANDARD)]) == (SCHEMES,)

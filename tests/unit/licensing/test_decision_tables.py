"""The first two decision tables of section 4 of the rules, row by row.

Days are counted from the samples' now; a key without `ends` ends on day 30, a spare on day 60.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from sparekey.licensing.changes import Transition
from sparekey.licensing.keyring import Keyring
from sparekey.licensing.keys import Edition, KeyKind, KeyType, LicenseKey
from sparekey.licensing.refusals import Refusal
from sparekey.licensing.transitions import add_active, add_reserve

MakeKey = Callable[..., LicenseKey]
MakeKeyring = Callable[..., Keyring]
At = Callable[[float], datetime]
Sound = Callable[[Keyring, Transition | Refusal, datetime], Transition]

Fields = dict[str, Any]
SERVER: Fields = {"type": KeyType.SERVER}
DESKTOP: Fields = {"type": KeyType.DESKTOP}
CORES: Fields = {"type": KeyType.CORES}
PROCESSORS: Fields = {"type": KeyType.PROCESSORS}
LATER: Fields = {"ends": 60}
TRIAL: Fields = {"kind": KeyKind.TRIAL}
SUBSCRIPTION: Fields = {"kind": KeyKind.SUBSCRIPTION}
UNLIMITED: Fields = {"kind": KeyKind.SUBSCRIPTION, "ends": None}
ENTERPRISE: Fields = {"edition": Edition.ENTERPRISE}
MARCH, JUNE, SEPTEMBER = {"ends": 59}, {"ends": 151}, {"ends": 243}


@pytest.mark.parametrize(
    ("rule", "active", "request_fields", "expected"),
    [
        ("R12", [], SERVER | LATER, Refusal.NO_ACTIVE_KEY),
        ("R13", [SERVER | SUBSCRIPTION], SERVER | LATER, Refusal.ACTIVE_IS_SUBSCRIPTION),
        ("R13", [SERVER | UNLIMITED], SERVER | LATER, Refusal.ACTIVE_IS_SUBSCRIPTION),
        ("R14", [SERVER], DESKTOP | LATER, Refusal.TYPE_MISMATCH),
        ("R75", [SERVER], SERVER | ENTERPRISE | LATER, Refusal.EDITION_MISMATCH),
        ("R26", [SERVER], SERVER | TRIAL | LATER, Refusal.KIND_NOT_ALLOWED_AS_RESERVE),
        ("R26", [SERVER], SERVER | SUBSCRIPTION | LATER, Refusal.KIND_NOT_ALLOWED_AS_RESERVE),
        ("R26", [SERVER], SERVER | UNLIMITED, Refusal.KIND_NOT_ALLOWED_AS_RESERVE),
        ("R5", [SERVER, DESKTOP], DESKTOP | LATER, None),
        ("R7, R14", [CORES], PROCESSORS | LATER, Refusal.TYPE_MISMATCH),
        ("R7", [CORES], CORES | LATER, None),
        ("R7", [PROCESSORS], PROCESSORS | LATER, None),
        ("R8", [SERVER | ENTERPRISE], SERVER | ENTERPRISE | LATER, None),
    ],
)
def test_the_table_of_reserves(
    make_key: MakeKey,
    keyring_of: MakeKeyring,
    sound: Sound,
    at: At,
    rule: str,
    active: list[Fields],
    request_fields: Fields,
    expected: Refusal | None,
) -> None:
    before = keyring_of([make_key(**fields) for fields in active])
    key = make_key(**request_fields)
    result = add_reserve(before, key, at(0))
    if expected:
        assert result is expected, rule
        return
    after = sound(before, result, at(0)).keyring
    assert [held.key for held in after.reserves()] == [key], rule
    assert after.actives() == before.actives(), rule


@pytest.mark.parametrize(("ends", "stays"), [(MARCH, False), (SEPTEMBER, True), (JUNE, False)])
def test_R18_the_table_of_reserves_when_the_active_key_is_replaced(
    make_key: MakeKey, keyring_of: MakeKeyring, sound: Sound, at: At, ends: Fields, stays: bool
) -> None:
    spare, new = make_key(**ends), make_key(**JUNE)
    before = keyring_of([make_key()], [spare])
    after = sound(before, add_active(before, new, at(0)), at(0)).keyring
    assert [held.key for held in after.actives()] == [new]
    assert [held.key for held in after.reserves()] == ([spare] if stays else [])


@pytest.mark.parametrize(
    ("rule", "active", "reserve", "request_fields", "active_after", "reserve_after"),
    [
        *(
            ("R38", [], [], of_type | kind, ["new"], [])
            for of_type in (SERVER, DESKTOP, CORES, PROCESSORS)
            for kind in ({}, TRIAL, SUBSCRIPTION, UNLIMITED)
        ),
        ("R35", [SERVER], [], SERVER, ["new"], []),
        ("R35", [CORES], [], CORES, ["new"], []),
        ("R24, R33", [SERVER], [], DESKTOP, ["a0", "new"], []),
        ("R35", [SERVER, DESKTOP], [], SERVER, ["new", "a1"], []),
        ("R36, R37", [SERVER, DESKTOP], [SERVER, DESKTOP], CORES, ["new"], []),
        ("R36, R37", [SERVER, DESKTOP], [SERVER, DESKTOP], PROCESSORS, ["new"], []),
        ("R36", [CORES], [CORES], PROCESSORS, ["new"], []),
        ("R36", [PROCESSORS], [PROCESSORS], CORES, ["new"], []),
        ("R36", [CORES], [CORES], SERVER, ["new"], []),
        ("R27", [SERVER], [], SERVER | TRIAL, None, []),
        ("R27", [SERVER], [], CORES | TRIAL, None, []),
        ("R27", [CORES], [], DESKTOP | TRIAL, None, []),
    ],
)
def test_the_table_of_active_keys(
    make_key: MakeKey,
    keyring_of: MakeKeyring,
    sound: Sound,
    at: At,
    rule: str,
    active: list[Fields],
    reserve: list[Fields],
    request_fields: Fields,
    active_after: list[str] | None,
    reserve_after: list[str],
) -> None:
    actives = [make_key(**fields) for fields in active]
    reserves = [make_key(**fields | LATER) for fields in reserve]
    new = make_key(**request_fields)
    names = {key.serial: f"a{index}" for index, key in enumerate(actives)}
    names |= {key.serial: f"r{index}" for index, key in enumerate(reserves)} | {new.serial: "new"}
    before = keyring_of(actives, reserves)
    result = add_active(before, new, at(0))
    if active_after is None:
        assert result is Refusal.TRIAL_OVER_COMMERCIAL, rule
        return
    after = sound(before, result, at(0)).keyring
    assert [names[held.key.serial] for held in after.actives()] == active_after, rule
    assert [names[held.key.serial] for held in after.reserves()] == reserve_after, rule

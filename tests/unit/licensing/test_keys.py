"""Keys: their types, shapes and validity in time."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sparekey.licensing.keys import (
    MAX_UNIT_LIMIT,
    Edition,
    InvalidKey,
    KeyKind,
    KeyOrigin,
    KeyType,
    LicenseKey,
    Scheme,
    end_of_date,
)

MakeKey = Callable[..., LicenseKey]
At = Callable[[float], datetime]
MICROSECOND = timedelta(microseconds=1)


def test_R20_there_are_four_key_types_and_R22_no_universal_one() -> None:
    assert [key_type.value for key_type in KeyType] == ["SERVER", "DESKTOP", "CORES", "PROCESSORS"]


def test_R23_there_are_three_kinds_and_R42_two_editions_and_R31_two_origins() -> None:
    assert {kind.value for kind in KeyKind} == {"TRIAL", "COMMERCIAL", "SUBSCRIPTION"}
    assert {edition.value for edition in Edition} == {"STANDARD", "ENTERPRISE"}
    assert {origin.value for origin in KeyOrigin} == {"KEY_FILE", "ACTIVATION_CODE"}


@pytest.mark.parametrize("enum", [KeyType, KeyKind, Edition, Scheme, KeyOrigin])
def test_enum_values_are_their_names(enum: type[Enum]) -> None:
    assert all(member.value == member.name for member in enum)


def test_R36_R51_the_type_gives_the_scheme_and_so_what_the_limit_counts() -> None:
    assert {key_type: key_type.scheme for key_type in KeyType} == {
        KeyType.SERVER: Scheme.PER_VM,
        KeyType.DESKTOP: Scheme.PER_VM,
        KeyType.CORES: Scheme.PER_CORE,
        KeyType.PROCESSORS: Scheme.PER_PROCESSOR,
    }


@pytest.mark.parametrize(
    ("origin", "serial", "fits"),
    [
        (KeyOrigin.KEY_FILE, "0A1B-2C3D4E-5F607182", True),
        (KeyOrigin.KEY_FILE, "0a1b-2c3d4e-5f607182", False),
        (KeyOrigin.KEY_FILE, "0A1B-2C3D4E-5F607182\n", False),
        (KeyOrigin.KEY_FILE, "0A1B2C3D4E5F607182", False),
        (KeyOrigin.KEY_FILE, "0A1B-2C3D4E-5F60718G", False),
        (KeyOrigin.KEY_FILE, "0A1B-2C3D4E-5F6071823", False),
        (KeyOrigin.KEY_FILE, "F" * 32, False),
        (KeyOrigin.KEY_FILE, "", False),
        (KeyOrigin.ACTIVATION_CODE, "0123456789ABCDEF" * 2, True),
        (KeyOrigin.ACTIVATION_CODE, "0123456789abcdef" * 2, False),
        (KeyOrigin.ACTIVATION_CODE, "F" * 31, False),
        (KeyOrigin.ACTIVATION_CODE, "F" * 33, False),
        (KeyOrigin.ACTIVATION_CODE, "F" * 32 + "\n", False),
        (KeyOrigin.ACTIVATION_CODE, "0A1B-2C3D4E-5F607182", False),
    ],
)
def test_R29_R30_a_serial_has_the_shape_of_its_origin(
    make_key: MakeKey, origin: KeyOrigin, serial: str, fits: bool
) -> None:
    key = make_key()
    if fits:
        assert replace(key, origin=origin, serial=serial).serial == serial
    else:
        with pytest.raises(InvalidKey, match="serial"):
            replace(key, origin=origin, serial=serial)


@pytest.mark.parametrize("limit", [0, 1, MAX_UNIT_LIMIT])
def test_a_unit_limit_in_range_is_taken(make_key: MakeKey, limit: int) -> None:
    assert make_key(unit_limit=limit).unit_limit == limit


@pytest.mark.parametrize("limit", [-1, MAX_UNIT_LIMIT + 1, True, 1.0, "5", None])
def test_a_unit_limit_out_of_range_or_of_another_type_is_refused(
    make_key: MakeKey, limit: Any
) -> None:
    with pytest.raises(InvalidKey, match="unit_limit"):
        make_key(unit_limit=limit)


def test_R55_only_a_subscription_may_be_without_end(make_key: MakeKey, at: At) -> None:
    unlimited = make_key(kind=KeyKind.SUBSCRIPTION, ends=None)
    assert unlimited.is_valid_at(at(1_000_000))
    for kind in (KeyKind.TRIAL, KeyKind.COMMERCIAL):
        with pytest.raises(InvalidKey, match="expires_at"):
            make_key(kind=kind, ends=None)


def test_R81_valid_from_not_before_up_to_but_not_at_expires_at(make_key: MakeKey, at: At) -> None:
    key = make_key(starts=0, ends=10)
    assert not key.has_started_at(at(0) - MICROSECOND)
    assert not key.is_valid_at(at(0) - MICROSECOND)
    assert key.has_started_at(at(0))
    assert key.is_valid_at(at(0))
    assert key.is_valid_at(at(10) - MICROSECOND)
    assert not key.has_expired_at(at(10) - MICROSECOND)
    assert key.has_expired_at(at(10))
    assert not key.is_valid_at(at(10))


@pytest.mark.parametrize("ends", [5, 4])
def test_a_key_must_start_before_it_ends(make_key: MakeKey, ends: int) -> None:
    with pytest.raises(InvalidKey, match="not_before"):
        make_key(starts=5, ends=ends)


@pytest.mark.parametrize("field", ["not_before", "expires_at"])
@pytest.mark.parametrize("zone", [None, timezone(timedelta(hours=1)), ZoneInfo("Asia/Tokyo")])
def test_R81_instants_are_utc(make_key: MakeKey, field: str, zone: Any) -> None:
    key = make_key()
    changed = {field: getattr(key, field).replace(tzinfo=zone)}
    with pytest.raises(InvalidKey, match=field):
        replace(key, **changed)


def test_R81_another_spelling_of_utc_becomes_utc_and_microseconds_stay(make_key: MakeKey) -> None:
    other = datetime(2029, 1, 1, 0, 0, 0, 123456, tzinfo=ZoneInfo("Europe/London"))
    key = replace(make_key(), not_before=other)
    assert key.not_before.tzinfo is UTC
    assert key.not_before.microsecond == 123456


def test_R81_a_date_only_expiry_is_midnight_utc_of_the_following_day() -> None:
    assert end_of_date(date(2030, 2, 28)) == datetime(2030, 3, 1, tzinfo=UTC)
    assert end_of_date(date(2028, 2, 28)) == datetime(2028, 2, 29, tzinfo=UTC)
    assert end_of_date(date(2030, 12, 31)) == datetime(2031, 1, 1, tzinfo=UTC)
    assert end_of_date(date(2030, 12, 31)).tzinfo is UTC


@pytest.mark.parametrize("day", [date.max, datetime(2030, 1, 1, tzinfo=UTC)])
def test_a_date_without_a_following_day_or_with_a_time_is_refused(day: date) -> None:
    with pytest.raises(InvalidKey):
        end_of_date(day)


def test_a_key_cannot_be_changed(make_key: MakeKey) -> None:
    with pytest.raises(FrozenInstanceError):
        make_key().unit_limit = 5  # type: ignore[misc]

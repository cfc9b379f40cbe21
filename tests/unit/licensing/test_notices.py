"""Telling that an end comes near."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from sparekey.licensing.keyring import Keyring
from sparekey.licensing.keys import KeyType, LicenseKey
from sparekey.licensing.notices import (
    THRESHOLDS,
    days_left,
    due_notice,
    is_covered,
    next_notice_at,
    notice_at,
    severity_of,
)
from sparekey.licensing.settling import settle
from sparekey.licensing.severity import Severity
from sparekey.licensing.transitions import block

MakeKey = Callable[..., LicenseKey]
MakeKeyring = Callable[..., Keyring]
At = Callable[[float], datetime]
MICROSECOND = timedelta(microseconds=1)


def test_R93_a_day_begun_counts_as_a_day_left(at: At) -> None:
    assert days_left(at(5), at(0)) == 5
    assert days_left(at(5), at(0) + MICROSECOND) == 5
    assert days_left(at(5), at(0) - MICROSECOND) == 6
    assert days_left(at(5), at(5) - MICROSECOND) == 1
    assert days_left(at(5), at(5)) == days_left(at(5), at(9)) == 0


def test_R73_R93_each_notice_comes_at_its_instant_and_once(at: At) -> None:
    told: int | None = None
    given = []
    due: datetime | None = at(-40)
    while due is not None:
        threshold = due_notice(at(0), due, told)
        if threshold is not None:
            given.append((threshold, due))
            told = threshold
            assert due_notice(at(0), due, told) is None
        due = next_notice_at(at(0), due)
    assert given == [(days, at(-days)) for days in THRESHOLDS]
    assert due_notice(at(0), at(100), told) is None


@pytest.mark.parametrize(("told", "days", "due"), [(None, 4, 5), (30, 0.5, 1), (5, -3, 0)])
def test_R93_missed_notices_collapse_into_the_nearest(
    at: At, told: int | None, days: float, due: int
) -> None:
    assert due_notice(at(days), at(0), told) == due
    assert notice_at(at(days), due) <= at(0)


def test_R93_nothing_is_told_more_than_thirty_days_ahead(at: At) -> None:
    assert due_notice(at(30), at(0) - MICROSECOND) is None
    assert due_notice(at(30), at(0)) == 30


def test_R93_only_an_uncovered_end_is_more_than_information() -> None:
    loud = {days: severity_of(days, covered=False) for days in THRESHOLDS}
    info, warning = Severity.INFO, Severity.WARNING
    assert loud == {30: info, 15: info, 5: warning, 1: warning, 0: Severity.CRITICAL}
    assert {severity_of(days, covered=True) for days in THRESHOLDS} == {info}


def test_R93_covered_means_a_valid_reserve_of_the_type_on_every_svm(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    key, reserve = make_key(ends=10), make_key(ends=60)
    late = make_key(starts=11, ends=60)
    desktop, desktop_reserve = (make_key(KeyType.DESKTOP, ends=ends) for ends in (10, 60))
    alone, with_reserve = keyring_of([key]), keyring_of([key], [reserve])

    def covered(*keyrings: Keyring, now: datetime | None = None) -> bool:
        return is_covered(key.serial, at(10), keyrings, now or at(0))

    assert covered()
    assert covered(with_reserve)
    assert not covered(with_reserve, alone)
    assert not covered(keyring_of([key], [late]))
    assert not covered(keyring_of([key, desktop], [desktop_reserve]))
    assert not covered(block(with_reserve, reserve.serial, at(1)).keyring, now=at(1))
    # At the end itself: whoever had a reserve runs under it now.
    assert covered(with_reserve, now=at(10))
    assert covered(settle(with_reserve, at(10)).keyring, now=at(10))
    assert not covered(settle(alone, at(10)).keyring, now=at(10))

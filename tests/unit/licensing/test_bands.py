"""How full a key is."""

from datetime import UTC, date, datetime
from fractions import Fraction

import pytest

from sparekey.licensing.bands import Band, BandTold, band_of, is_to_be_told, next_check

NONE, INFO, WARNING, CRITICAL = Band


@pytest.mark.parametrize(
    ("used", "band"),
    [(89, NONE), (90, INFO), (99, INFO), (100, WARNING), (110, WARNING), (111, CRITICAL)],
)
def test_R63_R64_R92_the_band_table(used: int, band: Band) -> None:
    assert band_of(used, 100) is band


def test_R92_the_bands_are_exact_for_every_small_limit() -> None:
    for limit in range(1, 60):
        for used in range(80):
            share = Fraction(used, limit)
            expected = (
                CRITICAL
                if share > Fraction(11, 10)
                else WARNING
                if share >= 1
                else INFO
                if share >= Fraction(9, 10)
                else NONE
            )
            assert band_of(used, limit) is expected, (used, limit)


def test_R92_a_limit_of_nothing_is_exceeded_by_one() -> None:
    assert band_of(0, 0) is NONE
    assert band_of(1, 0) is CRITICAL


def test_R92_a_change_is_told_at_most_once_a_day() -> None:
    today, tomorrow = date(2030, 1, 1), date(2030, 1, 2)
    assert not is_to_be_told(BandTold(), NONE, today)
    assert is_to_be_told(BandTold(), INFO, today)
    assert not is_to_be_told(BandTold(INFO, today), CRITICAL, today)
    assert is_to_be_told(BandTold(INFO, today), CRITICAL, tomorrow)
    assert not is_to_be_told(BandTold(INFO, today), INFO, tomorrow)
    assert is_to_be_told(BandTold(INFO, today), NONE, tomorrow)


def test_R65_the_check_comes_once_a_day_at_midnight() -> None:
    midnight = datetime(2030, 1, 2, tzinfo=UTC)
    assert next_check(datetime(2030, 1, 1, tzinfo=UTC)) == midnight
    assert next_check(datetime(2030, 1, 1, 23, 59, 59, 999999, tzinfo=UTC)) == midnight

"""How full a key is: the bands of usage against its limit, and when to tell (R63-R66, R92)."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import IntEnum


class Band(IntEnum):
    """Below 90 % of the limit, from 90 %, from 100 %, above 110 %; fuller is greater."""

    NONE = 0
    INFO = 1
    WARNING = 2
    CRITICAL = 3


def band_of(used: int, limit: int) -> Band:
    """The band of `used` units under a limit, both 0 or more; in whole numbers, never rounded.

    A limit of 0 is exceeded by the first unit (R92). A band only tells: no limit ever stops an
    activation or protection (R65).
    """
    if limit == 0:
        return Band.CRITICAL if used else Band.NONE
    if 10 * used < 9 * limit:
        return Band.NONE
    if 10 * used < 10 * limit:
        return Band.INFO
    if 10 * used <= 11 * limit:
        return Band.WARNING
    return Band.CRITICAL


@dataclass(frozen=True, slots=True)
class BandTold:
    """What was told last of one key's usage, and on which UTC day; None before anything was."""

    band: Band = Band.NONE
    day: date | None = None


def is_to_be_told(told: BandTold, band: Band, today: date) -> bool:
    """Whether a key's band is to be told: on a change, at most once a UTC day (R92)."""
    return band is not told.band and told.day != today


def next_check(now: datetime) -> datetime:
    """The next daily check of limits: the coming midnight UTC (R65)."""
    return datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), time(0), tzinfo=UTC)

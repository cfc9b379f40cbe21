"""Instants and spans as people write and read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_SPAN = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?", re.ASCII)
_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_MINUTE = timedelta(minutes=1)


def iso(instant: datetime) -> str:
    """The instant in UTC to the second, for example 2030-01-31T12:00:00Z."""
    return instant.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def iso_date(instant: datetime) -> str:
    """The instant's date in UTC, for example 2030-01-31."""
    return instant.astimezone(UTC).date().isoformat()


def relative(instant: datetime, now: datetime) -> str:
    """How far an instant is from now: `in 12 days`, `5 hours ago`, `now`.

    What is to come is rounded up, so that the days agree with the days left of
    notices (R93); what has passed is rounded down.
    """
    distance = instant - now
    if distance == timedelta(0):
        return "now"
    ahead = distance > timedelta(0)
    for unit, name in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute")):
        if abs(distance) >= unit:
            count = -(-distance // unit) if ahead else -distance // unit
            words = f"{count} {name}" if count == 1 else f"{count} {name}s"
            return f"in {words}" if ahead else f"{words} ago"
    return "in a moment" if ahead else "just now"


def parse_span(text: str) -> timedelta:
    """Read a span such as `7d`, `12h`, `90s` or `1d12h`.

    Raises:
        ValueError: it is not one; the message says how to write it.
    """
    found = _SPAN.fullmatch(text.strip())
    if not text.strip() or found is None:
        raise ValueError(f"{text!r} is not a span of time; write 7d, 12h, 30m, 45s or 1d12h")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    try:
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        raise ValueError(f"{text!r} is too long a span") from None


def parse_instant(text: str) -> datetime:
    """Read a date or an instant as ISO 8601 writes it; without a zone it is UTC.

    Raises:
        ValueError: it is neither; the message says how to write it.
    """
    try:
        instant = datetime.fromisoformat(text.strip())
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is not an instant; write 2030-01-31 or 2030-01-31T12:00:00Z"
        ) from None

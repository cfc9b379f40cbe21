"""When to tell that a key's end comes near, and how loudly (R73, R93)."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from sparekey.licensing.keyring import Keyring
from sparekey.licensing.settling import settle
from sparekey.licensing.severity import Severity

_DAY = timedelta(days=1)

THRESHOLDS = (30, 15, 5, 1, 0)
"""The days left at which a notice is given, once each for each key."""

FIRST_NOTICE = THRESHOLDS[0] * _DAY
"""How long before a key's end the first notice is due; nothing is earlier."""

_SEVERITIES = {
    30: Severity.INFO,
    15: Severity.INFO,
    5: Severity.WARNING,
    1: Severity.WARNING,
    0: Severity.CRITICAL,
}


def days_left(ends_at: datetime, now: datetime) -> int:
    """Whole days until the end, a day begun counts; 0 from the end on."""
    return max(0, -((now - ends_at) // _DAY))


def due_notice(ends_at: datetime, now: datetime, told: int | None = None) -> int | None:
    """The notice to give now: one of `THRESHOLDS`, or None.

    `told` is the notice given last for this end. Notices that were missed collapse into the one
    that is nearest to the end.
    """
    left = days_left(ends_at, now)
    reached = [threshold for threshold in THRESHOLDS if left <= threshold]
    nearest = min(reached, default=None)
    return nearest if nearest is not None and (told is None or nearest < told) else None


def notice_at(ends_at: datetime, threshold: int) -> datetime:
    """The instant that a notice belongs to, however late it is given."""
    return ends_at - threshold * _DAY


def next_notice_at(ends_at: datetime, now: datetime) -> datetime | None:
    """The first instant after `now` at which a notice becomes due; None from the end on."""
    instants = (notice_at(ends_at, threshold) for threshold in THRESHOLDS)
    return min((instant for instant in instants if instant > now), default=None)


def is_covered(serial: str, ends_at: datetime, keyrings: Iterable[Keyring], now: datetime) -> bool:
    """Whether no SVM will lose anything when a key ends.

    So it is where each SVM that runs under the key has a reserve of its type, not blocked and
    valid at the end; and where no SVM runs under it.
    """
    for keyring in keyrings:
        settled = settle(keyring, now).keyring
        for held in settled.actives():
            if held.key.serial != serial:
                continue
            reserve = settled.reserve(held.key.type)
            if reserve is None or reserve.blocked_at or not reserve.key.is_valid_at(ends_at):
                return False
    return True


def severity_of(threshold: int, *, covered: bool) -> Severity:
    """How loudly a notice is given: only an uncovered end is more than information."""
    return Severity.INFO if covered else _SEVERITIES[threshold]

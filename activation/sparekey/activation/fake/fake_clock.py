"""The fake's time: that of its base, until it is told to stand still."""

from datetime import datetime

from sparekey.runtime.clock import Clock


class FakeClock:
    """Follows `base` (the machine's time, or a test's own clock) or stands at one instant.

    Args:
        base: Where the time comes from while the clock runs.
    """

    def __init__(self, base: Clock) -> None:
        self._base = base
        self._stands_at: datetime | None = None

    def now(self) -> datetime:
        """The present instant, in UTC."""
        return self._base.now() if self._stands_at is None else self._stands_at

    def stand_at(self, instant: datetime | None) -> None:
        """Stand still at an instant; None lets the clock run again."""
        self._stands_at = instant

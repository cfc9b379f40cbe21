"""Time, injected everywhere; all instants are UTC (R81)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Protocol

_LONGEST_NAP = timedelta(hours=1)


class Clock(Protocol):
    """Where a program takes its time from."""

    def now(self) -> datetime:
        """The present instant, in UTC."""
        ...

    async def wait_until(self, instant: datetime) -> None:
        """Return as soon as `now()` has reached the instant."""
        ...


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        """The present instant, in UTC."""
        return datetime.now(UTC)

    async def wait_until(self, instant: datetime) -> None:
        """Return as soon as the machine's time has reached the instant."""
        # Naps are bounded, since the machine's time can be set while we wait.
        while (left := instant - self.now()) > timedelta(0):  # noqa: ASYNC110 - no event tells the time
            await asyncio.sleep(min(left, _LONGEST_NAP).total_seconds())


class SettableClock:
    """A clock that stands still until it is told to move; for tests.

    It belongs to one event loop; `now()` may be read from any thread.
    """

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ValueError("a clock needs an instant with a time zone")
        self._now = start.astimezone(UTC)
        self._moved = asyncio.Event()

    def now(self) -> datetime:
        """The instant that the clock was last set to."""
        return self._now

    def set(self, instant: datetime) -> None:
        """Move the clock, forwards or backwards, and wake who waits."""
        if instant.tzinfo is None:
            raise ValueError("a clock needs an instant with a time zone")
        self._now = instant.astimezone(UTC)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def advance(self, by: timedelta) -> None:
        """Move the clock on."""
        self.set(self._now + by)

    async def wait_until(self, instant: datetime) -> None:
        """Return as soon as the clock was set to the instant or later."""
        while self._now < instant:
            await self._moved.wait()

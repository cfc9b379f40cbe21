"""Due work that the passing of time alone brings: subscriptions, notices, limits, the clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from sparekey.activation.v1 import activation_pb2
from sparekey.licensing.bands import next_check
from sparekey.licensing.key_files import InvalidKeyFile, TrustedSigners
from sparekey.licensing.keys import LicenseKey
from sparekey.runtime.clock import Clock
from sparekey.server.activation_client import ActivationClient
from sparekey.server.life.clock_watch import watch_clock
from sparekey.server.life.limits import check_limits
from sparekey.server.life.noticing import give_notices, next_notice_due
from sparekey.server.life.polling import (
    KnownSubscription,
    Poll,
    record_polls,
    subscriptions_in_use,
    wants_successor,
)
from sparekey.server.store.clock import limits_checked_at
from sparekey.server.store.reader import Reader
from sparekey.server.store.writer import Writer
from sparekey.wire.errors import CallRefused

_log = structlog.get_logger()

CLOCK_MARK_INTERVAL = timedelta(minutes=1)
"""How often the clock's high-water mark is written; well below what counts as set back."""

_JITTER = 0.1


class ClockWatch:
    """Keeps the mark of how far the clock has come (R82)."""

    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self._next = clock.now()

    async def next_due(self) -> datetime | None:
        """Every minute, and at once where the clock went back."""
        now = self._clock.now()
        return now if self._next - now > CLOCK_MARK_INTERVAL else self._next

    async def run_due(self) -> None:
        """Raise the mark, or tell that the clock is behind it."""
        self._next = self._clock.now() + CLOCK_MARK_INTERVAL
        await self._writer.write(watch_clock, None)


class ExpiryNotices:
    """Tells that keys come to their end (R93)."""

    def __init__(self, reader: Reader, writer: Writer, clock: Clock) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock

    async def next_due(self) -> datetime | None:
        """When the next notice is due."""
        return await self._reader.read(next_notice_due, self._clock.now())

    async def run_due(self) -> None:
        """Give what is due; of several that were missed for a key the last alone."""
        await self._writer.write(give_notices, None)


class LimitChecks:
    """Compares usage with limits once a day (R65)."""

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self._reader = reader
        self._writer = writer

    async def next_due(self) -> datetime | None:
        """The midnight after the last check; the beginning of time before the first."""
        last = await self._reader.read(limits_checked_at)
        return _LONG_AGO if last is None else next_check(last)

    async def run_due(self) -> None:
        """Check every key."""
        await self._writer.write(check_limits, None)


class SubscriptionPolls:
    """Asks the activation server how subscriptions stand, and tells what time makes of it (R60).

    Args:
        reader: Where to read.
        writer: Where to write.
        clock: The time.
        client: The way to the activation server.
        trusted: Whose keys are taken.
        new_task_id: Where ids of tasks come from.
        interval: How often to ask, give or take a tenth.
        randomness: Spreads the questions.
    """

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        clock: Clock,
        client: ActivationClient,
        trusted: TrustedSigners,
        new_task_id: Callable[[], str],
        interval: timedelta,
        randomness: random.Random,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._client = client
        self._trusted = trusted
        self._new_task_id = new_task_id
        self._interval = interval
        self._randomness = randomness
        # Keys of which nothing was ever heard, and when to ask again.
        self._unheard: dict[str, datetime] = {}

    async def next_due(self) -> datetime | None:
        """When to ask next, or when time turns a subscription."""
        due = [self._due(one) for one in await self._reader.read(subscriptions_in_use)]
        return min((at for at in due if at is not None), default=None)

    async def run_due(self) -> None:
        """Ask about each subscription that is due; one that does not answer stays as it is."""
        now = self._clock.now()
        for one in await self._reader.read(subscriptions_in_use):
            due = self._due(one)
            if due is not None and due <= now:
                await self._ask(one)

    async def ask(self, one: KnownSubscription) -> None:
        """Ask about one subscription now, for an operator who runs its task again (R61).

        A renewed key comes into the storage; giving it to the SVMs is the operator's task.
        """
        await self._ask(one, deliver=False)

    def _due(self, one: KnownSubscription) -> datetime | None:
        if one.known is None:
            return self._unheard.get(one.stored.key.serial, one.due_at())
        return one.due_at()

    async def _ask(self, one: KnownSubscription, *, deliver: bool = True) -> None:
        key = one.stored.key
        heard: activation_pb2.Subscription | None = None
        successor: tuple[LicenseKey, bytes] | None = None
        try:
            heard = await self._client.subscription(key.serial)
            if wants_successor(heard, key, self._clock.now()):
                key_file = await self._client.renew(key.serial)
                successor = (self._trusted.read(key_file), key_file)
        except CallRefused as refused:
            _log.info("a subscription was not read", serial=key.serial, problem=refused.message)
        except InvalidKeyFile as invalid:
            _log.warning("a renewed key is not valid", serial=key.serial, problem=str(invalid))
        next_poll_at = self._clock.now() + self._interval * self._randomness.uniform(
            1 - _JITTER, 1 + _JITTER
        )
        self._unheard[key.serial] = next_poll_at
        if heard is not None:
            del self._unheard[key.serial]
        task_id = self._new_task_id() if deliver else ""
        await self._writer.write(
            record_polls, Poll(key.serial, heard, successor, next_poll_at, task_id)
        )


_LONG_AGO = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

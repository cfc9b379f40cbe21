"""ClockService: moves the test clock, and answers when all that is due has been done."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration

from sparekey.runtime.clock import SettableClock
from sparekey.server.link.agent_link import AgentLink
from sparekey.server.scheduler.scheduler import Scheduler
from sparekey.server.store.commits import CommitFeed, Subscription
from sparekey.server.store.instructions import svms_with_pending
from sparekey.server.store.reader import Reader
from sparekey.testing.v1 import clock_pb2
from sparekey.wire.edge import Call
from sparekey.wire.errors import FieldViolation, invalid_fields
from sparekey.wire.timestamps import from_duration, from_timestamp, to_timestamp

_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""Outside of these the spans that the server adds would leave the range of instants."""

_PATIENCE = timedelta(seconds=20)
"""How long agents are waited for."""


class ClockServicer:
    """Serves `sparekey.testing.v1.ClockService`."""

    def __init__(
        self,
        clock: SettableClock,
        link: AgentLink,
        scheduler: Scheduler,
        reader: Reader,
        feed: CommitFeed,
    ) -> None:
        self._clock = clock
        self._link = link
        self._scheduler = scheduler
        self._reader = reader
        self._feed = feed
        self._moving = asyncio.Lock()

    async def get_clock(
        self, request: clock_pb2.GetClockRequest, call: Call
    ) -> clock_pb2.GetClockResponse:
        """Read the clock."""
        return clock_pb2.GetClockResponse(time=to_timestamp(self._clock.now()))

    async def advance_clock(
        self, request: clock_pb2.AdvanceClockRequest, call: Call
    ) -> clock_pb2.AdvanceClockResponse:
        """Move the clock on."""
        async with self._moving:
            confirmed = await self._move(_in_range("by", self._clock.now(), request.by))
            now = to_timestamp(self._clock.now())
        return clock_pb2.AdvanceClockResponse(time=now, confirmed_agent_count=confirmed)

    async def set_clock(
        self, request: clock_pb2.SetClockRequest, call: Call
    ) -> clock_pb2.SetClockResponse:
        """Set the clock."""
        async with self._moving:
            confirmed = await self._move(_in_range("time", from_timestamp(request.time)))
            now = to_timestamp(self._clock.now())
        return clock_pb2.SetClockResponse(time=now, confirmed_agent_count=confirmed)

    async def _move(self, instant: datetime) -> int:
        """Set the clock; agents first do what is due, then the server, then agents follow it."""
        changes = Subscription()
        stop = self._feed.listen(changes.notify)
        try:
            self._clock.set(instant)
            confirmed = await self._link.tell_time(instant, patience=_PATIENCE)
            await self._scheduler.catch_up()
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                while await self._connected_wait():
                    await changes.next()
        except TimeoutError:
            pass  # an SVM that does not answer must not stop the clock
        finally:
            stop()
        return confirmed

    async def _connected_wait(self) -> bool:
        waiting = await self._reader.read(svms_with_pending)
        return bool(self._link.sessions.among(waiting))


def _in_range(field: str, instant: datetime, by: Duration | None = None) -> datetime:
    """The instant that the clock is to show.

    Raises:
        CallRefused: it is out of the clock's range.
    """
    span = timedelta() if by is None else from_duration(by)
    if instant < _FIRST or instant > _LAST - span:
        problem = "must leave the clock between the years 1970 and 9000"
        raise invalid_fields([FieldViolation(field, problem)])
    return instant + span

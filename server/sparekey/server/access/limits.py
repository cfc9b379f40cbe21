"""Limits by caller: how often, how many at once. Spans are of the machine's own time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta

from sparekey.v1 import error_pb2
from sparekey.wire.errors import CallRefused

_MOST_KNOWN = 10_000
"""Of so many callers the counts are kept; those not heard of for longest are forgotten first."""

_LONGEST_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller may use.

    Attributes:
        calls_per_second: Calls of an operator, on average.
        call_burst: Calls of an operator at once.
        call_bytes: A request counts as one call more for each so many bytes.
        refusals_per_second: Calls of one address that are refused at once, on average.
        refusal_burst: The most of them at once.
        refusal_wait_seconds: How long each further refusal takes.
        agent_calls_per_second: Calls of an agent, on average; each stream is one.
        agent_call_burst: Calls of an agent at once.
        turn_patience_seconds: So long a call waits at most for its caller's calls before it.
        operator_streams: Streams that an operator may have open.
        agent_streams: Streams that an agent may have open; two meet when it comes again.
        failures_per_minute: Enrollments of one address that may fail.
    """

    calls_per_second: float = 200.0
    call_burst: int = 600
    call_bytes: int = 2048
    agent_calls_per_second: float = 10.0
    agent_call_burst: int = 200
    refusals_per_second: float = 50.0
    refusal_burst: int = 500
    refusal_wait_seconds: float = 1.0
    turn_patience_seconds: float = 0.25
    operator_streams: int = 32
    agent_streams: int = 4
    failures_per_minute: float = 10.0


class Allowance:
    """A bucket for each caller that fills at a rate; each use takes one out of it."""

    def __init__(self, per_second: float, burst: float, now: Callable[[], float]) -> None:
        self._per_second = per_second
        self._burst = burst
        self._now = now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def use(self, caller: str, what: str, count: float = 1.0) -> None:
        """Take some out.

        Args:
            caller: Whose bucket.
            what: For the refusal's sentence, for example `calls`.
            count: How many; at most the burst.

        Raises:
            CallRefused: there are not so many left.
        """
        now = self._now()
        left, at = self._left.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        self._left[caller] = (left - count if left >= count else left, now)
        if len(self._left) > _MOST_KNOWN:
            self._left.popitem(last=False)
        if left < count:
            raise CallRefused(
                error_pb2.ERROR_REASON_LIMIT_EXCEEDED,
                f"too many {what} in a short time; try again later",
                retry_after=timedelta(seconds=(count - left) / self._per_second),
            )

    def give_back(self, caller: str) -> None:
        """Put one back: the use was well."""
        if caller in self._left:
            left, at = self._left[caller]
            self._left[caller] = (min(self._burst, left + 1.0), at)


class Turns:
    """One call of each caller after the other, so that one with many does not come before others.

    Where more of a caller's calls wait, the next begins as much later as the one before took: such
    a caller gets half of the server's time at most, however slow the machine is. A call that has
    waited for long begins all the same, since the one before may wait for something else.
    """

    def __init__(self, patience_seconds: float, now: Callable[[], float]) -> None:
        self._patience = patience_seconds
        self._now = now
        self._by_caller: dict[str, tuple[asyncio.Lock, list[None]]] = {}

    @asynccontextmanager
    async def take(self, caller: str) -> AsyncIterator[None]:
        """Wait for the caller's turn, and hold it for as long as the block runs."""
        lock, present = self._by_caller.setdefault(caller, (asyncio.Lock(), []))
        present.append(None)
        held = False
        started = self._now()
        try:
            try:
                async with asyncio.timeout(self._patience):
                    held = await lock.acquire()
            except TimeoutError:
                pass
            started = self._now()
            yield
        finally:
            present.pop()
            if held and present:
                pause = min(self._now() - started, _LONGEST_PAUSE_SECONDS)
                asyncio.get_running_loop().call_later(pause, lock.release)
            elif held:
                lock.release()
            if not present:
                del self._by_caller[caller]


class OpenStreams:
    """Counts the open streams of each caller."""

    def __init__(self) -> None:
        self._count: dict[str, int] = {}

    @contextmanager
    def hold(self, caller: str, most: int) -> Iterator[None]:
        """Count one for as long as the block runs.

        Raises:
            CallRefused: the caller has `most` open.
        """
        count = self._count.get(caller, 0)
        if count >= most:
            raise CallRefused(
                error_pb2.ERROR_REASON_LIMIT_EXCEEDED,
                f"{count} streams are open already; close one, then try again",
                metadata={"limit": str(most)},
            )
        self._count[caller] = count + 1
        try:
            yield
        finally:
            left = self._count[caller] - 1
            if left:
                self._count[caller] = left
            else:
                del self._count[caller]

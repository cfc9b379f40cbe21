"""The one writer: gathers what callers ask to be written, and answers once it is on disk.

`Writer` is what the server sees; where groups are written is behind it: in a
thread of this process, or in a process of its own (see `writer_process`).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import groupby
from typing import Any, Protocol, TypeVar

from sqlalchemy import Engine

from sparekey.runtime.clock import Clock
from sparekey.server.store.commits import Commit, CommitFeed
from sparekey.server.store.groups import GroupWriter, Operation, Run
from sparekey.v1 import error_pb2
from sparekey.wire.edge import shutting_down
from sparekey.wire.errors import CallRefused

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")

_MAX_GROUP = 1024
_MOST_WAITING = 20_000
"""About ten seconds of writing: every agent of a large fleet may come back at once."""
_RETRY_AFTER = timedelta(seconds=5)

_Waiting = tuple[Operation[Any, Any], Any, asyncio.Future[Any]]


class GroupTarget(Protocol):
    """Where groups are written, one after the other."""

    async def start(self) -> None:
        """Be ready to write."""
        ...

    async def write(self, runs: list[Run], now: Any) -> tuple[list[Any], Commit]:
        """Write one group; return an answer for each request, and what changed."""
        ...

    async def ended(self) -> None:
        """Return if writing has come to an end by a fault."""
        ...

    async def stop(self) -> None:
        """Write no more."""
        ...


class Writer:
    """Gathers writes into groups; belongs to the loop that starts it.

    While one group is on its way to disk, the next gathers.

    Args:
        target: Where groups are written.
        clock: The server's time.
        feed: Who is told what changed.
        most_waiting: So many requests may wait; what comes then is refused.
    """

    def __init__(
        self,
        target: GroupTarget,
        clock: Clock,
        feed: CommitFeed,
        *,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        self._most_waiting = most_waiting
        self._target = target
        self._clock = clock
        self._feed = feed
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start writing."""
        await self._target.start()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Write what waits, then end."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
        await self._target.stop()

    @property
    def backlog(self) -> int:
        """How many requests wait for the group that is being written to end."""
        return len(self._waiting)

    async def ended(self) -> None:
        """Return if writing has come to an end by a fault; the server cannot go on then."""
        await self._target.ended()

    async def write(self, operation: Operation[_Request, _Answer], request: _Request) -> _Answer:
        """Apply the operation to the request; return its answer once it is on disk.

        Raises:
            CallRefused: the operation refused the request, the storage cannot be
                written, or too much waits already.
        """
        return await self.begin(operation, request)

    def begin(
        self, operation: Operation[_Request, _Answer], request: _Request
    ) -> asyncio.Future[_Answer]:
        """As `write`, without waiting: what is begun first is written first.

        Raises:
            CallRefused: the server stops.
        """
        if self._stopping or self._task is None:
            raise shutting_down()
        if len(self._waiting) >= self._most_waiting:
            raise CallRefused(
                error_pb2.ERROR_REASON_LIMIT_EXCEEDED,
                "the server has more to write than it can in a short time; try again later",
                retry_after=_RETRY_AFTER,
            )
        answered: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((operation, request, answered))
        self._wake.set()
        return answered

    async def _run(self) -> None:
        while not self._stopping or self._waiting:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            group, self._waiting = self._waiting[:_MAX_GROUP], self._waiting[_MAX_GROUP:]
            if group:
                await self._write(group)

    async def _write(self, group: list[_Waiting]) -> None:
        runs = [
            (operation, [waiting[1] for waiting in run])
            for operation, run in groupby(group, key=lambda waiting: waiting[0])
        ]
        try:
            answers, commit = await self._target.write(runs, self._clock.now())
        except Exception as error:  # noqa: BLE001 - each caller learns of it
            answers, commit = [error] * len(group), Commit()
        for (_, _, answered), answer in zip(group, answers, strict=True):
            if answered.cancelled():
                continue  # the caller has gone; what it asked for is done all the same
            if isinstance(answer, Exception):
                answered.set_exception(answer)
            else:
                answered.set_result(answer)
        self._feed.publish(commit)


class ThreadTarget:
    """Writes groups on a thread of this process: for servers inside another program."""

    def __init__(self, engine: Engine) -> None:
        self._groups = GroupWriter(engine)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sparekey-writer")

    async def start(self) -> None:
        """Nothing to do: the thread starts with the first group."""

    async def write(self, runs: list[Run], now: Any) -> tuple[list[Any], Commit]:
        """Write one group."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._groups.write, runs, now)

    async def ended(self) -> None:
        """Never: a thread does not end by itself."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """End the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._groups.close)
        self._thread.shutdown(wait=True)

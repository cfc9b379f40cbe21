"""Doing what is due: the scheduler sleeps until the next due instant, and polls no rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import structlog

from sparekey.runtime.clock import Clock
from sparekey.server.store.commits import Commit, CommitFeed

_log = structlog.get_logger()

_RETRY_SECONDS = 5.0
"""How long to wait after a failure of ours before the work is tried again."""


class Job(Protocol):
    """One kind of due work."""

    async def next_due(self) -> datetime | None:
        """When there is work next; None if nothing is in sight."""
        ...

    async def run_due(self) -> None:
        """Do all work that is due. Afterwards `next_due` is later than now, or None."""
        ...


class Scheduler:
    """Runs jobs when they are due."""

    def __init__(self, jobs: Sequence[Job], clock: Clock, feed: CommitFeed) -> None:
        self._jobs = jobs
        self._clock = clock
        self._changed = asyncio.Event()
        # What the sleep goes on until; None while awake.
        self._planned: datetime | None = None
        self._running = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        feed.listen(self._notice)

    def start(self) -> None:
        """Start; what was due while the server was down is done first."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop between two pieces of work."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def catch_up(self) -> None:
        """Do everything that is due by now."""
        async with self._running:
            for job in self._jobs:
                due = await job.next_due()
                if due is not None and due <= self._clock.now():
                    await job.run_due()

    def _notice(self, commit: Commit) -> None:
        if commit.due_at is None:
            return
        if self._planned is None or commit.due_at < self._planned:
            self._changed.set()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self.catch_up()
                due = [at for job in self._jobs if (at := await job.next_due()) is not None]
            except Exception:  # noqa: BLE001 - due work must go on after any fault
                _log.exception("due work failed; it is tried again shortly")
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            self._planned = min(due, default=None)
            await self._sleep_until(self._planned)
            self._planned = None

    async def _sleep_until(self, instant: datetime | None) -> None:
        waits: set[asyncio.Task[object]] = {asyncio.create_task(self._changed.wait())}
        if instant is not None:
            waits.add(asyncio.create_task(self._clock.wait_until(instant)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

"""One stream's reports on their way to disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sparekey.server.link.reporting import Arrival, Taken, take_reports
from sparekey.server.link.sessions import Session
from sparekey.server.store.writer import Writer
from sparekey.v1 import agent_pb2
from sparekey.wire.errors import CallRefused

MOST_GATHERED = 64
"""Reports of one stream that may wait to be written; then its next frame is left unread."""


class ReportIntake:
    """Hands one stream's reports to the writer.

    No frame waits for the disk before the next is read. What a stream says of its keys
    is written at once, together with all that it said before. What it says of its guests
    and its host alone is written at once where the stream was quiet; else it gathers
    until `gap` has passed since the last write, so that an agent that has much to tell
    costs few writes.

    Args:
        session: The stream.
        writer: The writer.
        gap: In seconds.
        on_taken: Called with what became of reports, and whether there were results
            among them, once they are on disk.
    """

    __slots__ = (
        "_answering",
        "_due",
        "_free_at",
        "_gap",
        "_gathered",
        "_on_taken",
        "_session",
        "_urgent",
        "_writer",
        "_writing",
    )

    def __init__(
        self,
        session: Session,
        writer: Writer,
        gap: float,
        on_taken: Callable[[Session, Taken, bool], None],
    ) -> None:
        self._session = session
        self._writer = writer
        self._gap = gap
        self._on_taken = on_taken
        self._gathered: list[bytes] = []
        self._answering = self._urgent = False
        self._writing: asyncio.Future[Taken] | None = None
        self._due: asyncio.TimerHandle | None = None
        self._free_at = 0.0

    async def take(self, report: agent_pb2.Report) -> None:
        """Take a report in; waits only where too many gather already."""
        self._gathered.append(report.SerializeToString())
        if report.results:
            self._answering = self._urgent = True
        elif report.full or report.HasField("keyring"):
            self._urgent = True
        self._go_on()
        if len(self._gathered) >= MOST_GATHERED and self._writing is not None:
            await asyncio.wait([self._writing])

    async def finish(self) -> None:
        """Return once all is on disk."""
        self._urgent = True
        self._go_on()
        while self._writing is not None:
            await asyncio.wait([self._writing])

    def close(self) -> None:
        """Let go of what was not handed over: another stream may speak for the SVM now."""
        self._gathered.clear()
        self._no_longer_due()

    def _go_on(self) -> None:
        """Write what has gathered, now or when it is due."""
        if not self._gathered or self._writing is not None or self._session.ending is not None:
            return
        # The time of the stream's last frame: to ask for the time costs as much as the rest here.
        now = self._session.heard_at
        if self._urgent or len(self._gathered) >= MOST_GATHERED or now >= self._free_at:
            self._no_longer_due()
            self._write()
            self._free_at = now + self._gap
        elif self._due is None:
            self._due = asyncio.get_running_loop().call_at(self._free_at, self._fall_due)

    def _write(self) -> None:
        reports, answering = tuple(self._gathered), self._answering
        self._gathered.clear()
        self._answering = self._urgent = False
        try:
            self._writing = self._writer.begin(take_reports, Arrival(self._session.svm_id, reports))
        except CallRefused as refused:
            self._session.end(refused)
        else:
            self._writing.add_done_callback(lambda written: self._written(written, answering))

    def _written(self, written: asyncio.Future[Taken], answering: bool) -> None:
        self._writing = None
        if written.cancelled():
            return
        error = written.exception()
        if error is not None:
            self._session.end(error)
            return
        self._on_taken(self._session, written.result(), answering)
        self._go_on()

    def _fall_due(self) -> None:
        # Not by the time again: a timer may come a moment early.
        self._urgent = True
        self._go_on()

    def _no_longer_due(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

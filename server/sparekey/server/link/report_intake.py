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


class Gathering:
    """The streams whose reports gather: one timer looks after all of them.

    A timer for each would cost a busy stream as much as its reports do.

    Args:
        gap: So many seconds after one write of a stream's reports the next may begin.
        quiet: After so many seconds without a frame a stream is quiet.
    """

    def __init__(self, gap: float, quiet: float) -> None:
        self.gap = gap
        self.quiet = quiet
        self._intakes: set[ReportIntake] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, intake: ReportIntake) -> None:
        """Look after a stream's reports until they are handed over."""
        self._intakes.add(intake)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.quiet / 2, self._look)

    def discard(self, intake: ReportIntake) -> None:
        """Look after them no longer."""
        self._intakes.discard(intake)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        waiting, self._intakes = self._intakes, set()
        for intake in waiting:
            intake.go_on(now)


class ReportIntake:
    """Hands one stream's reports to the writer.

    No frame waits for the disk before the next is read. What a stream says of its keys
    is written at once, together with all that it said before. What it says of its guests
    and its host alone is written at once where nothing was for a gap; else it gathers
    until then, or until the stream is quiet. So an agent that has much to tell costs one
    write for each gap, and one more at the end.

    Args:
        session: The stream.
        writer: The writer.
        gathering: Looks after what gathers.
        on_taken: Called with what became of reports, and whether there were results
            among them, once they are on disk.
    """

    __slots__ = (
        "_answering",
        "_free_at",
        "_gathered",
        "_gathering",
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
        gathering: Gathering,
        on_taken: Callable[[Session, Taken, bool], None],
    ) -> None:
        self._session = session
        self._writer = writer
        self._gathering = gathering
        self._on_taken = on_taken
        self._gathered: list[bytes] = []
        self._answering = self._urgent = False
        self._writing: asyncio.Future[Taken] | None = None
        self._free_at = 0.0

    def take(self, report: agent_pb2.Report) -> None:
        """Take a report in; where the intake `is_full` then, wait for `room` before the next."""
        self._gathered.append(report.SerializeToString())
        if report.results:
            self._answering = self._urgent = True
        elif report.full or report.HasField("keyring"):
            self._urgent = True
        # The time of the last frame: to ask for the time costs as much as the rest here.
        self.go_on(self._session.heard_at)

    @property
    def is_full(self) -> bool:
        """Whether so many gather that no more should be read."""
        return len(self._gathered) >= MOST_GATHERED and self._writing is not None

    async def room(self) -> None:
        """Return once what is being written is on disk."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def finish(self) -> None:
        """Return once all is on disk."""
        self._urgent = True
        self.go_on(self._session.heard_at)
        while self._writing is not None:
            await asyncio.wait([self._writing])

    def close(self) -> None:
        """Let go of what was not handed over: another stream may speak for the SVM now."""
        self._gathered.clear()
        self._gathering.discard(self)

    def go_on(self, now: float) -> None:
        """Write what has gathered if it is time to, by the loop's time; else let it gather."""
        if not self._gathered or self._writing is not None or self._session.ending is not None:
            return
        early = now - self._session.heard_at >= self._gathering.quiet
        free_at = self._free_at - self._gathering.gap if early else self._free_at
        if self._urgent or len(self._gathered) >= MOST_GATHERED or now >= free_at:
            self._write()
            # An early one is made up for by the next, so that there are few in the long run.
            gap = self._gathering.gap
            self._free_at = min(max(now, self._free_at), now + gap) + gap
            self._gathering.discard(self)
        else:
            self._gathering.add(self)

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
        self.go_on(self._session.heard_at)

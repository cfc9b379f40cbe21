"""Pushing instructions to connected SVMs: what waits is read, and sent until it is answered.

The pusher holds no queue of its own. It is told that something waits for an SVM,
reads what that is, and sends the newest instruction of each slot; so ten tasks
for an SVM that was offline cost one push when it is back.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Sequence

import structlog

from sparekey.server.link import frames
from sparekey.server.link.sessions import STALLED_AFTER, LinkTiming, Session, Sessions
from sparekey.server.store.instructions import (
    StoredInstruction,
    load_pending,
    svms_with_pending,
)
from sparekey.server.store.keys import load_key_files
from sparekey.server.store.reader import Connection, Reader
from sparekey.server.store.svms import load_svms, save_svms
from sparekey.server.store.transaction import Transaction
from sparekey.server.store.writer import Writer
from sparekey.v1 import event_pb2

_log = structlog.get_logger()


PORTION = 250
"""To so many SVMs instructions are read and sent at once."""

MOST_UNANSWERED = 1500
"""While so many have not answered, further ones wait: sent all at once, their answers would come
all at once too, and the writing would stand still before and be behind afterwards."""


class Pusher:
    """Sends what waits to the SVMs that are connected.

    Args:
        sessions: The streams.
        reader: Reads what waits.
        writer: Writes down who does not answer.
        timing: The link's spans.
        portion: As `PORTION`.
        most_unanswered: As `MOST_UNANSWERED`, at least a portion.
    """

    def __init__(
        self,
        sessions: Sessions,
        reader: Reader,
        writer: Writer,
        timing: LinkTiming,
        *,
        portion: int = PORTION,
        most_unanswered: int = MOST_UNANSWERED,
    ) -> None:
        self._portion = portion
        self._most_unanswered = most_unanswered
        self._sessions = sessions
        self._reader = reader
        self._writer = writer
        self._timing = timing
        self._woken: set[str] = set()
        self._wake = asyncio.Event()
        self._nonces = itertools.count(1)
        self._unanswered: set[Session] = set()
        self._answered = asyncio.Event()

    def wake(self, svm_ids: Iterable[str]) -> None:
        """Something may wait for these SVMs."""
        connected = [svm_id for svm_id in svm_ids if svm_id in self._sessions]
        if connected:
            self._woken.update(connected)
            self._wake.set()

    @property
    def is_busy(self) -> bool:
        """Whether answers are on their way."""
        return bool(self._unanswered)

    def answered(self, session: Session, *, more: bool) -> None:
        """An SVM has answered instructions; `more` says whether others wait for it."""
        session.push_due_at = None
        session.misses = 0
        self.forget(session)
        if more:
            self.wake([session.svm_id])

    def forget(self, session: Session) -> None:
        """Wait for no answer over a stream: it has come, or the stream has ended."""
        self._unanswered.discard(session)
        self._answered.set()

    async def run(self) -> None:
        """Push until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            woken, self._woken = sorted(self._woken), set()
            for start in range(0, len(woken), self._portion):
                await self._few_unanswered()
                await self._push(woken[start : start + self._portion])

    async def _few_unanswered(self) -> None:
        """Return when there is room for more pushes, or none who are waited for seems to answer."""
        try:
            async with asyncio.timeout(self._timing.push_patience.total_seconds()):
                while len(self._unanswered) > self._most_unanswered - self._portion:
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            self._unanswered.clear()

    async def look_through(self) -> None:
        """Wake every connected SVM for which something waits: the safety net."""
        self.wake(await self._reader.read(svms_with_pending))

    def overdue(self, now: float) -> list[Session]:
        """Sessions whose push was not answered in time; they are pushed to again.

        Returns those that have just become stalled.
        """
        stalled = []
        for session in self._sessions:
            if session.push_due_at is None or session.push_due_at > now:
                continue
            session.push_due_at = None
            session.pushed_version = 0
            self.forget(session)
            session.misses += 1
            if session.misses == STALLED_AFTER:
                stalled.append(session)
            self.wake([session.svm_id])
        return stalled

    async def mark_stalled(self, session: Session) -> None:
        """Write down that an SVM does not answer."""
        await self._writer.write(mark_stalled, session.svm_id)

    async def _push(self, svm_ids: Sequence[str]) -> None:
        waiting, key_files = await self._reader.read(read_waiting, svm_ids)
        for session in self._sessions.among(waiting):
            instructions = [
                one for one in waiting[session.svm_id] if one.version > session.pushed_version
            ]
            # An answer to a part of what was sent leaves the rest due.
            if instructions or session.push_due_at is None:
                deadline = self._timing.push_deadline.total_seconds()
                session.push_due_at = asyncio.get_running_loop().time() + deadline
            if not instructions:
                continue
            session.pushed_version = instructions[-1].version
            self._unanswered.add(session)
            frame = frames.push(next(self._nonces), instructions, key_files)
            session.send_soon(frame)


def read_waiting(
    connection: Connection, svm_ids: Sequence[str]
) -> tuple[dict[str, list[StoredInstruction]], dict[str, bytes]]:
    """What waits for SVMs, and the key files that it names."""
    waiting = load_pending(connection, svm_ids)
    serials = {one.serial for some in waiting.values() for one in some if one.serial}
    return waiting, load_key_files(connection, serials)


def mark_stalled(transaction: Transaction, svm_ids: Sequence[str]) -> list[None]:
    """Mark SVMs as not answering, once until they answer."""
    records = load_svms(transaction.connection, svm_ids)
    newly = [record for record in records.values() if not record.push_stalled]
    for record in newly:
        record.push_stalled = True
        transaction.commit.svms.add(record.svm_id)
        transaction.add_event(
            event_pb2.EVENT_KIND_PUSH_STALLED,
            "Three pushes in a row got no answer: look at the SVM's agent.",
            actor="server",
            svm_id=record.svm_id,
        )
    save_svms(transaction.connection, newly)
    return [None] * len(svm_ids)

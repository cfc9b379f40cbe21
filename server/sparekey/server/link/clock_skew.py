"""Comparing SVMs' clocks with the server's (R82): informational, the server's clock decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from sparekey.runtime.clock import Clock
from sparekey.server.store.clock_skews import add_skew, remove_skews, skewed_svms
from sparekey.server.store.reader import Reader
from sparekey.server.store.transaction import Transaction
from sparekey.server.store.writer import Writer
from sparekey.v1 import agent_pb2, event_pb2

TOLERANCE = timedelta(minutes=5)
"""A larger difference is told (R82)."""

_MOST = 10**12
"""Seconds; no difference is shown as larger."""


@dataclass(frozen=True, slots=True)
class SkewChange:
    """An SVM's clock began to differ, or agrees again.

    Attributes:
        svm_id: The SVM.
        skew: By how much its clock is ahead; negative where it is behind.
    """

    svm_id: str
    skew: timedelta

    @property
    def differs(self) -> bool:
        """Whether it is beyond what is tolerated."""
        return abs(self.skew) > TOLERANCE


class ClockSkews:
    """Looks at the local times in agents' frames; writes only where something has changed."""

    def __init__(self, reader: Reader, writer: Writer, clock: Clock) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        # What is on disk, so that the many frames in which nothing is new cost nothing.
        self._differing: set[str] | None = None

    async def look(self, svm_id: str, frame: agent_pb2.ConnectRequest) -> None:
        """Compare a frame's local time, if it has one."""
        local_time = _local_time(frame)
        if local_time is None:
            return
        if self._differing is None:
            self._differing = await self._reader.read(skewed_svms)
        # By the numbers alone: what an agent sends need not be an instant that exists.
        seconds = local_time.seconds - int(self._clock.now().timestamp())
        change = SkewChange(svm_id, timedelta(seconds=max(-_MOST, min(_MOST, seconds))))
        if change.differs == (svm_id in self._differing):
            return
        await self._writer.write(note_skews, change)
        (self._differing.add if change.differs else self._differing.discard)(svm_id)


def note_skews(transaction: Transaction, changes: Sequence[SkewChange]) -> list[None]:
    """Write down, once for each change of state, whose clocks differ or agree again."""
    for change in changes:
        if change.differs:
            new = add_skew(transaction.connection, change.svm_id, transaction.now)
        else:
            new = remove_skews(transaction.connection, [change.svm_id])
        if new:
            transaction.add_event(
                event_pb2.EVENT_KIND_CLOCK_SKEW,
                _describe(change),
                actor="server",
                svm_id=change.svm_id,
            )
    return [None] * len(changes)


def _local_time(frame: agent_pb2.ConnectRequest) -> Timestamp | None:
    match frame.WhichOneof("frame"):
        case "hello":
            said: agent_pb2.Hello | agent_pb2.Report | agent_pb2.Heartbeat = frame.hello
        case "report":
            said = frame.report
        case "heartbeat":
            said = frame.heartbeat
        case _:
            return None
    return said.local_time if said.HasField("local_time") else None


def _describe(change: SkewChange) -> str:
    if not change.differs:
        return "The SVM's clock agrees with the server's again."
    seconds = abs(round(change.skew.total_seconds()))
    where = "ahead of" if change.skew > timedelta() else "behind"
    return (
        f"The SVM's clock is {seconds} seconds {where} the server's; keys begin and end there at"
        " wrong times, so set it."
    )

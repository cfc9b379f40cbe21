"""Comparing SVMs' clocks with the server's (R82): informational, the server's clock decides.

A clock that differs is told. One that jumps, so that it differs by more than a day more or less
than it did, voids its SVM's keys (R54); what was a jump of the server's own clock never does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from sparekey.licensing.story import in_words
from sparekey.runtime.clock import Clock
from sparekey.server.life.voiding import void_keys
from sparekey.server.store.clock import high_water
from sparekey.server.store.clock_skews import load_skews, remove_skews, save_skew
from sparekey.server.store.reader import Connection, Reader
from sparekey.server.store.transaction import Transaction
from sparekey.server.store.writer import Writer
from sparekey.v1 import event_pb2

TOLERANCE = timedelta(minutes=5)
"""A larger difference is told (R82)."""

JUMP = timedelta(hours=24)
"""A clock that was moved by more than this voids the keys of its SVM (R82)."""

_TOLERANCE_SECONDS, _JUMP_SECONDS = TOLERANCE.total_seconds(), JUMP.total_seconds()

_MOST = 10**12
"""Seconds; no difference is shown as larger."""


@dataclass(frozen=True, slots=True)
class SkewChange:
    """An SVM's clock began to differ, differs by another span, or agrees again.

    Attributes:
        svm_id: The SVM.
        skew: By how much its clock is ahead; negative where it is behind.
        jump: By how much it was moved since it was looked at last, where that is more than
            `JUMP`; zero otherwise.
    """

    svm_id: str
    skew: timedelta
    jump: timedelta = timedelta()

    @property
    def differs(self) -> bool:
        """Whether it is beyond what is tolerated."""
        return abs(self.skew) > TOLERANCE


class SkewBook:
    """By how much clocks differ, as it is noted, and what a clock says against that.

    Args:
        noted: By SVM whose clock differs, by how many seconds it is ahead; None where nobody knows.
            SVMs that are not in it agree with the server.
        own_offset: The server's clock less one that nobody can set, in seconds.
        holds: Whether the server's clock is known not to have jumped since `noted` was written.
    """

    def __init__(
        self, noted: dict[str, int | None], own_offset: float = 0, *, holds: bool = True
    ) -> None:
        self._noted = noted
        self._own_offset = own_offset
        # The SVMs that were looked at since the server's clock was set, or may have been: what
        # the others said before is no measure. None: it is, for all of them.
        self._measured: set[str] | None = None if holds else set()

    def judge(self, svm_id: str, skew: int, own_offset: float) -> SkewChange | None:
        """What is new if an SVM's clock is `skew` seconds ahead; None where nothing is.

        The book is as before until `note` is called.
        """
        before = self._noted.get(svm_id, 0)
        measured = self._is_measured(svm_id, own_offset)
        moved = skew - before if before is not None and measured else 0
        jump = timedelta(seconds=moved) if abs(moved) > _JUMP_SECONDS else timedelta()
        change = SkewChange(svm_id, timedelta(seconds=skew), jump)
        if change.differs != (svm_id in self._noted):
            return change
        if not change.differs or (before is not None and abs(skew - before) <= _TOLERANCE_SECONDS):
            return None
        return change

    def note(self, change: SkewChange) -> None:
        """Take in what is on disk now."""
        if change.differs:
            self._noted[change.svm_id] = int(change.skew.total_seconds())
        else:
            self._noted.pop(change.svm_id, None)

    def forget(self, svm_ids: Collection[str]) -> None:
        """Forget what is noted of SVMs that were forgotten, as the disk does."""
        for svm_id in svm_ids:
            self._noted.pop(svm_id, None)

    def _is_measured(self, svm_id: str, own_offset: float) -> bool:
        if abs(own_offset - self._own_offset) > _TOLERANCE_SECONDS:
            self._own_offset, self._measured = own_offset, set()
        if self._measured is None or svm_id in self._measured:
            return True
        self._measured.add(svm_id)
        return False


class ClockSkews:
    """Looks at the local times that agents say; writes only where something has changed.

    A jump is told from the difference that was noted last, which is on disk: so one is noticed
    too that came while the SVM was away, or while the server was down.

    Args:
        reader: Where to read.
        writer: Where to write.
        clock: The server's time.
        monotonic: Seconds that no setting of the server's own clock touches.
    """

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._monotonic = monotonic
        self._book: SkewBook | None = None

    async def load(self) -> None:
        """Read what was noted before this start, ahead of anything that moves the clock's mark."""
        now = self._clock.now()
        noted, holds = await self._reader.read(_look_back, now)
        self._book = SkewBook(noted, now.timestamp() - self._monotonic(), holds=holds)

    def look(self, svm_id: str, local_time: Timestamp) -> SkewChange | None:
        """Compare the local time that an SVM said; what is new about it and to be noted."""
        assert self._book is not None, "load comes first"
        now = self._clock.now().timestamp()
        # By the numbers alone: what an agent sends need not be an instant that exists.
        skew = max(-_MOST, min(_MOST, local_time.seconds - int(now)))
        return self._book.judge(svm_id, skew, now - self._monotonic())

    async def note(self, change: SkewChange) -> None:
        """Write down what `look` found."""
        assert self._book is not None, "load comes first"
        await self._writer.write(note_skews, change)
        self._book.note(change)

    def forget(self, svm_ids: Collection[str]) -> None:
        """Forget SVMs that the server no longer knows."""
        if self._book is not None:
            self._book.forget(svm_ids)


def _look_back(connection: Connection, now: datetime) -> tuple[dict[str, int | None], bool]:
    """What is noted, and whether the server's clock cannot have jumped since it ran last.

    After more than a day nobody can tell a long rest from a clock that was set.
    """
    mark = high_water(connection)
    return load_skews(connection), mark is None or -TOLERANCE <= now - mark <= JUMP


def note_skews(transaction: Transaction, changes: Sequence[SkewChange]) -> list[None]:
    """Write down, once for each change of state, whose clocks differ or agree again."""
    connection = transaction.connection
    for change in changes:
        if change.differs:
            seconds = int(change.skew.total_seconds())
            new = save_skew(connection, change.svm_id, transaction.now, seconds)
        else:
            new = remove_skews(connection, [change.svm_id])
        if new:
            transaction.add_event(
                event_pb2.EVENT_KIND_CLOCK_SKEW,
                _describe(change),
                actor="server",
                svm_id=change.svm_id,
            )
        if change.jump:
            void_keys(transaction, change.svm_id, change.jump)
    return [None] * len(changes)


def _describe(change: SkewChange) -> str:
    if not change.differs:
        return "The SVM's clock agrees with the server's again."
    where = "ahead of" if change.skew > timedelta() else "behind"
    return (
        f"The SVM's clock is {in_words(abs(change.skew))} {where} the server's; keys begin and end"
        " there at wrong times, so set it."
    )

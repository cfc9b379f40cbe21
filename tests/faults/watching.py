"""Watching over what is written to an SVM's disk: what must never be there, and what was."""

from __future__ import annotations

import errno

from sparekey.agent.keyring_record import (
    InstructionResult,
    KeyringRecord,
    MemoryKeyringStorage,
    NumberedChange,
    ResultState,
)
from sparekey.licensing.keyring import Slot


class DiskWatch:
    """Sees one SVM's records in the order in which they came to its disk.

    Attributes:
        record: The newest.
        applied: Every version that was applied, by slot.
        changes: Every change that was written, by revision.
        twice: What was followed a second time.
        wrong: What an older version or another history overwrote.
    """

    def __init__(self) -> None:
        super().__init__()
        self.record = KeyringRecord()
        self.applied: set[tuple[Slot, int]] = set()
        self.changes: dict[int, NumberedChange] = {}
        self.twice: list[str] = []
        self.wrong: list[str] = []

    def see(self, record: KeyringRecord) -> None:
        """Take in what the disk holds now; seeing the same again changes nothing."""
        for slot, result in record.results.items():
            self._see_result(self.record.results.get(slot), result)
        for slot in self.record.results.keys() - record.results.keys():
            self.wrong.append(f"the result of {slot} was forgotten")
        if record.revision < self.record.revision:
            self.wrong.append(f"revision {record.revision} after {self.record.revision}")
        for change in record.changes:
            if self.changes.setdefault(change.revision, change) != change:
                self.wrong.append(f"revision {change.revision} was given to two changes")
        self.record = record

    def _see_result(self, before: InstructionResult | None, after: InstructionResult) -> None:
        if before == after:
            return
        if before is not None and after.version < before.version:
            self.wrong.append(f"{after} overwrote the newer {before}")
        if before is not None and after.version == before.version:
            self.twice.append(f"{before} was followed again: {after}")
        if after.state is ResultState.APPLIED:
            if (after.slot, after.version) in self.applied:
                self.twice.append(f"{after} was applied again")
            self.applied.add((after.slot, after.version))


class WatchedStorage(DiskWatch, MemoryKeyringStorage):
    """A disk in memory that is watched over, and that fails while `full` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False

    def save(self, record: KeyringRecord) -> None:
        """Keep the record.

        Raises:
            OSError: the disk is full.
        """
        if self.full:
            raise OSError(errno.ENOSPC, "no space left on device")
        self.see(record)

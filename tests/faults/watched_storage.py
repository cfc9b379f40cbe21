"""An agent's disk that fails on command and notices what must never be written."""

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


class WatchedStorage(MemoryKeyringStorage):
    """Keeps the record as a disk would, and watches over what is written.

    Attributes:
        full: While set, nothing can be written.
        applied: Every version that was applied, by slot.
        changes: Every change that was written, by revision.
        twice: What was followed a second time.
        wrong: What an older version or another history overwrote.
    """

    def __init__(self) -> None:
        super().__init__()
        self.full = False
        self.applied: set[tuple[Slot, int]] = set()
        self.changes: dict[int, NumberedChange] = {}
        self.twice: list[str] = []
        self.wrong: list[str] = []

    def save(self, record: KeyringRecord) -> None:
        """Keep the record.

        Raises:
            OSError: the disk is full.
        """
        if self.full:
            raise OSError(errno.ENOSPC, "no space left on device")
        for slot, result in record.results.items():
            self._watch_result(self.record.results.get(slot), result)
        for slot in self.record.results.keys() - record.results.keys():
            self.wrong.append(f"the result of {slot} was forgotten")
        if record.revision < self.record.revision:
            self.wrong.append(f"revision {record.revision} after {self.record.revision}")
        for change in record.changes:
            if self.changes.setdefault(change.revision, change) != change:
                self.wrong.append(f"revision {change.revision} was given to two changes")
        super().save(record)

    def _watch_result(self, before: InstructionResult | None, after: InstructionResult) -> None:
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

"""What agents' processes wrote to their disks, byte for byte, kept by themselves beside them.

Each start of a process has a journal of its own. One entry is one write to a file, so that a
SIGKILL leaves it whole or, at the journal's very end, in part.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from faults.watching import DiskWatch
from sparekey.agent.keyring_document import decode_record
from sparekey.licensing.key_files import TrustedSigners

_HEAD = struct.Struct(">cHI")


class Noted(Enum):
    """What an entry tells."""

    WRITTEN = b"W"
    """A keyring file came to stand on the disk."""
    FOUND = b"F"
    """It stood there when the process started."""
    REFUSED = b"R"
    """It could not be written."""
    REPEATED = b"A"
    """An instruction came that had been followed before."""


class Journal:
    """Writes one process's journal."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )

    def note(self, what: Noted, svm_id: str, content: bytes = b"") -> None:
        """Add an entry."""
        name = svm_id.encode()
        os.write(self._descriptor, _HEAD.pack(what.value, len(name), len(content)) + name + content)


@dataclass(slots=True)
class Seen:
    """What all journals of a run tell.

    Attributes:
        disks: By SVM, what its disk was.
        counts: How many entries there are of each kind.
    """

    disks: dict[str, DiskWatch] = field(default_factory=dict)
    counts: Counter[Noted] = field(default_factory=Counter)

    def see_file(self, svm_id: str, path: Path, trusted: TrustedSigners) -> None:
        """Look at an SVM's disk itself, after its agent has ended."""
        disk = self.disks.setdefault(svm_id, DiskWatch())
        if path.exists():
            disk.see(decode_record(path.read_bytes(), trusted))


def read_journals(folder: Path, trusted: TrustedSigners) -> Seen:
    """Read every journal, in the order of the processes' starts."""
    seen = Seen()
    for path in sorted(folder.iterdir()):
        for what, svm_id, content in _entries(path.read_bytes()):
            seen.counts[what] += 1
            if content:
                disk = seen.disks.setdefault(svm_id, DiskWatch())
                disk.see(decode_record(content, trusted))
    return seen


def _entries(journal: bytes) -> Iterator[tuple[Noted, str, bytes]]:
    start = 0
    while start + _HEAD.size <= len(journal):
        what, name_length, length = _HEAD.unpack_from(journal, start)
        name = start + _HEAD.size
        content = name + name_length
        start = content + length
        if start > len(journal):
            return  # the process was killed while it wrote this
        yield Noted(what), journal[name:content].decode(), journal[content:start]

"""A disk that can be filled: a small file system where one may be mounted, else a limit."""

from __future__ import annotations

import contextlib
import errno
import resource
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

_PIECE = bytes(1 << 20)


class SmallDisk:
    """A folder on a file system of its own in memory, which outlasts the processes on it.

    Without the right to mount, a full disk is a limit on the size of its processes' files.

    Args:
        folder: Is made, and unmounted at the end.
        mebibytes: How much it holds.
    """

    def __init__(self, folder: Path, mebibytes: int) -> None:
        self.folder = folder
        self._mebibytes = mebibytes
        self._ballast = folder / "ballast"
        self.is_mounted = False

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        options = f"size={self._mebibytes}m,mode=700"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        with contextlib.suppress(OSError):
            done = subprocess.run(command, capture_output=True, check=False)
            self.is_mounted = done.returncode == 0
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_mounted:
            # Lazily: a process that is just being killed may still hold a file.
            subprocess.run(["umount", "--lazy", str(self.folder)], check=False)

    def fill(self, pids: Iterable[int]) -> None:
        """Leave no room."""
        if not self.is_mounted:
            limit_files(pids, 0)
            return
        with self._ballast.open("ab", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(_PIECE)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def free(self, pids: Iterable[int]) -> None:
        """Give the room back."""
        if not self.is_mounted:
            limit_files(pids, None)
        self._ballast.unlink(missing_ok=True)


def limit_files(pids: Iterable[int], most: int | None) -> None:
    """Let no file of running processes be written beyond so many bytes; None for no limit."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if most is None else most, hard))


def with_children(pid: int) -> Iterator[int]:
    """A process and those that it has started."""
    yield pid
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            yield from with_children(int(child))

"""Replacing a file so that a crash leaves either the old content or the new one, whole."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_MODE = 0o600


def replace_durably(path: Path, content: bytes) -> None:
    """Give the file this content, readable by its owner only; durable when this returns.

    The caller must be the only one who writes in the folder.

    Raises:
        OSError: it could not be written. The old content still stands, or, where only the
            folder could not be synchronised, perhaps the new.
    """
    fresh = path.with_name(path.name + ".new")
    try:
        _write(fresh, content)
        fresh.replace(path)
    except OSError:
        # The room that a half-written file takes may be all that is missing.
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    synchronise_folder(path.parent)


def synchronise_folder(folder: Path) -> None:
    """Make the folder's own entries durable: what was made, renamed or removed in it.

    Raises:
        OSError: it could not be done.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
    with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - it is a descriptor
        os.fchmod(descriptor, _MODE)  # a leftover may have had other rights
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(descriptor)

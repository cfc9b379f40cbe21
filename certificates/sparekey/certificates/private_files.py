"""Files that hold private keys: their owner alone may read them, or they are refused."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from sparekey.runtime.startup import StartupRefused

_OTHERS = 0o077


def read_private(path: Path) -> bytes:
    """The content of a file that only its owner may read.

    Raises:
        StartupRefused: others may read it, or it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - it is a descriptor
            # The mode of what was opened, so that no other file can slip in between.
            if stat.S_IMODE(os.fstat(descriptor).st_mode) & _OTHERS:
                raise StartupRefused(
                    f"{path} holds a private key and others may read it; run: chmod 600 {path}"
                )
            return file.read()
    except OSError as error:
        raise StartupRefused(
            f"cannot read {path} ({_reason(error)}); mend or name another"
        ) from None


def read_public(path: Path) -> bytes:
    """The content of a file that holds no secret.

    Raises:
        StartupRefused: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartupRefused(
            f"cannot read {path} ({_reason(error)}); mend or name another"
        ) from None


def write_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Give a file its content in one step; a reader sees the old content or the new one.

    Raises:
        StartupRefused: it cannot be written.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(
            fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode
        )
        with open(descriptor, "wb") as file:  # noqa: PTH123 - it is a descriptor
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise StartupRefused(
            f"cannot write {path} ({_reason(error)}); name another folder"
        ) from None


def _reason(error: OSError) -> str:
    return (error.strerror or "not possible").lower()

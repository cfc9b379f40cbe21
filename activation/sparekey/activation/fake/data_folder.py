"""The folder of one fake: made, proved writable, and held against a second one."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparekey.runtime.startup import StartupRefused, writable_folder

SIGNING_KEY = "signing-key.pem"
VENDOR_KEYS = "vendor-keys.json"
CATALOGUE = "catalogue.json"


@contextmanager
def held_folder(path: Path) -> Iterator[Path]:
    """Use the folder alone; the lock ends with the program, however that ends.

    Raises `StartupRefused` where it cannot be written or another fake uses it.
    """
    folder = writable_folder(path)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartupRefused(
                f"another fake activation server uses the folder {folder}; stop it or name"
                " another folder"
            ) from None
        yield folder
    finally:
        os.close(descriptor)

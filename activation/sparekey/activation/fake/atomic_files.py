"""Files that are either the old ones or the new ones, whenever somebody looks."""

import os
import tempfile
from pathlib import Path


def replace_file(path: Path, content: bytes, *, mode: int) -> None:
    """Put the content in place of the file in one step.

    It outlives the end of the program at any instant; against a power cut it is not made.

    Raises `OSError`; the old file then stays.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            # mkstemp starts with 0600, so a secret is never readable on the way.
            os.fchmod(descriptor, mode)
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

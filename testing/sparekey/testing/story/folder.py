"""The story's folder: emptied at the start if it is a former story's, and nobody else's."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from sparekey.testing.story.failures import StoryFailed

_MARK = ".sparekey-story"
_MARK_TEXT = "A story of Sparekey keeps its files here and empties this folder when it starts.\n"


@contextmanager
def own_folder(folder: Path) -> Iterator[Path]:
    """An empty folder that no other story uses meanwhile.

    Raises:
        StoryFailed: the folder holds something else, is in use, or cannot be written.
    """
    try:
        mark = _claim(folder)
    except OSError as error:
        reason = (error.strerror or "not possible").lower()
        raise StoryFailed(
            f"cannot use the folder {folder} ({reason}); name another with --folder"
        ) from None
    with mark:  # closing it ends the claim
        yield folder.resolve()


def _claim(folder: Path) -> TextIO:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _MARK
    if not path.is_file() and any(folder.iterdir()):
        raise StoryFailed(
            f"will not empty {folder}: it holds files that no story put there; name another with"
            " --folder"
        )
    mark = path.open("a")
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        mark.close()
        raise StoryFailed(
            f"another story runs in {folder}; end it, or name another folder with --folder"
        ) from None
    mark.truncate(0)
    mark.write(_MARK_TEXT)
    mark.flush()
    _empty(folder)
    return mark


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.name == _MARK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()

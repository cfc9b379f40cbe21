"""Finds codes, tokens and private keys in what programs have logged and written into histories."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

SECRETS = {
    "an activation code": re.compile(
        rb"(?<![A-Za-z0-9*])(?:[A-Z0-9]{5}-){3}[A-Z0-9]{5}(?![A-Z0-9])"
    ),
    "a token": re.compile(rb"sparekey-(?:token|join)-[A-Za-z0-9_-]{20,}"),
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}


def search(folder: Path) -> list[str]:
    """What was told where, below a folder, one line each."""
    found = []
    for path, content in _told(folder):
        for what, pattern in SECRETS.items():
            if pattern.search(content):
                found.append(f"{path} holds {what}")
    return found


def _told(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(folder.rglob("*.log")):
        if path.is_file():
            yield path, path.read_bytes()
    for path in sorted(folder.rglob("*.db")):
        for row in _history(path):
            yield path, row


def _history(path: Path) -> list[bytes]:
    """The history, who has access, and the answers that are kept for retries."""
    rows = []
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            for table in ("events", "tokens", "certificates", "requests"):
                told = database.execute(f"SELECT * FROM {table}")
                rows += [b" ".join(_bytes(value) for value in row) for row in told]
    except sqlite3.Error:
        return rows  # of another kind, or broken on purpose by a test
    return rows


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()

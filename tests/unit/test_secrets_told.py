"""The search that follows each run finds what it is for (R79)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from secrets_told import search

from sparekey.runtime.logs import redact_text

TOLD = [
    b"code TEST0-ABCDE-12345-ZZ9ZZ refused",
    b"authorization: Bearer sparekey-token-abcdefghijklmnopqrstuv",
    b"sparekey-join-ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    b"-----BEGIN EC PRIVATE KEY-----",
]


# Neither the log nor the database may be found by the search after this very run.
@pytest.mark.parametrize("secret", TOLD)
def test_R79_it_finds_a_secret_in_a_log(tmp_path: Path, secret: bytes) -> None:
    log = tmp_path / "deep" / "server.log"
    log.parent.mkdir()
    log.write_bytes(b"one line\n" + secret + b"\n")
    assert len(search(tmp_path)) == 1
    log.write_bytes(redact_text(secret.decode() + "\nMII=\n-----END EC PRIVATE KEY-----").encode())
    assert search(tmp_path) == []


@pytest.mark.parametrize("secret", TOLD)
def test_R79_it_finds_a_secret_in_a_history(tmp_path: Path, secret: bytes) -> None:
    path = tmp_path / "sparekey.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE events (cursor INTEGER, content BLOB)")
        database.execute("INSERT INTO events VALUES (1, ?)", (b"\x0a\x05" + secret,))
        database.commit()
    assert len(search(tmp_path)) == 1
    path.unlink()


def test_R79_a_cut_code_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "agent.log").write_text(redact_text("the code TEST0-ABCDE-12345-ZZ9ZZ is known"))
    assert search(tmp_path) == []

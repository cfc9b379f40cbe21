"""Databases for the server's parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from sparekey.server.store.database import open_database, sqlite_url


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A new embedded database in a file."""
    opened = open_database(sqlite_url(tmp_path))
    yield opened
    opened.dispose()


@pytest.fixture(scope="module")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One database in memory's place for the many examples of a property."""
    opened = open_database(sqlite_url(tmp_path_factory.mktemp("database")))
    yield opened
    opened.dispose()

"""Sees whether stored state has changed, cheaply enough to look after every few calls."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

_IGNORED = {"svms": {"last_seen_at"}}
"""When an agent was last heard of may change at any time, also by frames that are refused."""


class Watch(Protocol):
    """Says how often what has changed; equal answers mean that nothing has changed between."""

    def changes(self) -> Mapping[str, int]:
        """A number for each part of the state; it differs after each change of that part."""
        ...


class StoreWatch:
    """Counts the changes of a server's database by triggers of its own.

    Args:
        path: The database; its tables are there.
    """

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, timeout=30)
        self._version = -1
        self._changes: dict[str, int] = {}
        self._install()

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query finds."""
        return self._database.execute(query, values).fetchall()

    def column(self, query: str, *values: object) -> list[Any]:
        """The first column of what a query finds."""
        return [row[0] for row in self.rows(query, *values)]

    def changes(self) -> Mapping[str, int]:
        """By table, how many rows were written with other content than before."""
        # The version costs next to nothing and differs after each commit of another connection.
        version = self._database.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            self._version = version
            self._changes = dict(self._database.execute("SELECT name, count FROM fuzz_changes"))
        return self._changes

    def close(self) -> None:
        """Let the database go."""
        self._database.close()

    def _install(self) -> None:
        tables = self.column(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        self._database.execute("CREATE TABLE fuzz_changes (name TEXT PRIMARY KEY, count INTEGER)")
        for table in tables:
            self._database.execute("INSERT INTO fuzz_changes VALUES (?, 0)", (table,))
            columns = self.column(f"SELECT name FROM pragma_table_info('{table}')")
            watched = [name for name in columns if name not in _IGNORED.get(table, ())]
            differs = " OR ".join(f'OLD."{name}" IS NOT NEW."{name}"' for name in watched)
            for operation, condition in (
                ("INSERT", ""),
                ("DELETE", ""),
                ("UPDATE", f"WHEN {differs}"),
            ):
                self._database.execute(
                    f"CREATE TRIGGER fuzz_{table}_{operation} AFTER {operation} ON {table}"
                    f" {condition} BEGIN UPDATE fuzz_changes SET count = count + 1"
                    f" WHERE name = '{table}'; END"
                )


class FileWatch:
    """Looks at a small file, such as the catalogue of the fake."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def changes(self) -> Mapping[str, int]:
        """A checksum of the file; 0 while there is none."""
        try:
            return {self._path.name: zlib.crc32(self._path.read_bytes())}
        except FileNotFoundError:
            return {self._path.name: 0}

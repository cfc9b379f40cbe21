"""Statements for many rows, compiled once for each dialect and size.

Core works out every parameter of every row anew, and a driver steps through an
executemany row by row; both cost more than the row itself. Here one statement
carries many rows, its values given as the database stores them and in the order
of the columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Delete, Insert, Select, Table, Update
from sqlalchemy.dialects import sqlite

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_MOST_ROWS = 128
"""Rows in one statement; sizes are powers of two, so few statements are ever compiled."""

_MOST_VALUES = 1024
"""Values that one look-up names at the most."""


def stored_instant(instant: datetime | None) -> int | None:
    """An instant as it is stored: whole microseconds since 1970."""
    if instant is None:
        return None
    span = instant - _EPOCH
    return (span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds


def read_instant(stored: int | None) -> datetime | None:
    """A stored instant, in UTC."""
    return None if stored is None else _EPOCH + timedelta(0, 0, stored)


def read_set_instant(stored: int) -> datetime:
    """A stored instant that is always set, in UTC."""
    return _EPOCH + timedelta(0, 0, stored)


def upsert(table: Table, key: Sequence[str], changing: Sequence[str]) -> Insert:
    """An insert that changes some columns where a row with the same key is there.

    The same words in SQLite and PostgreSQL, but no part of the generic insert.
    """
    statement = sqlite.insert(table)
    changes = {name: statement.excluded[name] for name in changing}
    return statement.on_conflict_do_update(index_elements=key, set_=changes)


class BulkInsert:
    """An insert (or insert-or-update) of many rows.

    Args:
        statement: The insert, with any ON CONFLICT clause.
        columns: The columns in the order in which rows give them.
    """

    def __init__(self, statement: Insert, columns: Sequence[str]) -> None:
        self._statement = statement
        self._columns = tuple(columns)
        self._compiled: dict[tuple[str, int], str] = {}

    def run(self, connection: Connection, rows: Sequence[Sequence[object]]) -> None:
        """Insert the rows in order; none is fine."""
        start = 0
        while start < len(rows):
            size = _power_of_two_in(min(len(rows) - start, _MOST_ROWS))
            part = rows[start : start + size]
            values = tuple(chain.from_iterable(part))
            connection.exec_driver_sql(self._for(connection, size), values)
            start += size

    def _for(self, connection: Connection, size: int) -> str:
        key = (connection.dialect.name, size)
        found = self._compiled.get(key)
        if found is None:
            compiled = self._statement.compile(
                dialect=connection.dialect, column_keys=self._columns
            )
            row = f"({', '.join('?' for _ in self._columns)})"
            sql = str(compiled)
            if compiled.positiontup != list(self._columns) or row not in sql:
                raise TypeError(f"the driver of {connection.dialect.name} is not supported")
            found = self._compiled[key] = sql.replace(row, ", ".join([row] * size), 1)
        return found


class BulkChange:
    """An update or delete carried out for many rows.

    Args:
        statement: Its values and conditions are bound parameters.
        names: The parameters in the order in which rows give them.
    """

    def __init__(self, statement: Update | Delete, names: Sequence[str]) -> None:
        self._statement = statement
        self._names = tuple(names)
        self._compiled: dict[str, str] = {}

    def run(self, connection: Connection, rows: Sequence[tuple[object, ...]]) -> None:
        """Carry it out for each row; none is fine."""
        if rows:
            connection.exec_driver_sql(self._for(connection), list(rows))

    def _for(self, connection: Connection) -> str:
        found = self._compiled.get(connection.dialect.name)
        if found is None:
            compiled = self._statement.compile(dialect=connection.dialect)
            if compiled.positiontup != list(self._names):
                raise TypeError(f"name the parameters in this order: {compiled.positiontup}")
            found = self._compiled[connection.dialect.name] = str(compiled)
        return found


class Lookup:
    """A select of the rows for many values of one column.

    Args:
        statement: Has the condition `column.in_(bindparam("values", expanding=True))`
            and no other parameter.
    """

    def __init__(self, statement: Select[Any]) -> None:
        self._statement = statement
        self._compiled: dict[tuple[str, int], str] = {}

    def rows(self, connection: Connection, values: Iterable[str]) -> Iterator[tuple[Any, ...]]:
        """The rows as the driver gives them: instants as they are stored."""
        wanted = sorted(set(values))
        for start in range(0, len(wanted), _MOST_VALUES):
            part = wanted[start : start + _MOST_VALUES]
            size = 1 << (len(part) - 1).bit_length()
            padded = tuple(part) + (part[-1],) * (size - len(part))
            result = connection.exec_driver_sql(self._for(connection, size), padded)
            yield from result.cursor.fetchall() if result.cursor is not None else ()
            result.close()

    def _for(self, connection: Connection, size: int) -> str:
        key = (connection.dialect.name, size)
        found = self._compiled.get(key)
        if found is None:
            compiled = self._statement.params(values=[""] * size).compile(
                dialect=connection.dialect, compile_kwargs={"render_postcompile": True}
            )
            found = self._compiled[key] = str(compiled)
        return found


def _power_of_two_in(number: int) -> int:
    return 1 << (number.bit_length() - 1)

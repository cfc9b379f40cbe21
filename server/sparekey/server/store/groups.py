"""Writing a group of requests in one transaction, committed once.

A commit to disk costs far more than the rows in it. So calls do not commit for
themselves: what waits is applied in order of arrival in one transaction, and
only after its commit are the callers answered. Operations take their requests
in batches, so a group of sixty calls costs few statements.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from sparekey.server.store.commits import Commit
from sparekey.server.store.transaction import Transaction
from sparekey.v1 import error_pb2
from sparekey.wire.errors import CallRefused

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")

Operation = Callable[[Transaction, Sequence[_Request]], Sequence[_Answer | CallRefused]]
"""Applies requests in order; one answer for each. A refusal changes nothing of its request.

An operation may be run again after a rollback, so it must not touch anything
but its transaction.
"""

Run = tuple[Operation[Any, Any], list[Any]]
"""Requests of one operation that came one after the other."""

_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
    }
)
"""What SQLite says where nobody could write now: no request is to blame."""

_log = structlog.get_logger()


class GroupWriter:
    """Writes groups over one connection; for one thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(sparekey_writes=True)
        # One connection for life: taking one from the pool costs as much as a statement.
        self._connection: Connection | None = None

    def write(self, runs: Sequence[Run], now: datetime) -> tuple[list[Any], Commit]:
        """Apply and commit a group; return an answer for each request, in order.

        An answer that is an exception is its request's failure.
        """
        try:
            return self._transact(runs, now)
        except Exception as error:  # noqa: BLE001 - whatever failed, each caller gets an answer
            size = sum(len(requests) for _, requests in runs)
            problem = _unavailable(error)
            if problem is not None:
                # At once: each alone would only wait for the same lock or disk again.
                _log.error("the storage cannot be written", problem=problem)
                return [_refusal() for _ in range(size)], Commit()
            if size == 1:
                return [error], Commit()
        # One bad request must not fail its whole group: each alone.
        answers: list[Any] = []
        commit = Commit()
        for operation, requests in runs:
            for request in requests:
                answered, own = self.write([(operation, [request])], now)
                answers.extend(answered)
                commit.merge(own)
        return answers, commit

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()

    def _transact(self, runs: Sequence[Run], now: datetime) -> tuple[list[Any], Commit]:
        if self._connection is None or self._connection.closed:
            self._connection = self._engine.connect()
        answers: list[Any] = []
        with self._connection.begin():
            transaction = Transaction(self._connection, now)
            for operation, requests in runs:
                answers.extend(operation(transaction, requests))
            transaction.flush()
        return answers, transaction.commit


def _unavailable(error: Exception) -> str | None:
    """What keeps the storage from being written, where that is the failure."""
    if not isinstance(error, OperationalError) or not isinstance(error.orig, sqlite3.Error):
        return None
    # An extended code holds the plain one in its lowest byte.
    return str(error.orig) if error.orig.sqlite_errorcode & 0xFF in _UNAVAILABLE else None


def _refusal() -> CallRefused:
    return CallRefused(
        error_pb2.ERROR_REASON_STORAGE_UNAVAILABLE,
        "the storage cannot be written now; nothing was changed. Free disk space or look at"
        " the server's log, then try again",
    )

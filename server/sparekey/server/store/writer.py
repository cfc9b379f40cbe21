"""The one writer: takes what waits, writes it in one transaction, commits once.

A commit to disk costs far more than the rows in it. So calls do not commit for
themselves: a single thread takes everything that waits, applies it in order of
arrival and commits the group; only then are the callers answered. Operations
take their requests in batches, so a group of sixty calls costs few statements.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from sparekey.runtime.clock import Clock
from sparekey.server.store.commits import Commit, CommitFeed
from sparekey.server.store.transaction import Transaction
from sparekey.v1 import error_pb2
from sparekey.wire.edge import shutting_down
from sparekey.wire.errors import CallRefused

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")

Operation = Callable[[Transaction, Sequence[_Request]], Sequence[_Answer | CallRefused]]
"""Applies requests in order; one answer for each. A refusal changes nothing of its request.

An operation may be run again after a rollback, so it must not touch anything
but its transaction.
"""

_MAX_GROUP = 1024

_REST_SECONDS = 0.005
"""How long a group gathers; about what its commit to disk takes."""

_log = structlog.get_logger()

_Waiting = tuple[Operation[Any, Any], Any, asyncio.Future[Any]]


class Writer:
    """Writes to the database from one thread; belongs to the loop that starts it."""

    def __init__(self, engine: Engine, clock: Clock, feed: CommitFeed) -> None:
        self._engine = engine.execution_options(sparekey_writes=True)
        self._clock = clock
        self._feed = feed
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self._connection: Connection | None = None
        # How many the last group held: whether calls come in numbers.
        self._last_group = 1

    def start(self) -> None:
        """Start the writer's thread."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="sparekey-writer", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Write what waits, then end the thread."""
        self._stopping = True
        self._queue.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    async def write(self, operation: Operation[_Request, _Answer], request: _Request) -> _Answer:
        """Apply the operation to the request; return its answer once it is on disk.

        Raises:
            CallRefused: the operation refused the request, or the storage cannot
                be written.
        """
        if self._stopping or self._loop is None:
            raise shutting_down()
        answered: asyncio.Future[_Answer] = self._loop.create_future()
        self._queue.put((operation, request, answered))
        return await answered

    def _run(self) -> None:
        stopped = False
        while not stopped:
            group, stopped = self._take_group()
            if group:
                self._write_group(group)

    def _take_group(self) -> tuple[list[_Waiting], bool]:
        first = self._queue.get()
        if first is None:
            return [], True
        group = [first]
        if self._last_group > 1:
            # While calls come in numbers, a moment's rest makes one group of several.
            time.sleep(_REST_SECONDS)
        while len(group) < _MAX_GROUP:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                break
            if waiting is None:
                return group, True
            group.append(waiting)
        self._last_group = len(group)
        return group, False

    def _write_group(self, group: list[_Waiting]) -> None:
        try:
            answers, commit = self._transact(group)
        except Exception as error:  # noqa: BLE001 - whatever failed, each caller gets an answer
            if len(group) > 1:
                # One bad request must not fail its whole group: each alone.
                for waiting in group:
                    self._write_group([waiting])
                return
            answers, commit = [_as_answer(error)], Commit()
        self._deliver([waiting[2] for waiting in group], answers, commit)

    def _transact(self, group: list[_Waiting]) -> tuple[list[Any], Commit]:
        answers: list[Any] = []
        # One connection for life: taking one from the pool costs as much as a statement.
        if self._connection is None or self._connection.closed:
            self._connection = self._engine.connect()
        connection = self._connection
        with connection.begin():
            transaction = Transaction(connection, self._clock.now())
            for operation, run in groupby(group, key=lambda waiting: waiting[0]):
                answers.extend(operation(transaction, [waiting[1] for waiting in run]))
            transaction.flush()
        return answers, transaction.commit

    def _deliver(
        self, futures: list[asyncio.Future[Any]], answers: list[Any], commit: Commit
    ) -> None:
        assert self._loop is not None

        def deliver() -> None:
            for answered, answer in zip(futures, answers, strict=True):
                if answered.cancelled():
                    continue  # the caller has gone; what it asked for is done all the same
                if isinstance(answer, Exception):
                    answered.set_exception(answer)
                else:
                    answered.set_result(answer)
            self._feed.publish(commit)

        self._loop.call_soon_threadsafe(deliver)


def _as_answer(error: Exception) -> Exception:
    if isinstance(error, OperationalError):
        _log.error("the storage cannot be written", problem=str(error.orig))
        return CallRefused(
            error_pb2.ERROR_REASON_STORAGE_UNAVAILABLE,
            "the storage cannot be written now; nothing was changed. Free disk space or look at"
            " the server's log, then try again",
        )
    return error

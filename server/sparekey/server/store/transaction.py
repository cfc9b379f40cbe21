"""One transaction of the writer: its connection, its instant, its events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, insert

from sparekey.server.store import schema
from sparekey.server.store.bulk import BulkInsert
from sparekey.server.store.commits import Commit
from sparekey.v1 import event_pb2
from sparekey.wire.timestamps import to_timestamp

_T = TypeVar("_T")

_INSERT_EVENTS = BulkInsert(
    insert(schema.events), ("kind", "svm_id", "serial", "task_id", "content")
)

_BATCH = 5000
"""How many values one statement names at the most; SQLite takes 32766."""


class Transaction:
    """What operations write through.

    Attributes:
        connection: The open transaction.
        now: The instant of this group, the same for all its operations.
        commit: What those who wait are told after the commit.
    """

    def __init__(self, connection: Connection, now: datetime) -> None:
        self.connection = connection
        self.now = now
        self.commit = Commit()
        self._recorded_at = to_timestamp(now)
        self._events: list[tuple[object, ...]] = []

    def add_event(
        self,
        kind: event_pb2.EventKind.ValueType,
        message: str,
        *,
        actor: str,
        occurred_at: datetime | None = None,
        svm_id: str = "",
        serial: str = "",
        task_id: str = "",
        **content: Any,
    ) -> None:
        """Append to the history, in this transaction.

        Args:
            kind: What happened.
            message: One sentence for a person.
            actor: Who led to it.
            occurred_at: The instant that the event belongs to; now, if None.
            svm_id: The SVM, if it is about one.
            serial: The key, if it is about one.
            task_id: The task, if one led to it.
            content: Further fields of `sparekey.v1.Event`.
        """
        occurred = self._recorded_at if occurred_at is None else to_timestamp(occurred_at)
        event = event_pb2.Event(
            occurred_at=occurred,
            recorded_at=self._recorded_at,
            kind=kind,
            svm_id=svm_id,
            key_serial=serial,
            task_id=task_id,
            actor=actor,
            message=message,
            **content,
        )
        self._events.append(
            (kind, svm_id or None, serial or None, task_id or None, event.SerializeToString())
        )
        self.commit.has_events = True

    def flush(self) -> None:
        """Write the events that were added, in order; called once before the commit."""
        _INSERT_EVENTS.run(self.connection, self._events)
        self._events = []


def batches(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """The values in parts that one statement can name."""
    for start in range(0, len(values), _BATCH):
        yield values[start : start + _BATCH]

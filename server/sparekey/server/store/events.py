"""Reading the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, func, select

from sparekey.server.store import schema
from sparekey.v1 import event_pb2

_events = schema.events


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; empty parts want all."""

    svm_id: str = ""
    serial: str = ""
    task_id: str = ""
    kinds: tuple[int, ...] = ()


def page_of_events(
    connection: Connection, wanted: EventFilter, after: int, size: int
) -> Sequence[event_pb2.Event]:
    """Events after a cursor, oldest first."""
    query = select(_events.c.cursor, _events.c.content).where(_events.c.cursor > after)
    if wanted.svm_id:
        query = query.where(_events.c.svm_id == wanted.svm_id)
    if wanted.serial:
        query = query.where(_events.c.serial == wanted.serial)
    if wanted.task_id:
        query = query.where(_events.c.task_id == wanted.task_id)
    if wanted.kinds:
        query = query.where(_events.c.kind.in_(wanted.kinds))
    found = []
    for cursor, content in connection.execute(query.order_by(_events.c.cursor).limit(size)):
        event = event_pb2.Event.FromString(content)
        event.cursor = cursor
        found.append(event)
    return found


def last_cursor(connection: Connection) -> int:
    """The cursor of the newest event; 0 for an empty history."""
    return connection.scalar(select(func.max(_events.c.cursor))) or 0


def newest_events_of_svm(
    connection: Connection, svm_id: str, kinds: Sequence[int], size: int
) -> list[event_pb2.Event]:
    """The newest events of some kinds about one SVM, oldest first."""
    return _newest(connection, and_(_events.c.svm_id == svm_id, _events.c.kind.in_(kinds)), size)


def newest_events_of_keys(
    connection: Connection, serials: Sequence[str], kinds: Sequence[int], size: int
) -> list[event_pb2.Event]:
    """The newest events of some kinds about keys and no SVM, oldest first."""
    condition = and_(
        _events.c.serial.in_(serials), _events.c.svm_id.is_(None), _events.c.kind.in_(kinds)
    )
    return _newest(connection, condition, size)


def _newest(
    connection: Connection, condition: ColumnElement[bool], size: int
) -> list[event_pb2.Event]:
    query = (
        select(_events.c.cursor, _events.c.content)
        .where(condition)
        .order_by(_events.c.cursor.desc())
        .limit(size)
    )
    found = []
    for cursor, content in connection.execute(query):
        event = event_pb2.Event.FromString(content)
        event.cursor = cursor
        found.append(event)
    return found[::-1]

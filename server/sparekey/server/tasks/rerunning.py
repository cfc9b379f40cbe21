"""Running a task again: its key, or the one that renewed it, to its scope as that is now (R61)."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from sparekey.licensing.keys import KeyKind
from sparekey.server.life.polling import KnownSubscription
from sparekey.server.store.keys import load_keys, newest_successor
from sparekey.server.store.subscriptions import load_stored_subscriptions
from sparekey.server.store.tasks import TaskRecord, load_tasks


@dataclass(frozen=True, slots=True)
class Rerun:
    """What another run of a task would give.

    Attributes:
        task: The task.
        serial: The newest key of those that renewed each other from the task's key on.
        subscription: Set where that key is a subscription's: ask for a renewal first.
    """

    task: TaskRecord
    serial: str
    subscription: KnownSubscription | None


def read_rerun(connection: Connection, task_id: str) -> Rerun | None:
    """What another run of a task would give; None for an unknown task."""
    task = load_tasks(connection, [task_id]).get(task_id)
    if task is None:
        return None
    serial = newest_successor(connection, task.serial)
    stored = load_keys(connection, [serial]).get(serial)
    subscription = None
    if stored is not None and stored.key.kind is KeyKind.SUBSCRIPTION and not stored.blocked:
        known = load_stored_subscriptions(connection, [serial]).get(serial)
        subscription = KnownSubscription(stored, known)
    return Rerun(task, serial, subscription)

"""What a commit changed, told to those who wait for it once it is on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sparekey.server.store.access_records import AccessChange


@dataclass(slots=True)
class Commit:
    """The changes of one commit, by what those who wait need to know.

    Attributes:
        instructed: SVMs that have a new instruction waiting.
        svms: SVMs whose record changed.
        forgotten: SVMs that are no longer known.
        outcomes: By task the SVMs whose outcome changed.
        tasks: Tasks whose record changed.
        has_events: Whether the history grew.
        due_at: The earliest instant at which something new is due; None if nothing is.
        access: What changed about who has access; only for those who hear each commit.
    """

    instructed: set[str] = field(default_factory=set)
    svms: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)
    outcomes: dict[str, set[str]] = field(default_factory=dict)
    tasks: set[str] = field(default_factory=set)
    has_events: bool = False
    due_at: datetime | None = None
    access: list[AccessChange] = field(default_factory=list)

    def add_outcome(self, task_id: str, svm_id: str) -> None:
        """Note that a task's outcome on one SVM changed."""
        self.outcomes.setdefault(task_id, set()).add(svm_id)

    def add_due(self, instant: datetime) -> None:
        """Note that something new is due at an instant."""
        if self.due_at is None or instant < self.due_at:
            self.due_at = instant

    def merge(self, other: Commit) -> None:
        """Take in the changes of a later commit."""
        self.instructed |= other.instructed
        self.svms = (self.svms | other.svms) - other.forgotten
        self.forgotten = (self.forgotten | other.forgotten) - other.svms
        for task_id, svm_ids in other.outcomes.items():
            self.outcomes.setdefault(task_id, set()).update(svm_ids)
        self.tasks |= other.tasks
        self.has_events |= other.has_events
        if other.due_at is not None:
            self.add_due(other.due_at)


class Subscription:
    """One waiter's view: what changed since it last looked, folded into one `Commit`.

    Folding bounds the memory of a slow reader by the number of things, not of
    commits.
    """

    def __init__(self) -> None:
        self._waiting = Commit()
        self._changed = asyncio.Event()

    def notify(self, commit: Commit) -> None:
        """Take in one commit."""
        self._waiting.merge(commit)
        self._changed.set()

    async def next(self) -> Commit:
        """Wait for a change; return everything since the last call."""
        await self._changed.wait()
        self._changed.clear()
        waiting, self._waiting = self._waiting, Commit()
        return waiting


class CommitFeed:
    """Hands each commit to everyone who listens; belongs to one event loop."""

    def __init__(self) -> None:
        # In the order in which they came: who records a change is told before who acts on it.
        self._listeners: dict[Callable[[Commit], None], None] = {}

    def listen(self, listener: Callable[[Commit], None]) -> Callable[[], None]:
        """Call the listener after each commit; returns the function that ends it."""
        self._listeners[listener] = None
        return lambda: self._forget(listener)

    def publish(self, commit: Commit) -> None:
        """Tell everyone."""
        for listener in tuple(self._listeners):
            listener(commit)

    def _forget(self, listener: Callable[[Commit], None]) -> None:
        self._listeners.pop(listener, None)

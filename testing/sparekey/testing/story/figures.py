"""The story in figures, counted from what the server answers and from nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sparekey.testing.story.endings import Ending, How, find_endings
from sparekey.v1 import event_pb2, fleet_pb2, key_pb2, keyring_pb2, license_pb2

SERVER = "server"
"""The actor of tasks that the server starts by itself: renewals by code."""


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that the server says at the end.

    Attributes:
        now: The server's time.
        svms: Every SVM.
        keys: Every key of the storage.
        tasks: Every task with its outcomes, oldest first.
        events: The whole history, oldest first.
    """

    now: datetime
    svms: Sequence[fleet_pb2.Svm]
    keys: Sequence[key_pb2.Key]
    tasks: Sequence[license_pb2.Task]
    events: Sequence[event_pb2.Event]

    @property
    def endings(self) -> list[Ending]:
        """What became of each active key that ended."""
        return find_endings(self.events, self.keys, self.now)


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures.

    Attributes:
        svms: SVMs that the server knows.
        activated: SVMs on which an operator's task put an active key.
        reserves_added: Reserve keys that tasks put on SVMs.
        refused: Refusals of tasks, by reason.
        promoted: Reserve keys that became active keys.
        lapsed_with_valid_reserve: Ends of active keys at which a valid reserve stood by and did
            not take over at that very instant. The product's promise is that this is 0.
        renewed_by_code: SVMs whose key the activation server renewed at its end.
        events: Events of the history.
        seconds: How long it took, from the start of the programs to the verdict.
    """

    svms: int
    activated: int
    reserves_added: int
    refused: dict[str, int]
    promoted: int
    lapsed_with_valid_reserve: int
    renewed_by_code: int
    events: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def count(record: Record, seconds: float) -> Figures:
    """Count the figures."""
    by_operators = [task for task in record.tasks if task.created_by != SERVER]
    applied = [
        (task.role, outcome.svm_id)
        for task in by_operators
        for outcome in task.outcomes
        if outcome.state == license_pb2.OUTCOME_STATE_APPLIED
    ]
    kinds = Counter(event.kind for event in record.events)
    promotions = [
        event
        for event in record.events
        if event.change.kind == keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_PROMOTED
    ]
    return Figures(
        svms=len(record.svms),
        activated=len({svm for role, svm in applied if role == keyring_pb2.KEY_ROLE_ACTIVE}),
        reserves_added=sum(role == keyring_pb2.KEY_ROLE_RESERVE for role, _ in applied),
        refused=refusals(by_operators),
        promoted=len(promotions),
        lapsed_with_valid_reserve=sum(one.failed_its_reserve for one in record.endings),
        renewed_by_code=kinds[event_pb2.EVENT_KIND_KEY_RENEWED_BY_CODE],
        events=len(record.events),
        seconds=round(seconds, 2),
    )


def refusals(tasks: Iterable[license_pb2.Task]) -> dict[str, int]:
    """How often tasks refused an SVM, by reason."""
    reasons = Counter(
        reason_name(outcome.reason)
        for task in tasks
        for outcome in task.outcomes
        if outcome.state == license_pb2.OUTCOME_STATE_REFUSED
    )
    return dict(sorted(reasons.items()))


def reason_name(reason: license_pb2.RefusalReason.ValueType) -> str:
    """A reason's name, for example NO_ACTIVE_KEY."""
    return license_pb2.RefusalReason.Name(reason).removeprefix("REFUSAL_REASON_")


def lapsed(record: Record) -> list[Ending]:
    """The ends after which an SVM was without a valid key."""
    return [ending for ending in record.endings if ending.how is How.LAPSED]

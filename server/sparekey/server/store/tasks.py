"""Activation tasks and their outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, insert, select, text, update

from sparekey.licensing.advice import Advice
from sparekey.licensing.keyring import Role
from sparekey.licensing.refusals import Refusal
from sparekey.licensing.tasks import OutcomeState, TaskState
from sparekey.server.store import schema
from sparekey.server.store.bulk import BulkChange, BulkInsert, stored_instant, upsert
from sparekey.server.store.transaction import batches

_tasks = schema.tasks
_outcomes = schema.outcomes

_RUNNING = _tasks.c.state == text("'RUNNING'")


@dataclass(slots=True)
class TaskRecord:
    """One task; `number` orders tasks by their start and is 0 before it is stored."""

    task_id: str
    serial: str
    role: Role
    scope: bytes
    created_at: datetime
    deadline_at: datetime
    created_by: str
    counts: dict[OutcomeState, int]
    state: TaskState = TaskState.RUNNING
    finished_at: datetime | None = None
    advice: tuple[Advice, ...] = ()
    number: int = 0
    rerun_of: str = ""


class OutcomeRecord(NamedTuple):
    """A task's outcome on one SVM."""

    task_id: str
    svm_id: str
    state: OutcomeState
    reason: Refusal | None = None
    advice: tuple[Advice, ...] = ()
    finished_at: datetime | None = None
    instruction_version: int = 0


@dataclass(slots=True)
class OutcomeChanges:
    """Changes to outcomes that one transaction gathers and writes at once."""

    changed: list[OutcomeRecord] = field(default_factory=list)
    counts: dict[str, dict[OutcomeState, int]] = field(default_factory=dict)

    def move(self, old: OutcomeState, new: OutcomeRecord) -> None:
        """An outcome goes from one state to another."""
        self.changed.append(new)
        deltas = self.counts.setdefault(new.task_id, {})
        deltas[old] = deltas.get(old, 0) - 1
        deltas[new.state] = deltas.get(new.state, 0) + 1


_COUNTS = tuple(state.name.lower() for state in OutcomeState)

_INSERT_TASKS = BulkInsert(
    insert(_tasks),
    (
        "id",
        "serial",
        "role",
        "scope",
        "state",
        "created_at",
        "deadline_at",
        "finished_at",
        "total",
        *_COUNTS,
        "created_by",
        "advice",
        "rerun_of",
    ),
)
_OUTCOME_COLUMNS = (
    "task_id",
    "svm_id",
    "state",
    "reason",
    "advice",
    "finished_at",
    "instruction_version",
)
_INSERT_OUTCOMES = BulkInsert(insert(_outcomes), _OUTCOME_COLUMNS)


# Every outcome is there from its task's start, with its advice, which stays.
_MOVING = ("state", "reason", "finished_at", "instruction_version")
_UPDATE_OUTCOMES = BulkInsert(upsert(_outcomes, ("task_id", "svm_id"), _MOVING), _OUTCOME_COLUMNS)
_MOVE_COUNTS = BulkChange(
    update(_tasks)
    .where(_tasks.c.id == bindparam("of_task"))
    .values({name: _tasks.c[name] + bindparam(f"by_{name}") for name in _COUNTS}),
    (*(f"by_{name}" for name in _COUNTS), "of_task"),
)


def insert_tasks(connection: Connection, records: Sequence[TaskRecord]) -> None:
    """Store new tasks, in order."""
    rows = [
        (
            record.task_id,
            record.serial,
            record.role.name,
            record.scope,
            record.state.name,
            stored_instant(record.created_at),
            stored_instant(record.deadline_at),
            stored_instant(record.finished_at),
            sum(record.counts.values()),
            *(record.counts.get(state, 0) for state in OutcomeState),
            record.created_by,
            _names(record.advice),
            record.rerun_of,
        )
        for record in records
    ]
    _INSERT_TASKS.run(connection, rows)


def insert_outcomes(connection: Connection, records: Sequence[OutcomeRecord]) -> None:
    """Store the outcomes of new tasks."""
    _INSERT_OUTCOMES.run(connection, [_outcome_values(record) for record in records])


def save_outcomes(connection: Connection, changes: OutcomeChanges) -> None:
    """Write changed outcomes and move the tasks' counts by the same steps."""
    _UPDATE_OUTCOMES.run(connection, [_outcome_values(record) for record in changes.changed])
    moves = [
        (*(deltas.get(state, 0) for state in OutcomeState), task_id)
        for task_id, deltas in changes.counts.items()
    ]
    _MOVE_COUNTS.run(connection, moves)


def save_task_ends(connection: Connection, records: Sequence[TaskRecord]) -> None:
    """Write the state and the end of tasks."""
    if records:
        statement = (
            update(_tasks)
            .where(_tasks.c.id == bindparam("of_task"))
            .values(state=bindparam("new_state"), finished_at=bindparam("ended_at"))
        )
        connection.execute(
            statement,
            [
                {
                    "of_task": record.task_id,
                    "new_state": record.state.name,
                    "ended_at": record.finished_at,
                }
                for record in records
            ],
        )


def load_tasks(connection: Connection, task_ids: Iterable[str]) -> dict[str, TaskRecord]:
    """The tasks with these ids."""
    found: dict[str, TaskRecord] = {}
    for batch in batches(sorted(set(task_ids))):
        rows = connection.execute(select(_tasks).where(_tasks.c.id.in_(batch)))
        found.update((row.id, _task(row)) for row in rows)
    return found


def page_of_tasks(connection: Connection, before: int | None, size: int) -> list[TaskRecord]:
    """Tasks, newest first, from before a number on."""
    query = select(_tasks)
    if before is not None:
        query = query.where(_tasks.c.number < before)
    return [
        _task(row) for row in connection.execute(query.order_by(_tasks.c.number.desc()).limit(size))
    ]


def page_of_outcomes(
    connection: Connection, task_id: str, state: OutcomeState | None, after: str, size: int
) -> list[OutcomeRecord]:
    """A task's outcomes by SVM id after an id, in one state or (None) in all."""
    query = select(_outcomes).where(_outcomes.c.task_id == task_id, _outcomes.c.svm_id > after)
    if state is not None:
        query = query.where(_outcomes.c.state == state.name)
    rows = connection.execute(query.order_by(_outcomes.c.svm_id).limit(size))
    return [_outcome(row) for row in rows]


def load_outcomes(
    connection: Connection, wanted: Mapping[str, Iterable[str]]
) -> dict[tuple[str, str], OutcomeRecord]:
    """Outcomes by task and SVM."""
    found: dict[tuple[str, str], OutcomeRecord] = {}
    for task_id, svm_ids in wanted.items():
        for batch in batches(sorted(svm_ids)):
            query = select(_outcomes).where(
                _outcomes.c.task_id == task_id, _outcomes.c.svm_id.in_(batch)
            )
            for row in connection.execute(query):
                found[task_id, row.svm_id] = _outcome(row)
    return found


def pending_outcomes(connection: Connection, task_id: str) -> list[OutcomeRecord]:
    """A task's outcomes that are not final."""
    query = select(_outcomes).where(
        _outcomes.c.task_id == task_id, _outcomes.c.state == OutcomeState.PENDING.name
    )
    return [_outcome(row) for row in connection.execute(query.order_by(_outcomes.c.svm_id))]


def running_tasks_with_key(connection: Connection, serial: str) -> list[str]:
    """Running tasks that refer to a key."""
    return list(connection.scalars(select(_tasks.c.id).where(_RUNNING, _tasks.c.serial == serial)))


def next_deadline(connection: Connection) -> datetime | None:
    """The next deadline of a running task."""
    due: datetime | None = connection.scalar(
        select(_tasks.c.deadline_at).where(_RUNNING).order_by(_tasks.c.deadline_at).limit(1)
    )
    return due


def overdue_tasks(connection: Connection, now: datetime) -> list[str]:
    """Running tasks whose deadline has come, in the order of their deadlines."""
    query = select(_tasks.c.id).where(_RUNNING, _tasks.c.deadline_at <= now)
    return list(connection.scalars(query.order_by(_tasks.c.deadline_at)))


def _names(advice: tuple[Advice, ...]) -> str:
    return ",".join(one.name for one in advice)


def _advice(names: str) -> tuple[Advice, ...]:
    return tuple(Advice[name] for name in names.split(",")) if names else ()


def _task(row: Row[Any]) -> TaskRecord:
    values = row._mapping  # noqa: SLF001 - the public name of it in SQLAlchemy
    return TaskRecord(
        number=row.number,
        task_id=row.id,
        serial=row.serial,
        role=Role[row.role],
        scope=row.scope,
        state=TaskState[row.state],
        created_at=row.created_at,
        deadline_at=row.deadline_at,
        finished_at=row.finished_at,
        counts={state: values[state.name.lower()] for state in OutcomeState},
        created_by=row.created_by,
        advice=_advice(row.advice),
        rerun_of=row.rerun_of,
    )


def _outcome_values(record: OutcomeRecord) -> tuple[object, ...]:
    return (
        record.task_id,
        record.svm_id,
        record.state.name,
        record.reason.name if record.reason else None,
        _names(record.advice),
        stored_instant(record.finished_at),
        record.instruction_version,
    )


def _outcome(row: Row[Any]) -> OutcomeRecord:
    return OutcomeRecord(
        task_id=row.task_id,
        svm_id=row.svm_id,
        state=OutcomeState[row.state],
        reason=Refusal[row.reason] if row.reason else None,
        advice=_advice(row.advice),
        finished_at=row.finished_at,
        instruction_version=row.instruction_version,
    )

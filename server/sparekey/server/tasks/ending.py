"""How outcomes move and tasks end: by answers of SVMs, by cancellation, by deadline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparekey.licensing.refusals import Refusal, explain
from sparekey.licensing.tasks import OutcomeState, TaskState, task_state
from sparekey.server.access.clusters import refuse_outside
from sparekey.server.store.instructions import withdraw_key, withdraw_task
from sparekey.server.store.requests import (
    Retry,
    earlier_response,
    remember_answer,
)
from sparekey.server.store.svms import load_svms
from sparekey.server.store.tasks import (
    OutcomeChanges,
    OutcomeRecord,
    TaskRecord,
    load_tasks,
    overdue_tasks,
    page_of_outcomes,
    pending_outcomes,
    save_outcomes,
    save_task_ends,
)
from sparekey.server.store.transaction import Transaction
from sparekey.server.tasks.messages import task_message
from sparekey.v1 import error_pb2, event_pb2, license_pb2
from sparekey.wire.errors import CallRefused
from sparekey.wire.licensing_messages import REFUSALS

_INLINE_OUTCOMES = 1000


def apply_outcome_changes(transaction: Transaction, changes: OutcomeChanges) -> None:
    """Write changed outcomes, and end the tasks whose last outcome became final."""
    if not changes.changed:
        return
    save_outcomes(transaction.connection, changes)
    for outcome in changes.changed:
        transaction.commit.add_outcome(outcome.task_id, outcome.svm_id)
    transaction.commit.tasks |= changes.counts.keys()
    ended = []
    for task in load_tasks(transaction.connection, changes.counts).values():
        state = task_state(task.counts)
        if state is TaskState.RUNNING or state is task.state:
            continue
        first_end = task.finished_at is None
        task.state = state
        task.finished_at = task.finished_at or transaction.now
        ended.append(task)
        if first_end:
            transaction.add_event(
                event_pb2.EVENT_KIND_TASK_FINISHED,
                f"The task ended: {state.name}.",
                actor="server",
                serial=task.serial,
                task_id=task.task_id,
            )
    save_task_ends(transaction.connection, ended)


@dataclass(frozen=True, slots=True)
class CancelTask:
    """A request to cancel a task."""

    task_id: str
    actor: str
    retry: Retry
    validate_only: bool = False
    clusters: tuple[str, ...] = ()


def cancel_tasks(
    transaction: Transaction, requests: Sequence[CancelTask]
) -> list[license_pb2.CancelTaskResponse | CallRefused]:
    """Cancel tasks in order; SVMs that have confirmed keep their keys."""
    answers: list[license_pb2.CancelTaskResponse | CallRefused] = []
    for request in requests:
        try:
            answers.append(_cancel(transaction, request))
        except CallRefused as refused:
            answers.append(refused)
    return answers


def _cancel(
    transaction: Transaction, request: CancelTask
) -> license_pb2.CancelTaskResponse | CallRefused:
    earlier = earlier_response(
        transaction.connection, request.retry, license_pb2.CancelTaskResponse
    )
    if earlier is not None:
        return earlier
    task = load_tasks(transaction.connection, [request.task_id]).get(request.task_id)
    if task is None:
        return task_not_found(request.task_id)
    if task.state is not TaskState.RUNNING:
        return CallRefused(
            error_pb2.ERROR_REASON_TASK_FINISHED,
            f"the task {task.task_id} is finished ({task.state.name}); there is nothing to cancel",
            metadata={"task_id": task.task_id, "state": task.state.name},
        )
    if request.clusters:
        waiting = [one.svm_id for one in pending_outcomes(transaction.connection, task.task_id)]
        svms = load_svms(transaction.connection, waiting)
        refuse_outside(request.clusters, ((one, svms[one].cluster) for one in sorted(svms)))
    if not request.validate_only:
        _give_up(transaction, task, OutcomeState.CANCELLED)
        transaction.add_event(
            event_pb2.EVENT_KIND_TASK_CANCELLED,
            "The task was cancelled; SVMs that had confirmed keep their keys.",
            actor=request.actor,
            serial=task.serial,
            task_id=task.task_id,
        )
        task = load_tasks(transaction.connection, [task.task_id])[task.task_id]
    outcomes = page_of_outcomes(transaction.connection, task.task_id, None, "", _INLINE_OUTCOMES)
    response = license_pb2.CancelTaskResponse(task=task_message(task, outcomes))
    if not request.validate_only:
        remember_answer(transaction, request.retry, response.SerializeToString())
    return response


def end_overdue_tasks(transaction: Transaction, requests: Sequence[None]) -> list[int]:
    """Give up the SVMs of tasks whose deadline has come; answers how many tasks that were."""
    overdue = overdue_tasks(transaction.connection, transaction.now)
    for task in load_tasks(transaction.connection, overdue).values():
        for outcome in pending_outcomes(transaction.connection, task.task_id):
            transaction.add_event(
                event_pb2.EVENT_KIND_DEADLINE_EXCEEDED,
                "The SVM did not answer before the task's deadline.",
                actor="server",
                occurred_at=task.deadline_at,
                svm_id=outcome.svm_id,
                serial=task.serial,
                task_id=task.task_id,
            )
        _give_up(transaction, task, OutcomeState.DEADLINE_EXCEEDED)
    return [len(overdue)] * len(requests)


def refuse_key(transaction: Transaction, serial: str, reason: Refusal, actor: str) -> None:
    """Give a key to no further SVM: it may not be given any more, for this reason."""
    changes = OutcomeChanges()
    for stored in withdraw_key(transaction.connection, serial):
        assert stored.task_id is not None
        transaction.add_event(
            event_pb2.EVENT_KIND_INSTRUCTION_REFUSED,
            explain(reason),
            actor=actor,
            svm_id=stored.svm_id,
            serial=serial,
            task_id=stored.task_id,
            refusal=REFUSALS[reason],
        )
        changes.move(
            OutcomeState.PENDING,
            OutcomeRecord(
                stored.task_id,
                stored.svm_id,
                OutcomeState.REFUSED,
                reason,
                finished_at=transaction.now,
                instruction_version=stored.version,
            ),
        )
        transaction.commit.svms.add(stored.svm_id)
    apply_outcome_changes(transaction, changes)


def _give_up(transaction: Transaction, task: TaskRecord, state: OutcomeState) -> None:
    withdraw_task(transaction.connection, task.task_id)
    changes = OutcomeChanges()
    for outcome in pending_outcomes(transaction.connection, task.task_id):
        changes.move(outcome.state, outcome._replace(state=state, finished_at=transaction.now))
        transaction.commit.svms.add(outcome.svm_id)
    apply_outcome_changes(transaction, changes)


def task_not_found(task_id: str) -> CallRefused:
    """The refusal of a task id that the server does not know."""
    return CallRefused(
        error_pb2.ERROR_REASON_TASK_NOT_FOUND,
        f"the server knows no task {task_id}; list the tasks to see their ids",
        metadata={"task_id": task_id},
    )

"""Starting tasks, in batches: each decided in order of arrival, all written at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from google.protobuf.message import Message
from sqlalchemy import Connection

from sparekey.licensing.keyring import Role, Slot
from sparekey.licensing.refusals import explain
from sparekey.licensing.scopes import PickedSvms
from sparekey.licensing.tasks import OutcomeState, TaskState, task_state
from sparekey.server.life.clock_watch import rollback_refusal
from sparekey.server.life.voiding import reinstate_keys
from sparekey.server.store.instructions import (
    InstructionState,
    StoredInstruction,
    save_instructions,
)
from sparekey.server.store.keys import load_keys
from sparekey.server.store.requests import (
    Retry,
    earlier_answers,
    match_answer,
    remember_answer,
)
from sparekey.server.store.targets import Target, load_targets, save_versions
from sparekey.server.store.tasks import (
    OutcomeChanges,
    OutcomeRecord,
    TaskRecord,
    insert_outcomes,
    insert_tasks,
)
from sparekey.server.store.transaction import Transaction
from sparekey.server.tasks.ending import apply_outcome_changes
from sparekey.server.tasks.messages import task_message
from sparekey.server.tasks.planning import (
    SvmPlan,
    TaskOrder,
    TaskPlan,
    Workspace,
    action_for,
    plan_task,
)
from sparekey.server.tasks.waiting import queue_instruction
from sparekey.v1 import event_pb2, license_pb2
from sparekey.wire.errors import CallRefused
from sparekey.wire.licensing_messages import REFUSALS

MAX_INLINE_OUTCOMES = 1000
"""How many outcomes a stored task carries in an answer; ListOutcomes has all."""

MAX_DRY_RUN_OUTCOMES = 10_000
"""How many outcomes a dry run carries; refused ones come first where there are more."""


@dataclass(frozen=True, slots=True)
class StartTask:
    """A request to start a task, and the response message that answers it."""

    order: TaskOrder
    retry: Retry
    response: (
        type[license_pb2.ActivateResponse]
        | type[license_pb2.RenewResponse]
        | type[license_pb2.RunTaskResponse]
    )


@dataclass(slots=True)
class _Writes:
    """What a batch of tasks gathers before it writes."""

    tasks: list[TaskRecord] = field(default_factory=list)
    outcomes: list[OutcomeRecord] = field(default_factory=list)
    # By SVM and slot, so that only the newest of a batch is written.
    instructions: dict[tuple[str, Slot], StoredInstruction] = field(default_factory=dict)
    instructed: dict[str, Target] = field(default_factory=dict)
    superseding: OutcomeChanges = field(default_factory=OutcomeChanges)
    answers: list[tuple[Retry, Message]] = field(default_factory=list)


def start_tasks(
    transaction: Transaction, requests: Sequence[StartTask]
) -> list[Message | CallRefused]:
    """Start tasks in order; the answer to each is its response message."""
    connection = transaction.connection
    answered = earlier_answers(connection, [request.retry for request in requests])
    rollback = rollback_refusal(connection, transaction.now)
    workspace = _load(connection, requests)
    writes = _Writes()
    answers: list[Message | CallRefused] = []
    for request in requests:
        earlier = match_answer(answered, request.retry)
        if isinstance(earlier, bytes):
            answers.append(request.response.FromString(earlier))
            continue
        try:
            if earlier is not None:
                raise earlier
            if rollback is not None:
                raise rollback
            plan = plan_task(connection, workspace, request.order, transaction.now)
        except CallRefused as refused:
            answers.append(refused)
            continue
        task, outcomes = _start(transaction, workspace, request.order, plan, writes)
        response = request.response(task=task_message(task, outcomes[:MAX_INLINE_OUTCOMES]))
        if request.retry.key is not None:
            encoded = response.SerializeToString()
            answered[request.retry.key] = (request.retry.digest, encoded)
            remember_answer(transaction, request.retry, encoded)
        answers.append(response)
    _save(transaction, writes)
    return answers


def dry_run(connection: Connection, order: TaskOrder, now: datetime) -> license_pb2.Task:
    """The task as it would end, without an id; changes nothing.

    Raises:
        CallRefused: as starting the task would be refused.
    """
    rollback = rollback_refusal(connection, now)
    if rollback is not None:
        raise rollback
    workspace = Workspace()
    workspace.keys.update(load_keys(connection, [order.serial]))
    plan = plan_task(connection, workspace, order, now)
    outcomes = [
        OutcomeRecord("", svm_id, one.state, one.reason, one.advice, finished_at=now)
        for svm_id, one in plan.svms.items()
    ]
    counts = Counter(outcome.state for outcome in outcomes)
    task = TaskRecord(
        task_id="",
        serial=order.serial,
        role=order.role,
        scope=order.encoded_scope,
        created_at=now,
        deadline_at=now + order.wait,
        created_by=order.actor,
        counts=dict(counts),
        state=task_state(counts),
        finished_at=now,
        advice=plan.advice,
        rerun_of=order.rerun_of,
    )
    if len(outcomes) > MAX_DRY_RUN_OUTCOMES:
        outcomes.sort(key=lambda outcome: (outcome.reason is None, outcome.svm_id))
    return task_message(task, outcomes[:MAX_DRY_RUN_OUTCOMES], predicted=True)


def _load(connection: Connection, requests: Sequence[StartTask]) -> Workspace:
    """Load at once what the batch's picked SVMs and keys need; wider scopes load for themselves."""
    workspace = Workspace()
    workspace.keys.update(load_keys(connection, {request.order.serial for request in requests}))
    picked = {
        svm_id
        for request in requests
        if isinstance(request.order.scope, PickedSvms)
        for svm_id in request.order.scope.ids
    }
    if picked:
        targets = load_targets(connection, PickedSvms(tuple(picked)), workspace.keys)
        workspace.add(connection, targets)
    return workspace


def _start(
    transaction: Transaction,
    workspace: Workspace,
    order: TaskOrder,
    plan: TaskPlan,
    writes: _Writes,
) -> tuple[TaskRecord, list[OutcomeRecord]]:
    now = transaction.now
    slot = Slot(workspace.keys[order.serial].key.type, order.role)
    outcomes = []
    for svm_id, svm_plan in plan.svms.items():
        if _needs_instruction(workspace, svm_id, svm_plan):
            version = _instruct(transaction, workspace, order, slot, svm_id, writes)
            outcome = OutcomeRecord(
                order.task_id,
                svm_id,
                OutcomeState.PENDING,
                advice=svm_plan.advice,
                instruction_version=version,
            )
        else:
            outcome = OutcomeRecord(
                order.task_id,
                svm_id,
                svm_plan.state,
                svm_plan.reason,
                svm_plan.advice,
                finished_at=now,
            )
        outcomes.append(outcome)
    if order.role is Role.ACTIVE and workspace.void:
        unchanged = [one.svm_id for one in outcomes if one.state is OutcomeState.UNCHANGED]
        reinstate_keys(transaction, unchanged)
        workspace.void = None
    counts = Counter(outcome.state for outcome in outcomes)
    state = task_state(counts)
    task = TaskRecord(
        task_id=order.task_id,
        serial=order.serial,
        role=order.role,
        scope=order.encoded_scope,
        created_at=now,
        deadline_at=now + order.wait,
        created_by=order.actor,
        counts=dict(counts),
        state=state,
        finished_at=None if state is TaskState.RUNNING else now,
        advice=plan.advice,
        rerun_of=order.rerun_of,
    )
    writes.tasks.append(task)
    writes.outcomes.extend(outcomes)
    _add_events(transaction, task, outcomes)
    transaction.commit.tasks.add(task.task_id)
    if state is TaskState.RUNNING:
        transaction.commit.add_due(task.deadline_at)
    return task, outcomes


def _needs_instruction(workspace: Workspace, svm_id: str, plan: SvmPlan) -> bool:
    """Whether the SVM must act. With something waiting, only its own answer tells UNCHANGED."""
    if plan.state is OutcomeState.REFUSED:
        return False
    return plan.state is OutcomeState.APPLIED or bool(workspace.waiting.get(svm_id))


def _instruct(
    transaction: Transaction,
    workspace: Workspace,
    order: TaskOrder,
    slot: Slot,
    svm_id: str,
    writes: _Writes,
) -> int:
    record = workspace.svms[svm_id]
    queued = queue_instruction(
        record.keyring,
        workspace.waiting.get(svm_id, ()),
        action_for(order.serial, svm_id, slot, order.task_id),
        record.instruction_version,
        workspace.keys,
        transaction.now,
    )
    workspace.waiting[svm_id] = list(queued.waiting)
    record.instruction_version = queued.version
    writes.instructed[svm_id] = record
    given = 0
    for stored in queued.changed:
        writes.instructions[svm_id, stored.slot] = stored
        if stored.task_id == order.task_id:
            given = stored.version
        elif stored.task_id is not None:
            moved = OutcomeRecord(
                stored.task_id,
                svm_id,
                OutcomeState.PENDING,
                instruction_version=stored.version,
            )
            writes.superseding.move(OutcomeState.PENDING, moved)
    if queued.superseded is not None and queued.superseded.task_id is not None:
        _end_early(transaction, queued.superseded, OutcomeState.SUPERSEDED, writes)
    for stored, reason in queued.overtaken:
        done = stored._replace(state=InstructionState.DONE)
        writes.instructions[svm_id, stored.slot] = done
        if stored.task_id is not None:
            ended = OutcomeRecord(
                stored.task_id,
                svm_id,
                OutcomeState.REFUSED,
                reason,
                finished_at=transaction.now,
                instruction_version=stored.version,
            )
            writes.superseding.move(OutcomeState.PENDING, ended)
    transaction.commit.instructed.add(svm_id)
    return given


def _end_early(
    transaction: Transaction,
    stored: StoredInstruction,
    state: OutcomeState,
    writes: _Writes,
) -> None:
    assert stored.task_id is not None
    ended = OutcomeRecord(
        stored.task_id,
        stored.svm_id,
        state,
        finished_at=transaction.now,
        instruction_version=stored.version,
    )
    writes.superseding.move(OutcomeState.PENDING, ended)


def _add_events(
    transaction: Transaction, task: TaskRecord, outcomes: Sequence[OutcomeRecord]
) -> None:
    what = "reserve key" if task.role is Role.RESERVE else "active key"
    transaction.add_event(
        event_pb2.EVENT_KIND_TASK_STARTED,
        f"A task to give {task.serial} as the {what} to {len(outcomes)} SVMs started.",
        actor=task.created_by,
        serial=task.serial,
        task_id=task.task_id,
    )
    for outcome in outcomes:
        if outcome.reason is not None:
            transaction.add_event(
                event_pb2.EVENT_KIND_INSTRUCTION_REFUSED,
                explain(outcome.reason),
                actor="server",
                svm_id=outcome.svm_id,
                serial=task.serial,
                task_id=task.task_id,
                refusal=REFUSALS[outcome.reason],
            )
    if task.finished_at is not None:
        transaction.add_event(
            event_pb2.EVENT_KIND_TASK_FINISHED,
            f"The task ended: {task.state.name}.",
            actor="server",
            serial=task.serial,
            task_id=task.task_id,
        )


def _save(transaction: Transaction, writes: _Writes) -> None:
    if not writes.tasks:
        return
    connection = transaction.connection
    insert_tasks(connection, writes.tasks)
    insert_outcomes(connection, writes.outcomes)
    save_instructions(connection, list(writes.instructions.values()))
    save_versions(connection, writes.instructed.values())
    apply_outcome_changes(transaction, writes.superseding)

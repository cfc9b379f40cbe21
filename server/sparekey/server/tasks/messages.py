"""Tasks and outcomes as messages, each outcome with one sentence for a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sparekey.licensing.advice import explain_advice
from sparekey.licensing.refusals import explain
from sparekey.licensing.tasks import OutcomeState
from sparekey.server.store.tasks import OutcomeRecord, TaskRecord
from sparekey.v1 import license_pb2
from sparekey.wire.licensing_messages import ADVICE, OUTCOME_STATES, REFUSALS, ROLES, TASK_STATES
from sparekey.wire.timestamps import to_timestamp

_SENTENCES = {
    OutcomeState.PENDING: "Waits for the SVM to confirm.",
    OutcomeState.APPLIED: "The SVM holds the key.",
    OutcomeState.UNCHANGED: "The SVM held the key already.",
    OutcomeState.REFUSED: "Refused by the SVM.",
    OutcomeState.SUPERSEDED: "A newer task for the same slot came before the SVM had this one.",
    OutcomeState.DEADLINE_EXCEEDED: (
        "The SVM did not answer in time: see whether its agent runs, then start the task again."
    ),
    OutcomeState.CANCELLED: "Cancelled before the SVM confirmed.",
}


def outcome_message(outcome: OutcomeRecord, *, predicted: bool = False) -> license_pb2.Outcome:
    """An outcome as a message; a predicted one speaks of what would be."""
    if outcome.reason:
        sentences = [explain(outcome.reason)]
    elif predicted and outcome.state is OutcomeState.APPLIED:
        sentences = ["The SVM will hold the key."]
    else:
        sentences = [_SENTENCES[outcome.state]]
    sentences.extend(explain_advice(advice) for advice in outcome.advice)
    return license_pb2.Outcome(
        svm_id=outcome.svm_id,
        state=OUTCOME_STATES[outcome.state],  # type: ignore[arg-type]
        reason=REFUSALS[outcome.reason] if outcome.reason else None,  # type: ignore[arg-type]
        advice=[ADVICE[advice] for advice in outcome.advice],  # type: ignore[misc]
        message=" ".join(sentences),
        finished_at=to_timestamp(outcome.finished_at),
        instruction_version=outcome.instruction_version,
    )


def counts_message(counts: Mapping[OutcomeState, int]) -> license_pb2.OutcomeCounts:
    """How many SVMs are in each state, as a message."""
    return license_pb2.OutcomeCounts(
        total=sum(counts.values()),
        **{state.name.lower(): count for state, count in counts.items()},
    )


def task_message(
    task: TaskRecord, outcomes: Iterable[OutcomeRecord] = (), *, predicted: bool = False
) -> license_pb2.Task:
    """A task with the given outcomes as a message."""
    return license_pb2.Task(
        task_id=task.task_id,
        key_serial=task.serial,
        role=ROLES[task.role],  # type: ignore[arg-type]
        scope=license_pb2.Scope.FromString(task.scope),
        state=TASK_STATES[task.state],  # type: ignore[arg-type]
        created_at=to_timestamp(task.created_at),
        deadline_at=to_timestamp(task.deadline_at),
        finished_at=to_timestamp(task.finished_at),
        counts=counts_message(task.counts),
        outcomes=[outcome_message(outcome, predicted=predicted) for outcome in outcomes],
        created_by=task.created_by,
        advice=[ADVICE[advice] for advice in task.advice],  # type: ignore[misc]
        rerun_of=task.rerun_of,
    )

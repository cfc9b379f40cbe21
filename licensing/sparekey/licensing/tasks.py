"""Outcomes of a task on each SVM, the state of the whole, and what a task would do."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from enum import Enum

from sparekey.licensing.changes import Transition
from sparekey.licensing.instructions import Instruction, follow
from sparekey.licensing.keyring import Keyring
from sparekey.licensing.refusals import Refusal
from sparekey.licensing.settling import settle


class OutcomeState(Enum):
    """How a task stands on one SVM."""

    PENDING = "PENDING"
    APPLIED = "APPLIED"
    UNCHANGED = "UNCHANGED"
    REFUSED = "REFUSED"
    SUPERSEDED = "SUPERSEDED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come."""
        return self is not OutcomeState.PENDING

    @property
    def is_success(self) -> bool:
        """Whether the SVM is as the task wanted it, by the task or before it (R97)."""
        return self in (OutcomeState.APPLIED, OutcomeState.UNCHANGED)


class TaskState(Enum):
    """How a task stands as a whole (R78)."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


def task_state(counts: Mapping[OutcomeState, int]) -> TaskState:
    """The state of a task from the number of SVMs in each outcome; absent means 0 (R78).

    Any PENDING: RUNNING. Successes only: SUCCEEDED; some: PARTIAL. With no success: CANCELLED if
    every outcome is CANCELLED, else FAILED, and FAILED too for a task without any SVM.
    Raises `ValueError` for a negative count.
    """
    if any(count < 0 for count in counts.values()):
        raise ValueError("a number of SVMs cannot be negative")
    present = {state for state, count in counts.items() if count}
    if not all(state.is_final for state in present):
        return TaskState.RUNNING
    if not any(state.is_success for state in present):
        only_cancelled = present == {OutcomeState.CANCELLED}
        return TaskState.CANCELLED if only_cancelled else TaskState.FAILED
    if all(state.is_success for state in present):
        return TaskState.SUCCEEDED
    return TaskState.PARTIAL


def predict(
    keyring: Keyring, pending: Sequence[Instruction], instruction: Instruction, now: datetime
) -> Transition | Refusal:
    """What an instruction will do once the pending ones before it have been followed (R89).

    Pending instructions that are refused count for nothing. The changes of the answer are those
    of time up to `now` and, as `own_changes`, the instruction's; those of the pending ones are
    theirs. With nothing pending it is exactly `follow`: the dry run and the run cannot differ.
    """
    past = settle(keyring, now)
    keyring = past.keyring
    for earlier in pending:
        result = follow(keyring, earlier, now)
        if isinstance(result, Transition):
            keyring = result.keyring
    result = follow(keyring, instruction, now)
    if isinstance(result, Refusal):
        return result
    if not past.changes:
        return result
    return replace(result, changes=past.changes + result.changes, settled=past.settled)

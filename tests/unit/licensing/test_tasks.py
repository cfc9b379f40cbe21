"""Outcomes, the state of a task, and prediction."""

from collections.abc import Callable
from datetime import datetime

import pytest

from sparekey.licensing.changes import ChangeKind, Transition
from sparekey.licensing.instructions import Instruction, follow
from sparekey.licensing.keyring import EMPTY, Keyring, Role, Slot
from sparekey.licensing.keys import KeyKind, KeyType, LicenseKey
from sparekey.licensing.refusals import Refusal
from sparekey.licensing.tasks import OutcomeState, TaskState, predict, task_state

MakeKey = Callable[..., LicenseKey]
MakeKeyring = Callable[..., Keyring]
At = Callable[[float], datetime]
Sound = Callable[[Keyring, Transition | Refusal, datetime], Transition]
ACTIVE = Slot(KeyType.SERVER, Role.ACTIVE)
RESERVE = Slot(KeyType.SERVER, Role.RESERVE)

PENDING, APPLIED, UNCHANGED = OutcomeState.PENDING, OutcomeState.APPLIED, OutcomeState.UNCHANGED
REFUSED, SUPERSEDED = OutcomeState.REFUSED, OutcomeState.SUPERSEDED
LATE, CANCELLED = OutcomeState.DEADLINE_EXCEEDED, OutcomeState.CANCELLED


def test_R78_which_outcomes_are_final_and_which_are_successes() -> None:
    assert [state for state in OutcomeState if not state.is_final] == [PENDING]
    assert [state for state in OutcomeState if state.is_success] == [APPLIED, UNCHANGED]


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        ({PENDING: 1}, TaskState.RUNNING),
        ({PENDING: 1, APPLIED: 5, REFUSED: 1, CANCELLED: 1}, TaskState.RUNNING),
        ({APPLIED: 2}, TaskState.SUCCEEDED),
        ({UNCHANGED: 2}, TaskState.SUCCEEDED),
        ({APPLIED: 1, UNCHANGED: 1, REFUSED: 0, PENDING: 0}, TaskState.SUCCEEDED),
        ({APPLIED: 1, REFUSED: 1}, TaskState.PARTIAL),
        ({UNCHANGED: 1, CANCELLED: 1}, TaskState.PARTIAL),
        ({APPLIED: 1, SUPERSEDED: 9}, TaskState.PARTIAL),
        ({REFUSED: 1}, TaskState.FAILED),
        ({SUPERSEDED: 1}, TaskState.FAILED),
        ({LATE: 1}, TaskState.FAILED),
        ({REFUSED: 1, CANCELLED: 5}, TaskState.FAILED),
        ({CANCELLED: 2}, TaskState.CANCELLED),
        ({CANCELLED: 2, APPLIED: 0}, TaskState.CANCELLED),
        ({}, TaskState.FAILED),
        ({APPLIED: 0}, TaskState.FAILED),
    ],
)
def test_R78_the_state_of_a_task_follows_from_its_outcomes(
    counts: dict[OutcomeState, int], state: TaskState
) -> None:
    assert task_state(counts) is state


def test_a_negative_count_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="negative"):
        task_state({APPLIED: -1})


def test_with_nothing_pending_a_prediction_is_what_following_does(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    before = keyring_of([make_key(ends=-0.5)], [make_key()])
    for instruction in (
        Instruction(ACTIVE, make_key(ends=60)),
        Instruction(ACTIVE, make_key(kind=KeyKind.TRIAL)),
        Instruction(RESERVE, make_key(ends=60)),
        Instruction(RESERVE, None),
        Instruction(ACTIVE, None),
    ):
        assert predict(before, (), instruction, at(0)) == follow(before, instruction, at(0))


def test_R89_the_later_sees_the_result_of_the_earlier(make_key: MakeKey, at: At) -> None:
    renew = Instruction(RESERVE, make_key(ends=60))
    assert predict(EMPTY, (), renew, at(0)) is Refusal.NO_ACTIVE_KEY
    activate = Instruction(ACTIVE, make_key())
    result = predict(EMPTY, (activate,), renew, at(0))
    assert isinstance(result, Transition)
    assert len(result.keyring.slots) == 2
    assert [change.kind for change in result.changes] == [ChangeKind.RESERVE_ADDED]
    subscribe = Instruction(ACTIVE, make_key(kind=KeyKind.SUBSCRIPTION))
    ordered = predict(EMPTY, (activate, subscribe), renew, at(0))
    assert ordered is Refusal.ACTIVE_IS_SUBSCRIPTION


def test_R89_a_pending_instruction_that_is_refused_counts_for_nothing(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    before = keyring_of([make_key()])
    refused = (
        Instruction(ACTIVE, make_key(kind=KeyKind.TRIAL)),
        Instruction(RESERVE, make_key(ends=1)),
        Instruction(RESERVE, None),
    )
    renew = Instruction(RESERVE, make_key(ends=60))
    assert predict(before, refused, renew, at(0)) == follow(before, renew, at(0))


def test_R89_the_changes_of_pending_instructions_are_not_in_the_answer(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    before = keyring_of([make_key(ends=-0.5)], [make_key()])
    pending = (Instruction(ACTIVE, make_key(ends=50)),)
    result = predict(before, pending, Instruction(RESERVE, make_key(ends=60)), at(0))
    assert isinstance(result, Transition)
    assert [change.kind for change in result.changes] == [
        ChangeKind.RESERVE_PROMOTED,
        ChangeKind.RESERVE_ADDED,
    ]
    assert result.own_changes == result.changes[1:]

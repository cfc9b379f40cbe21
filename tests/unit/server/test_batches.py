"""Requests that the writer finds waiting together are one batch, as if they had come in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from sparekey.licensing.keyring import Role
from sparekey.server.fleet.changes import ChangeSvm, exclude_svms, forget_svms
from sparekey.server.keys.adding import AddKey, DeleteKey, add_keys, delete_keys
from sparekey.server.keys.blocking import MarkBlocked, mark_blocked
from sparekey.server.store.requests import RequestKey, Retry
from sparekey.server.tasks.ending import CancelTask, cancel_tasks
from sparekey.server.tasks.starting import StartTask, start_tasks
from sparekey.v1 import license_pb2
from sparekey.wire.errors import CallRefused

from .world import SIGNER, World, make_key

STORED, NEW, LATER = make_key(1), make_key(2), make_key(3, ends=60)
Making = Callable[[World, Retry], Any]


def _start(world: World, retry: Retry) -> StartTask:
    order = world.order(STORED, Role.ACTIVE, ["svm-1"])
    return StartTask(order, retry, license_pb2.ActivateResponse)


def _change(excluded: bool | None) -> Making:
    return lambda _, retry: ChangeSvm(
        "svm-1",
        connected=False,
        actor="operator",
        retry=retry,
        validate_only=False,
        excluded=excluded,
    )


BATCHES: dict[str, tuple[Any, Making]] = {
    "start": (start_tasks, _start),
    "add": (add_keys, lambda _, retry: AddKey(NEW, SIGNER.sign(NEW), "operator", retry)),
    "delete": (delete_keys, lambda _, retry: DeleteKey(LATER.serial, False, "operator", retry)),
    "block": (mark_blocked, lambda _, retry: MarkBlocked((LATER.serial,), "operator", retry)),
    "cancel": (cancel_tasks, lambda _, retry: CancelTask("task-1", "operator", retry)),
    "exclude": (exclude_svms, _change(excluded=True)),
    "forget": (forget_svms, _change(excluded=None)),
}


@pytest.fixture
def world(engine: Engine) -> World:
    """A world with an SVM for which a task waits."""
    world = World(engine)
    world.add_keys([STORED, LATER])
    world.add_svm("svm-1")
    assert isinstance(world.start(world.order(STORED, Role.ACTIVE)), license_pb2.Task)
    return world


@pytest.mark.parametrize("name", BATCHES)
def test_a_retry_in_the_batch_of_its_first_call_is_answered_alike(world: World, name: str) -> None:
    operation, make = BATCHES[name]
    retry = Retry(RequestKey("operator", name, "once"), b"content")
    other = Retry(retry.key, b"other content")
    answers = world.write(operation, *(make(world, one) for one in (retry, retry, other, retry)))
    assert not isinstance(answers[0], CallRefused)
    assert answers[0] == answers[1] == answers[3]
    assert isinstance(answers[2], CallRefused)
    assert answers[2].reason_name == "REQUEST_ID_REUSED"
    (later,) = world.write(operation, make(world, retry))
    assert later == answers[0]


def test_R89_of_tasks_in_one_batch_each_sees_those_before_it(world: World) -> None:
    """An active key, its reserve, a second active key: only what is left is given to the SVM."""
    second = make_key(4, ends=40)
    world.add_keys([second])
    orders = [
        world.order(STORED, Role.ACTIVE, ["svm-1"]),
        world.order(LATER, Role.RESERVE),
        world.order(second, Role.ACTIVE, ["svm-1"]),
    ]
    no_retry = Retry(None, b"")
    requests = [StartTask(order, no_retry, license_pb2.ActivateResponse) for order in orders]
    answers = world.write(start_tasks, *requests)
    assert [answer.task.outcomes[0].state for answer in answers] == [
        license_pb2.OUTCOME_STATE_PENDING
    ] * 3
    world.sync(["svm-1"])
    assert world.svms["svm-1"].keeper.keyring.serials() == {
        slot: held.key.serial for slot, held in world.record("svm-1").keyring.slots.items()
    }
    held = {held.key.serial for held in world.record("svm-1").keyring.slots.values()}
    assert held == {second.serial, LATER.serial}


def test_a_refused_request_in_a_batch_leaves_no_trace(world: World) -> None:
    good = StartTask(
        world.order(LATER, Role.ACTIVE), Retry(None, b""), license_pb2.ActivateResponse
    )
    bad = StartTask(world.order(NEW, Role.ACTIVE), Retry(None, b""), license_pb2.ActivateResponse)
    answers = world.write(start_tasks, bad, good, bad)
    assert [isinstance(answer, CallRefused) for answer in answers] == [True, False, True]
    assert not any(event.task_id == bad.order.task_id for event in world.events())

"""What tests say and hear in words: scopes, slots, outcomes, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc.aio
import pytest

from sparekey.licensing.keyring import Slot
from sparekey.licensing.keys import LicenseKey
from sparekey.v1 import keyring_pb2, license_pb2
from sparekey.wire.errors import CallProblem, read_problem
from sparekey.wire.licensing_messages import read_slot

PATIENCE = 10.0
"""Seconds after which what does not come counts as never coming."""

Held = dict[tuple[str, str], str]
"""Serials by slot in words, for example {("SERVER", "ACTIVE"): "..."}."""


def serial_of(key: LicenseKey | str) -> str:
    """The serial of a key or itself."""
    return key if isinstance(key, str) else key.serial


def scope_of(svm_ids: Iterable[str] = (), cluster: str = "") -> license_pb2.Scope:
    """Picked SVMs, else a cluster, else all."""
    if ids := list(svm_ids):
        return license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=ids))
    if cluster:
        return license_pb2.Scope(cluster=cluster)
    return license_pb2.Scope(all=license_pb2.AllSvms())


def slot_in_words(slot: Slot) -> tuple[str, str]:
    """A slot's type and role."""
    return slot.type.value, slot.role.value


def in_words(keyring: keyring_pb2.Keyring) -> Held:
    """A keyring's serials by slot."""
    words: Held = {}
    for held in keyring.keys:
        slot = read_slot(held.slot)
        assert slot is not None
        words[slot_in_words(slot)] = held.serial
    return words


def outcomes_of(task: license_pb2.Task) -> dict[str, str]:
    """By SVM how a task ended there: the state, or why it was refused."""
    return {
        one.svm_id: word(license_pb2.RefusalReason, one.reason)
        if one.state == license_pb2.OUTCOME_STATE_REFUSED
        else word(license_pb2.OutcomeState, one.state)
        for one in task.outcomes
    }


def advice_of(outcome: license_pb2.Outcome | license_pb2.Task) -> list[str]:
    """The advice of an outcome or a task, in words."""
    return [word(license_pb2.Advice, one) for one in outcome.advice]


def state_of(task: license_pb2.Task) -> str:
    """A task's state in a word."""
    return word(license_pb2.TaskState, task.state)


def word(enum: Any, number: int) -> str:
    prefix = "".join(f"_{c}" if c.isupper() else c.upper() for c in enum.DESCRIPTOR.name)
    return str(enum.Name(number)).removeprefix(prefix.removeprefix("_") + "_")


async def refusal_of(call: Awaitable[Any]) -> CallProblem:
    """How a call is refused; it must be, and by an error of Sparekey's own."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    problem = read_problem(failed.value)
    assert problem.reason, f"no ErrorInfo of ours: {problem}"
    assert problem.reason != "INTERNAL", problem
    return problem


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition of this process holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - it is a condition of any kind
            await asyncio.sleep(0.002)

"""The newest instruction for each slot of each SVM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, bindparam, select, text, update

from sparekey.licensing.keyring import Slot
from sparekey.server.store import schema
from sparekey.server.store.bulk import BulkInsert, Lookup, upsert
from sparekey.server.store.slots import SLOT_NAMES, SLOTS_NAMED

_instructions = schema.instructions


class Action(Enum):
    """What an instruction asks of its slot."""

    KEY = "KEY"
    REMOVE = "REMOVE"
    BLOCKED = "BLOCKED"


class InstructionState(Enum):
    """Whether an instruction still waits for its SVM."""

    PENDING = "PENDING"
    DONE = "DONE"
    WITHDRAWN = "WITHDRAWN"


class StoredInstruction(NamedTuple):
    """One slot's newest instruction.

    Attributes:
        svm_id: The SVM.
        slot: The slot.
        version: Counts up for each SVM over all its slots.
        action: What to do.
        serial: The key to hold, or the key that is blocked.
        task_id: The task that it belongs to, if any.
        state: Whether it still waits.
    """

    svm_id: str
    slot: Slot
    version: int
    action: Action
    serial: str | None = None
    task_id: str | None = None
    state: InstructionState = InstructionState.PENDING


_ALL = Lookup(
    select(_instructions).where(_instructions.c.svm_id.in_(bindparam("values", expanding=True)))
)
_PENDING = Lookup(
    select(_instructions)
    .where(
        _instructions.c.svm_id.in_(bindparam("values", expanding=True)),
        _instructions.c.state == text("'PENDING'"),
    )
    .order_by(_instructions.c.svm_id, _instructions.c.version)
)


def load_instructions(
    connection: Connection, svm_ids: Iterable[str]
) -> dict[str, dict[Slot, StoredInstruction]]:
    """The newest instructions of SVMs, whatever their state."""
    found: dict[str, dict[Slot, StoredInstruction]] = {}
    for row in _ALL.rows(connection, svm_ids):
        instruction = _stored(row)
        found.setdefault(instruction.svm_id, {})[instruction.slot] = instruction
    return found


def load_pending(
    connection: Connection, svm_ids: Iterable[str]
) -> dict[str, list[StoredInstruction]]:
    """The instructions that SVMs have not confirmed, by version; SVMs without any are absent."""
    found: dict[str, list[StoredInstruction]] = {}
    for row in _PENDING.rows(connection, svm_ids):
        instruction = _stored(row)
        found.setdefault(instruction.svm_id, []).append(instruction)
    return found


def svms_with_pending(connection: Connection) -> list[str]:
    """Every SVM that has not confirmed an instruction."""
    query = (
        select(_instructions.c.svm_id).where(_instructions.c.state == text("'PENDING'")).distinct()
    )
    return list(connection.scalars(query))


def save_instructions(connection: Connection, changed: Sequence[StoredInstruction]) -> None:
    """Write instructions in place of their slots' older ones."""
    _UPSERT.run(connection, [_values(instruction) for instruction in changed])


def withdraw_task(connection: Connection, task_id: str) -> list[StoredInstruction]:
    """Withdraw what a task's SVMs have not confirmed; return those instructions."""
    return _withdraw(connection, _instructions.c.task_id == task_id)


def withdraw_key(connection: Connection, serial: str) -> list[StoredInstruction]:
    """Withdraw what tasks have instructed of a key and no SVM has confirmed; return it."""
    condition = and_(
        _instructions.c.serial == serial,
        _instructions.c.action == Action.KEY.name,
        _instructions.c.task_id.is_not(None),
    )
    return _withdraw(connection, condition)


def _withdraw(connection: Connection, which: ColumnElement[bool]) -> list[StoredInstruction]:
    condition = and_(which, _instructions.c.state == text("'PENDING'"))
    pending = [
        _stored(tuple(row)) for row in connection.execute(select(_instructions).where(condition))
    ]
    connection.execute(
        update(_instructions).where(condition).values(state=InstructionState.WITHDRAWN.name)
    )
    return pending


_KEY = ("svm_id", "type", "role")
_REST = ("version", "action", "serial", "task_id", "state")
_UPSERT = BulkInsert(upsert(_instructions, _KEY, _REST), (*_KEY, *_REST))


def _values(instruction: StoredInstruction) -> tuple[object, ...]:
    return (
        instruction.svm_id,
        *SLOT_NAMES[instruction.slot],
        instruction.version,
        instruction.action.name,
        instruction.serial,
        instruction.task_id,
        instruction.state.name,
    )


def _stored(row: Sequence[Any]) -> StoredInstruction:
    svm_id, key_type, role, version, action, serial, task_id, state = row
    return StoredInstruction(
        svm_id,
        SLOTS_NAMED[key_type, role],
        version,
        Action[action],
        serial,
        task_id,
        InstructionState[state],
    )

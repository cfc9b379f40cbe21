"""The instructions that wait for an SVM, and what they will make of its keyring.

Only the newest instruction for a slot waits. What waits is followed in the order
of versions, so that a later task sees an earlier one's result (R89).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sparekey.licensing.changes import Transition
from sparekey.licensing.instructions import Instruction, follow
from sparekey.licensing.keyring import Keyring, Role
from sparekey.licensing.refusals import Refusal
from sparekey.licensing.settling import settle
from sparekey.licensing.transitions import block
from sparekey.server.store.instructions import Action, StoredInstruction
from sparekey.server.store.keys import StoredKey


def follow_stored(
    keyring: Keyring,
    stored: StoredInstruction,
    keys: Mapping[str, StoredKey],
    now: datetime,
) -> Transition | Refusal:
    """What an SVM will do with an instruction, by the rules that it goes by itself."""
    if stored.action is Action.BLOCKED:
        assert stored.serial is not None
        return block(keyring, stored.serial, now)
    if stored.action is Action.REMOVE:
        return follow(keyring, Instruction(stored.slot, None), now)
    assert stored.serial is not None
    key = keys.get(stored.serial)
    if key is None:
        return Refusal.KEY_NOT_IN_STORAGE
    return follow(keyring, Instruction(stored.slot, key.key, blocked=key.blocked), now)


def project(
    keyring: Keyring,
    waiting: Sequence[StoredInstruction],
    keys: Mapping[str, StoredKey],
    now: datetime,
) -> Keyring:
    """The keyring as it will be once time and all that waits have done their work."""
    keyring = settle(keyring, now).keyring
    for stored in waiting:
        result = follow_stored(keyring, stored, keys, now)
        if isinstance(result, Transition):
            keyring = result.keyring
    return keyring


def foresee(
    keyring: Keyring,
    waiting: Sequence[StoredInstruction],
    new: StoredInstruction,
    keys: Mapping[str, StoredKey],
    now: datetime,
) -> tuple[Transition | Refusal, Keyring]:
    """What the SVM will do with a new instruction, and its keyring after all that waits then.

    The new one is looked at in the place that `queue_instruction` gives it, so without
    the one that it supersedes. Where it is refused, all that waits stays.
    """
    before, behind, _ = _place(waiting, new)
    result = follow_stored(project(keyring, before, keys, now), new, keys, now)
    if isinstance(result, Refusal):
        return result, project(keyring, waiting, keys, now)
    return result, project(result.keyring, behind, keys, now)


def _place(
    waiting: Sequence[StoredInstruction], new: StoredInstruction
) -> tuple[Sequence[StoredInstruction], Sequence[StoredInstruction], StoredInstruction | None]:
    """What is followed before a new instruction, what behind it, and what it supersedes.

    A new active key goes where the older one was, since a reserve key may rest on it.
    On a reserve key nothing rests, and a new one may rest on anything: it goes last.
    """
    at = next((i for i, stored in enumerate(waiting) if stored.slot == new.slot), None)
    if at is None:
        return waiting, (), None
    before, behind = waiting[:at], waiting[at + 1 :]
    if new.slot.role is Role.RESERVE:
        return (*before, *behind), (), waiting[at]
    return before, behind, waiting[at]


class Queued(NamedTuple):
    """What waits after one more instruction was put in.

    Attributes:
        waiting: All that waits, by version.
        changed: What must be written: the new instruction and those that got
            new versions with it.
        superseded: The instruction whose slot the new one took.
        overtaken: Instructions that no longer wait, since the rules refuse them
            after the new one; with the reason.
        version: The highest version given.
    """

    waiting: tuple[StoredInstruction, ...]
    changed: tuple[StoredInstruction, ...]
    superseded: StoredInstruction | None
    overtaken: tuple[tuple[StoredInstruction, Refusal], ...]
    version: int


def queue_instruction(
    keyring: Keyring,
    waiting: Sequence[StoredInstruction],
    new: StoredInstruction,
    version: int,
    keys: Mapping[str, StoredKey],
    now: datetime,
) -> Queued:
    """Put an instruction in; it takes the place of an older one for its slot.

    What was put in after an older active key may rest on it. So those get new
    versions behind the new instruction, and leave where the rules now refuse them.

    Args:
        keyring: The SVM's keyring as reported.
        waiting: What waits, by version.
        new: The instruction; its version is given here.
        version: The highest version given so far.
        keys: The keys that instructions name, by serial.
        now: The present instant.
    """
    before, behind, superseded = _place(waiting, new)
    if not behind:
        new = _numbered(new, version + 1)
        return Queued((*before, new), (new,), superseded, (), version + 1)
    keyring = project(keyring, before, keys, now)
    changed: list[StoredInstruction] = []
    overtaken: list[tuple[StoredInstruction, Refusal]] = []
    for stored in (new, *behind):
        result = follow_stored(keyring, stored, keys, now)
        if isinstance(result, Refusal) and stored is not new:
            overtaken.append((stored, result))
            continue
        if isinstance(result, Transition):
            keyring = result.keyring
        version += 1
        changed.append(_numbered(stored, version))
    return Queued((*before, *changed), tuple(changed), superseded, tuple(overtaken), version)


def _numbered(stored: StoredInstruction, version: int) -> StoredInstruction:
    return StoredInstruction(
        stored.svm_id,
        stored.slot,
        version,
        stored.action,
        stored.serial,
        stored.task_id,
        stored.state,
    )

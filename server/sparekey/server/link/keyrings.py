"""Taking in the keyring that an SVM reports: what it says is the truth about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sparekey.licensing.keyring import HeldKey, Keyring, Role, Slot, usable
from sparekey.licensing.keys import InvalidKey
from sparekey.server.store.instructions import Action, StoredInstruction
from sparekey.server.store.keys import StoredKey
from sparekey.server.store.svms import SvmRecord, reported_key
from sparekey.server.store.transaction import Transaction
from sparekey.v1 import error_pb2, event_pb2, keyring_pb2
from sparekey.wire.errors import CallRefused
from sparekey.wire.field_rules import SERIAL
from sparekey.wire.licensing_messages import EDITIONS_READ, KEY_KINDS_READ, read_slot
from sparekey.wire.timestamps import from_timestamp, instant_or_none

ACTOR = "agent"
"""Who leads to what an SVM reports."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """What a reported keyring calls for: instructions that no task gave.

    Their versions are given when they are put in.
    """

    instructions: tuple[StoredInstruction, ...]


def take_keyring(
    transaction: Transaction,
    record: SvmRecord,
    message: keyring_pb2.Keyring,
    reported: Keyring,
    keys: Mapping[str, StoredKey],
    tasks: Mapping[tuple[Slot, str], str],
) -> Remedy:
    """Put a reported keyring into the record, and its changes into the history.

    Args:
        transaction: Where the events go.
        record: The SVM.
        message: The keyring as reported.
        reported: The same, as `read_keyring` read it.
        keys: The keys that it names and those held before, as far as they are known.
        tasks: By slot and serial the task that led to a change.
    """
    before, old_revision = record.keyring, record.keyring_revision
    if message.revision == old_revision and reported == before:
        return Remedy(())
    changes = [one for one in message.changes if one.revision > old_revision]
    revisions = [one.revision for one in changes]
    # The length first: an agent can name a revision so high that no memory holds the range.
    joins_on = message.revision - old_revision == len(revisions)
    if changes and joins_on and revisions == list(range(old_revision + 1, message.revision + 1)):
        for change in changes:
            _add_change_event(transaction, record.svm_id, change, tasks)
    else:
        transaction.add_event(
            event_pb2.EVENT_KIND_KEYRING_RESYNCED,
            "The SVM's keyring was taken as reported: its changes did not join on.",
            actor=ACTOR,
            svm_id=record.svm_id,
            keyring=keyring_pb2.Keyring(revision=message.revision, keys=message.keys),
        )
    record.keyring, record.keyring_revision = reported, message.revision
    transaction.commit.svms.add(record.svm_id)
    lost = before if message.revision < old_revision else None
    return Remedy((*_restore(transaction, record, lost, keys), *untold_blocks(record, keys)))


def read_keyring(message: keyring_pb2.Keyring, keys: Mapping[str, StoredKey]) -> Keyring:
    """The keyring that an SVM reports.

    Raises:
        CallRefused: it holds a key or an instant that breaks the rules.
    """
    slots = {}
    try:
        for change in message.changes:
            _check_change(change)
        for held in message.keys:
            slot = read_slot(held.slot)
            # One of a newer release: the agent keeps it, this server cannot show it.
            if slot is not None:
                slots[slot] = _read_held(slot, held, keys)
    except (InvalidKey, KeyError, OverflowError):
        raise CallRefused(
            error_pb2.ERROR_REASON_INVALID_FIELD,
            "the reported keyring holds a key that breaks the rules; update the agent",
        ) from None
    return Keyring(slots)


def _check_change(change: keyring_pb2.KeyringChange) -> None:
    from_timestamp(change.changed_at)
    if not SERIAL.fullmatch(change.serial):
        raise InvalidKey(f"{change.serial[:80]!r} is no serial")


def _read_held(slot: Slot, held: keyring_pb2.HeldKey, keys: Mapping[str, StoredKey]) -> HeldKey:
    stored = keys.get(held.serial)
    key = (
        stored.key
        if stored is not None and stored.key.type is slot.type
        else reported_key(
            held.serial,
            slot.type,
            KEY_KINDS_READ[held.kind],
            EDITIONS_READ[held.edition],
            from_timestamp(held.not_before),
            instant_or_none(held, "expires_at"),
        )
    )
    return HeldKey(
        key,
        from_timestamp(held.installed_at),
        ended_at=instant_or_none(held, "ended_at"),
        blocked_at=instant_or_none(held, "blocked_at"),
    )


def _add_change_event(
    transaction: Transaction,
    svm_id: str,
    change: keyring_pb2.KeyringChange,
    tasks: Mapping[tuple[Slot, str], str],
) -> None:
    slot = read_slot(change.slot)
    task_id = tasks.get((slot, change.serial), "") if slot is not None else ""
    transaction.add_event(
        event_pb2.EVENT_KIND_KEYRING_CHANGED,
        describe_change(change),
        actor=ACTOR,
        occurred_at=from_timestamp(change.changed_at),
        svm_id=svm_id,
        serial=change.serial,
        task_id=task_id,
        change=change,
    )


_SENTENCES = {
    keyring_pb2.KEYRING_CHANGE_KIND_KEY_ACTIVATED: "Key {new} became active.",
    keyring_pb2.KEYRING_CHANGE_KIND_KEY_REPLACED: "Key {new} took the place of {old}.",
    keyring_pb2.KEYRING_CHANGE_KIND_KEY_REMOVED: "Active key {new} was removed.",
    keyring_pb2.KEYRING_CHANGE_KIND_KEY_EXPIRED: "Active key {new} ended; no reserve took over.",
    keyring_pb2.KEYRING_CHANGE_KIND_KEY_BLOCKED: "Active key {new} was blocked.",
    keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_ADDED: "Key {new} was added in reserve.",
    keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_REPLACED: "Reserve {new} took the place of {old}.",
    keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_REMOVED: "Reserve key {new} was removed.",
    keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_PROMOTED: "Reserve {new} took over from {old}.",
}


def describe_change(change: keyring_pb2.KeyringChange) -> str:
    """One sentence about a change, for a person."""
    sentence = _SENTENCES.get(change.kind, "The keyring changed: {new}.")
    return sentence.format(new=change.serial, old=change.previous_serial or "another")


def _restore(
    transaction: Transaction,
    record: SvmRecord,
    lost: Keyring | None,
    keys: Mapping[str, StoredKey],
) -> Iterable[StoredInstruction]:
    """Instructions that give an SVM which lost its keyring what it had; actives first."""
    if lost is None:
        return
    for slot in sorted(lost.slots, key=lambda slot: (slot.role is Role.RESERVE, slot)):
        serial = lost.slots[slot].key.serial
        stored = keys.get(serial)
        if (
            slot not in record.keyring.slots
            and stored is not None
            and usable(lost.slots[slot], transaction.now)
        ):
            yield StoredInstruction(record.svm_id, slot, 0, Action.KEY, serial)


def untold_blocks(record: SvmRecord, keys: Mapping[str, StoredKey]) -> Iterable[StoredInstruction]:
    """Instructions that tell an SVM of blocked keys which it does not know to be blocked."""
    for slot, held in record.keyring.slots.items():
        stored = keys.get(held.key.serial)
        if stored is not None and stored.blocked and held.blocked_at is None:
            yield StoredInstruction(record.svm_id, slot, 0, Action.BLOCKED, held.key.serial)

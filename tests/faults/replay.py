"""Rebuilding an SVM's state from its events alone, strictly: each must be possible in its turn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sparekey.licensing.changes import Change, ChangeKind, apply_change
from sparekey.licensing.guests import GuestMix
from sparekey.licensing.keyring import Role, Slot
from sparekey.v1 import event_pb2
from sparekey.wire.licensing_messages import read_change, read_guest_mix, read_slot

_NEEDS_PREVIOUS = {ChangeKind.KEY_REPLACED, ChangeKind.RESERVE_REPLACED}
_NEEDS_EMPTY = {ChangeKind.KEY_ACTIVATED, ChangeKind.RESERVE_ADDED}


@dataclass(slots=True)
class Rebuilt:
    """An SVM as its events tell it.

    Attributes:
        slots: The serial in each slot.
        revision: The keyring's revision.
        ended: Slots whose key has ended.
        guests: The guests beside the SVM.
        changes: How many changes of the keyring there were.
        promotions: How many of them were promotions.
        resyncs: How often changes did not join on.
        twice: Changes that were told twice.
        impossible: Changes that could not happen where they are told.
    """

    slots: dict[Slot, str] = field(default_factory=dict)
    revision: int = 0
    ended: set[Slot] = field(default_factory=set)
    guests: GuestMix = field(default_factory=GuestMix)
    changes: int = 0
    promotions: int = 0
    resyncs: int = 0
    twice: list[str] = field(default_factory=list)
    impossible: list[str] = field(default_factory=list)


def rebuild(events: Iterable[event_pb2.Event]) -> Rebuilt:
    """Rebuild one SVM from its events, which come in the order of the history."""
    svm = Rebuilt()
    for event in events:
        if event.HasField("guests"):
            svm.guests = read_guest_mix(event.guests)
        if event.kind == event_pb2.EVENT_KIND_KEYRING_CHANGED:
            _follow(svm, event)
        if event.kind == event_pb2.EVENT_KIND_KEYRING_RESYNCED:
            svm.resyncs += 1
            svm.revision = event.keyring.revision
            held = {read_slot(one.slot): one for one in event.keyring.keys}
            svm.slots = {slot: one.serial for slot, one in held.items() if slot is not None}
            svm.ended = {
                slot for slot, one in held.items() if slot is not None and one.HasField("ended_at")
            }
    return svm


def _follow(svm: Rebuilt, event: event_pb2.Event) -> None:
    change = read_change(event.change)
    if change is None:
        svm.impossible.append(f"{event.message} is of no kind that we know")
        return
    revision = event.change.revision
    if revision <= svm.revision:
        svm.twice.append(f"{revision} after {svm.revision}: {event.message}")
        return
    problem = _problem(svm, change)
    if revision != svm.revision + 1:
        problem = f"revision {revision} after {svm.revision}"
    if problem:
        svm.impossible.append(f"{event.message} ({problem})")
    svm.changes += 1
    svm.promotions += change.kind is ChangeKind.RESERVE_PROMOTED
    svm.revision = revision
    apply_change(svm.slots, change)
    svm.ended.discard(change.slot)
    if change.kind is ChangeKind.KEY_EXPIRED:
        svm.ended.add(change.slot)


def _problem(svm: Rebuilt, change: Change) -> str:
    """Why a change cannot happen now; empty where it can."""
    held = svm.slots.get(change.slot)
    if change.kind in _NEEDS_EMPTY:
        return f"the slot holds {held}" if held is not None else ""
    if change.kind in _NEEDS_PREVIOUS:
        return f"the slot holds {held}" if held != change.previous_serial else ""
    if change.kind is ChangeKind.RESERVE_PROMOTED:
        reserve = svm.slots.get(Slot(change.slot.type, Role.RESERVE))
        return f"the reserve is {reserve}" if reserve != change.serial else ""
    return f"the slot holds {held}" if held != change.serial else ""

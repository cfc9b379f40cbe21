"""What requests do to an SVM's keys: the rules of activating, renewing, removing and blocking.

Each function takes a keyring and gives a new one with what happened, or a `Refusal`. Each settles
first, so that the past has happened before the request is looked at, and settles after, so that a
valid reserve never waits beside an unusable active key. On a refusal it is for the caller to
settle. `now` is a UTC instant.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from sparekey.licensing.changes import Change, ChangeKind, ChangeReason, Transition
from sparekey.licensing.keyring import HeldKey, Keyring, Role, Slot, ends_later, usable
from sparekey.licensing.keys import KeyKind, LicenseKey
from sparekey.licensing.refusals import Refusal
from sparekey.licensing.settling import next_due, settle

__all__ = [
    "Transition",
    "add_active",
    "add_reserve",
    "block",
    "next_due",
    "remove",
    "settle",
]


def add_active(
    keyring: Keyring, key: LicenseKey, now: datetime, *, blocked: bool = False
) -> Transition | Refusal:
    """Activate the SVM with a key, in the place of a key of its type or of another scheme.

    `blocked`: whether the key is known to be blocked. First failure wins: KEY_BLOCKED, KEY_EXPIRED,
    KEY_NOT_YET_VALID, TRIAL_OVER_COMMERCIAL (R27). The key that is active and usable already
    changes nothing (R97). Otherwise: R35, R36, R37, R38; reserves that no longer fit go (R18, R83,
    R86).
    """
    past = settle(keyring, now)
    keyring = past.keyring
    slot = Slot(key.type, Role.ACTIVE)
    old = keyring.active(key.type)
    if refusal := _refusal_of_active(keyring, key, now, blocked):
        return refusal
    # The same serial with other content is a key issued anew (a renewed subscription): replace.
    if old and old.key == key and usable(old, now):
        return past

    changes = list(past.changes)
    for other in sorted(keyring.slots, key=_reserves_first):
        if other.type.scheme is not key.type.scheme:
            changes.append(_removal(keyring, other, now, ChangeReason.SCHEME_CHANGED))
            keyring = keyring.without(other)
    keyring = keyring.with_(slot, HeldKey(key, installed_at=now))
    kind = ChangeKind.KEY_REPLACED if old else ChangeKind.KEY_ACTIVATED
    previous = old.key.serial if old else None
    changes.append(Change(kind, slot, key.serial, now, ChangeReason.REQUESTED, previous))
    for unfit, reason in _reserves_unfit_for(keyring, key):
        changes.append(_removal(keyring, unfit, now, reason))
        keyring = keyring.without(unfit)
    return _answer(past, keyring, changes, now)


def add_reserve(
    keyring: Keyring, key: LicenseKey, now: datetime, *, blocked: bool = False
) -> Transition | Refusal:
    """Give the SVM a key that takes over when its active key of the same type ends (R1).

    `blocked`: whether the key is known to be blocked. First failure wins, in the order of R77,
    whose first, KEY_NOT_IN_STORAGE, is the caller's to find. An active key that is ended or blocked
    counts as the SVM's active key: then a reserve that has started is promoted at once. A reserve
    that is to start later is accepted. A second reserve of a type replaces the first (R84); the
    same one again changes nothing.
    """
    past = settle(keyring, now)
    keyring = past.keyring
    slot = Slot(key.type, Role.RESERVE)
    if refusal := _refusal_of_reserve(keyring, key, now, blocked):
        return refusal
    old = keyring.reserve(key.type)
    if old and old.key == key:
        return past
    kind = ChangeKind.RESERVE_REPLACED if old else ChangeKind.RESERVE_ADDED
    previous = old.key.serial if old else None
    added = Change(kind, slot, key.serial, now, ChangeReason.REQUESTED, previous)
    keyring = keyring.with_(slot, HeldKey(key, installed_at=now))
    return _answer(past, keyring, [*past.changes, added], now)


def remove(keyring: Keyring, slot: Slot, now: datetime) -> Transition | Refusal:
    """Take the key out of a slot; SLOT_EMPTY if none is there.

    A valid reserve takes an active key's place at once (R85). One that has not started cannot stay
    without its active key, and goes too.
    """
    past = settle(keyring, now)
    keyring = past.keyring
    held = keyring.slots.get(slot)
    if held is None:
        return Refusal.SLOT_EMPTY
    changes = [*past.changes, _removal(keyring, slot, now, ChangeReason.REQUESTED)]
    keyring = keyring.without(slot)
    reserve = keyring.reserve(slot.type)
    if slot.role is Role.ACTIVE and reserve:
        reserve_slot = Slot(slot.type, Role.RESERVE)
        if usable(reserve, now):
            keyring = keyring.without(reserve_slot).with_(slot, reserve)
            changes.append(
                Change(
                    ChangeKind.RESERVE_PROMOTED,
                    slot,
                    reserve.key.serial,
                    now,
                    ChangeReason.ACTIVE_REMOVED,
                    previous_serial=held.key.serial,
                )
            )
        else:
            changes.append(_removal(keyring, reserve_slot, now, ChangeReason.ACTIVE_REMOVED))
            keyring = keyring.without(reserve_slot)
    return _answer(past, keyring, changes, now)


def block(keyring: Keyring, serial: str, now: datetime) -> Transition:
    """Mark a key as blocked, wherever the SVM holds it (R72).

    An active key stays, marked, unless a valid reserve takes its place at once (R85); a reserve is
    removed. A key that is blocked already, or not held, changes nothing.
    """
    past = settle(keyring, now)
    keyring = past.keyring
    changes = list(past.changes)
    for slot, held in keyring.slots.items():
        if held.key.serial != serial or held.blocked_at is not None:
            continue
        if slot.role is Role.RESERVE:
            changes.append(_removal(keyring, slot, now, ChangeReason.BLOCKED))
            keyring = keyring.without(slot)
        else:
            changes.append(Change(ChangeKind.KEY_BLOCKED, slot, serial, now, ChangeReason.BLOCKED))
            keyring = keyring.with_(slot, replace(held, blocked_at=now))
    return _answer(past, keyring, changes, now)


def _refusal_of_active(
    keyring: Keyring, key: LicenseKey, now: datetime, blocked: bool
) -> Refusal | None:
    if blocked:
        return Refusal.KEY_BLOCKED
    if key.has_expired_at(now):
        return Refusal.KEY_EXPIRED
    if not key.has_started_at(now):
        return Refusal.KEY_NOT_YET_VALID
    if key.kind is KeyKind.TRIAL and any(
        held.key.kind is KeyKind.COMMERCIAL and usable(held, now)
        for held in keyring.actives()
        # A trial beside a commercial key of the other per-VM type replaces nothing.
        if held.key.type is key.type or held.key.type.scheme is not key.type.scheme
    ):
        return Refusal.TRIAL_OVER_COMMERCIAL
    return None


def _refusal_of_reserve(
    keyring: Keyring, key: LicenseKey, now: datetime, blocked: bool
) -> Refusal | None:
    if blocked:
        return Refusal.KEY_BLOCKED
    if key.has_expired_at(now):
        return Refusal.KEY_EXPIRED
    if key.kind is not KeyKind.COMMERCIAL:
        return Refusal.KIND_NOT_ALLOWED_AS_RESERVE
    actives = keyring.actives()
    if not actives:
        return Refusal.NO_ACTIVE_KEY
    if any(held.key.kind is KeyKind.SUBSCRIPTION for held in actives):
        return Refusal.ACTIVE_IS_SUBSCRIPTION
    active = keyring.active(key.type)
    if active is None:
        return Refusal.TYPE_MISMATCH
    if active.key.edition is not key.edition:
        return Refusal.EDITION_MISMATCH
    if active.key.serial == key.serial or not ends_later(key, active.key):
        return Refusal.RESERVE_NOT_LATER
    return None


def _reserves_unfit_for(keyring: Keyring, new: LicenseKey) -> Iterator[tuple[Slot, ChangeReason]]:
    """The reserves that cannot stay beside a new active key, and why (R18, R83, R86)."""
    for reserve in keyring.reserves():
        key = reserve.key
        slot = Slot(key.type, Role.RESERVE)
        if new.kind is not KeyKind.COMMERCIAL:
            yield slot, ChangeReason.ACTIVE_NOT_COMMERCIAL
        elif key.type is not new.type:
            continue  # R83: replacing one type's key never touches the other type's reserve.
        elif key.edition is not new.edition:
            yield slot, ChangeReason.EDITION_CHANGED
        elif key.serial == new.serial or not ends_later(key, new):
            yield slot, ChangeReason.RESERVE_ENDS_TOO_EARLY


def _removal(keyring: Keyring, slot: Slot, now: datetime, reason: ChangeReason) -> Change:
    kind = ChangeKind.KEY_REMOVED if slot.role is Role.ACTIVE else ChangeKind.RESERVE_REMOVED
    return Change(kind, slot, keyring.slots[slot].key.serial, now, reason)


def _reserves_first(slot: Slot) -> tuple[bool, Slot]:
    # So that no reserve is without its active key at any point of the history.
    return (slot.role is Role.ACTIVE, slot)


def _answer(past: Transition, keyring: Keyring, changes: list[Change], now: datetime) -> Transition:
    after = settle(keyring, now)
    return Transition(after.keyring, (*changes, *after.changes), settled=len(past.changes))

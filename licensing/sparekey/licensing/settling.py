"""What time alone does to an SVM's keys: active keys end, reserves take over.

Works the same offline and late: each change bears the instant that it belongs to, so a server or
an SVM that was down catches up to what it would have done (R87).
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple

from sparekey.licensing.changes import Change, ChangeKind, ChangeReason, Transition
from sparekey.licensing.keyring import HeldKey, Keyring, Role, Slot
from sparekey.licensing.keys import KeyType


class _Step(IntEnum):
    """In the order of their turn if due at one instant.

    So a reserve that takes over at the very instant of an expiry leaves no KEY_EXPIRED (R87).
    """

    DISCARD_RESERVE = 0
    PROMOTE_RESERVE = 1
    END_ACTIVE = 2


class _Due(NamedTuple):
    """A step and its instant; compares by instant, then type, then step."""

    at: datetime
    type_position: int
    step: _Step


_TYPES = tuple(KeyType)


def settle(keyring: Keyring, now: datetime) -> Transition:
    """Everything that time does up to and including `now`, in the order of its true instants.

    Once for a long span gives the same as many times for its parts; a second call changes nothing.
    """
    if not something_due(keyring, now):
        return Transition(keyring)
    changes: list[Change] = []
    while (due := _next_due(keyring, now)) and due.at <= now:
        keyring, change = _take(keyring, due)
        changes.append(change)
    return Transition(keyring, tuple(changes), settled=len(changes))


def something_due(keyring: Keyring, now: datetime) -> bool:
    """Whether a key has ended or was blocked, so that it may give way; cheap to see."""
    # A loop and no generator: every look at an SVM passes here.
    for held in keyring.slots.values():
        if held.blocked_at is not None or held.key.has_expired_at(now):
            return True
    return False


def next_due(keyring: Keyring, now: datetime) -> datetime | None:
    """The next instant after `now` at which `settle` would change something, if any."""
    due = _next_due(settle(keyring, now).keyring, now)
    return due.at if due else None


def _next_due(keyring: Keyring, now: datetime) -> _Due | None:
    return min(_all_due(keyring, now), default=None)


def _all_due(keyring: Keyring, now: datetime) -> Iterator[_Due]:
    for position, key_type in enumerate(_TYPES):
        active, reserve = keyring.active(key_type), keyring.reserve(key_type)
        if reserve:
            if discard_at := _discard_at(reserve, now):
                yield _Due(discard_at, position, _Step.DISCARD_RESERVE)
            if active and (promote_at := _promote_at(active, reserve, now)):
                yield _Due(promote_at, position, _Step.PROMOTE_RESERVE)
        if active and active.ended_at is None and active.key.expires_at:
            yield _Due(active.key.expires_at, position, _Step.END_ACTIVE)


# Marks later than now can only come from a clock that was set back (R82). They count as now, so
# that what has happened on the SVM is not undone until the clock has caught up.


def _discard_at(reserve: HeldKey, now: datetime) -> datetime | None:
    if reserve.blocked_at:
        return min(reserve.blocked_at, now)
    return reserve.key.expires_at


def _promote_at(active: HeldKey, reserve: HeldKey, now: datetime) -> datetime | None:
    lapsed_at = active.key.expires_at
    if active.blocked_at:
        blocked_at = min(active.blocked_at, now)
        lapsed_at = min(lapsed_at, blocked_at) if lapsed_at else blocked_at
    if lapsed_at is None or reserve.blocked_at:
        return None
    at = max(lapsed_at, reserve.key.not_before, min(reserve.installed_at, now))
    return None if reserve.key.has_expired_at(at) else at


def _take(keyring: Keyring, due: _Due) -> tuple[Keyring, Change]:
    key_type = _TYPES[due.type_position]
    active_slot, reserve_slot = Slot(key_type, Role.ACTIVE), Slot(key_type, Role.RESERVE)
    if due.step is _Step.END_ACTIVE:
        active = keyring.slots[active_slot]
        serial = active.key.serial
        ended = replace(active, ended_at=due.at)
        return keyring.with_(active_slot, ended), Change(
            ChangeKind.KEY_EXPIRED, active_slot, serial, due.at, ChangeReason.EXPIRED
        )
    reserve = keyring.slots[reserve_slot]
    serial = reserve.key.serial
    rest = keyring.without(reserve_slot)
    if due.step is _Step.DISCARD_RESERVE:
        reason = ChangeReason.BLOCKED if reserve.blocked_at else ChangeReason.EXPIRED
        return rest, Change(ChangeKind.RESERVE_REMOVED, reserve_slot, serial, due.at, reason)
    active = keyring.slots[active_slot]
    return rest.with_(active_slot, reserve), Change(
        ChangeKind.RESERVE_PROMOTED,
        active_slot,
        serial,
        due.at,
        _why_unusable(active),
        previous_serial=active.key.serial,
    )


def _why_unusable(active: HeldKey) -> ChangeReason:
    # Of a key both blocked and expired the reason is whichever came first.
    blocked_first = active.blocked_at and not active.key.has_expired_at(active.blocked_at)
    return ChangeReason.ACTIVE_BLOCKED if blocked_first else ChangeReason.ACTIVE_EXPIRED

"""What happened to an SVM's keys, one record a fact, so that the keyring can be rebuilt."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from sparekey.licensing.advice import Advice
from sparekey.licensing.keyring import Keyring, Role, Slot


class ChangeKind(Enum):
    """What a change did to its slot."""

    KEY_ACTIVATED = "KEY_ACTIVATED"
    KEY_REPLACED = "KEY_REPLACED"
    KEY_REMOVED = "KEY_REMOVED"
    KEY_EXPIRED = "KEY_EXPIRED"
    KEY_BLOCKED = "KEY_BLOCKED"
    RESERVE_ADDED = "RESERVE_ADDED"
    RESERVE_REPLACED = "RESERVE_REPLACED"
    RESERVE_REMOVED = "RESERVE_REMOVED"
    RESERVE_PROMOTED = "RESERVE_PROMOTED"


class ChangeReason(Enum):
    """Why it happened."""

    REQUESTED = "REQUESTED"
    SCHEME_CHANGED = "SCHEME_CHANGED"
    RESERVE_ENDS_TOO_EARLY = "RESERVE_ENDS_TOO_EARLY"
    EDITION_CHANGED = "EDITION_CHANGED"
    ACTIVE_NOT_COMMERCIAL = "ACTIVE_NOT_COMMERCIAL"
    ACTIVE_EXPIRED = "ACTIVE_EXPIRED"
    ACTIVE_BLOCKED = "ACTIVE_BLOCKED"
    ACTIVE_REMOVED = "ACTIVE_REMOVED"
    EXPIRED = "EXPIRED"
    BLOCKED = "BLOCKED"


@dataclass(frozen=True, slots=True)
class Change:
    """One fact about one slot.

    `serial` is the key that the fact is about: the new key of a replacement, the promoted key of a
    promotion. `previous_serial` is the key that it took the place of. `at` is the UTC instant that
    the fact belongs to, however late it was noticed (R87). Of a promotion, `slot` is the ACTIVE
    slot that was filled.
    """

    kind: ChangeKind
    slot: Slot
    serial: str
    at: datetime
    reason: ChangeReason
    previous_serial: str | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """A keyring after something was done to it, and all that happened on the way.

    The first `settled` of the changes are what time had done before the request was looked at;
    the others, `own_changes`, are the request's. `warnings` is empty until someone who knows the
    SVM's guests fills it (see `coverage.advise`).
    """

    keyring: Keyring
    changes: tuple[Change, ...] = ()
    warnings: tuple[Advice, ...] = ()
    settled: int = 0

    @property
    def own_changes(self) -> tuple[Change, ...]:
        """What the request itself did; empty if everything was as requested already (R97)."""
        return self.changes[self.settled :]


_FILLING = {
    ChangeKind.KEY_ACTIVATED,
    ChangeKind.KEY_REPLACED,
    ChangeKind.RESERVE_ADDED,
    ChangeKind.RESERVE_REPLACED,
    ChangeKind.RESERVE_PROMOTED,
}
_EMPTYING = {ChangeKind.KEY_REMOVED, ChangeKind.RESERVE_REMOVED}


def apply_change(slots: dict[Slot, str], change: Change) -> None:
    """Bring a mapping of slots to serials up to date with one change, in place.

    Applying all changes of an SVM in order to an empty mapping gives the serials of its keyring.
    Lenient on purpose: a history that starts midway is applied as far as it goes.
    """
    if change.kind in _FILLING:
        slots[change.slot] = change.serial
    if change.kind in _EMPTYING:
        slots.pop(change.slot, None)
    if change.kind is ChangeKind.RESERVE_PROMOTED:
        slots.pop(Slot(change.slot.type, Role.RESERVE), None)

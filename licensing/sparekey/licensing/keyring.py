"""The keys on one SVM: a slot for each key type and role, and the invariants between them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import ClassVar, NamedTuple, Self

from sparekey.licensing.keys import KeyKind, KeyType, LicenseKey, Scheme


class Role(Enum):
    """A key is in use now, or held to take over (R23)."""

    __hash__ = object.__hash__  # as KeyType has

    ACTIVE = "ACTIVE"
    RESERVE = "RESERVE"


class Slot(NamedTuple):
    """A place for one key; that there is one per type and role makes R24 true by construction.

    Ordered by type, then role, each as declared: the order of every listing.
    """

    # A tuple, since slots are made and looked up all the time and a tuple's own hash is quick.
    type: KeyType
    role: Role

    def __lt__(self, other: object) -> bool:
        return _SLOT_ORDER[self] < _SLOT_ORDER[other] if isinstance(other, Slot) else NotImplemented

    def __le__(self, other: object) -> bool:
        return self == other or self < other if isinstance(other, Slot) else NotImplemented

    def __gt__(self, other: object) -> bool:
        return other < self if isinstance(other, Slot) else NotImplemented

    def __ge__(self, other: object) -> bool:
        return other <= self if isinstance(other, Slot) else NotImplemented


_SLOT_ORDER = {
    slot: position
    for position, slot in enumerate(Slot(key_type, role) for key_type in KeyType for role in Role)
}


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key in a slot. All instants are UTC.

    `installed_at`: when the SVM got the key; a promotion keeps it. `ended_at`: set, once the end
    of an active key has been acted on, to the instant of that end. `blocked_at`: when the SVM
    learned that the key is blocked.
    """

    key: LicenseKey
    installed_at: datetime
    ended_at: datetime | None = None
    blocked_at: datetime | None = None

    @property
    def usable_until(self) -> datetime | None:
        """The expiry, or the blocking if that came first; None if there is no end in sight."""
        ends = [end for end in (self.key.expires_at, self.blocked_at) if end is not None]
        return min(ends, default=None)


def usable(held: HeldKey, now: datetime) -> bool:
    """Whether the key is valid by time (R81) and not blocked (R72)."""
    return held.blocked_at is None and held.key.is_valid_at(now)


@dataclass(frozen=True, slots=True)
class Keyring:
    """All the keys on one SVM; a value, never changed in place.

    An active key that has expired or was blocked stays in its slot, to be seen there, until it is
    replaced or removed or its reserve is promoted.
    """

    slots: Mapping[Slot, HeldKey] = field(default_factory=dict)

    EMPTY: ClassVar["Keyring"]

    def __post_init__(self) -> None:
        slots = dict(self.slots)
        positions = [_SLOT_ORDER[slot] for slot in slots]
        if positions != sorted(positions):
            slots = {slot: slots[slot] for slot in sorted(slots, key=_SLOT_ORDER.__getitem__)}
        object.__setattr__(self, "slots", MappingProxyType(slots))

    def __hash__(self) -> int:
        return hash(tuple(self.slots.items()))

    def active(self, key_type: KeyType) -> HeldKey | None:
        """The active key of a type, usable or not."""
        return self.slots.get(Slot(key_type, Role.ACTIVE))

    def reserve(self, key_type: KeyType) -> HeldKey | None:
        """The reserve key of a type."""
        return self.slots.get(Slot(key_type, Role.RESERVE))

    def actives(self) -> tuple[HeldKey, ...]:
        """All active keys, usable or not, in the order of their types."""
        return tuple(held for slot, held in self.slots.items() if slot.role is Role.ACTIVE)

    def reserves(self) -> tuple[HeldKey, ...]:
        """All reserve keys, in the order of their types."""
        return tuple(held for slot, held in self.slots.items() if slot.role is Role.RESERVE)

    def scheme(self) -> Scheme | None:
        """The one scheme of all keys here (R36); None if there is no key."""
        return next((slot.type.scheme for slot in self.slots), None)

    def serials(self) -> dict[Slot, str]:
        """The serial in each filled slot, as `changes.apply_change` rebuilds it."""
        return {slot: held.key.serial for slot, held in self.slots.items()}

    def with_(self, slot: Slot, held: HeldKey) -> Self:
        """This keyring with one slot filled, whatever was in it."""
        return type(self)({**self.slots, slot: held})

    def without(self, slot: Slot) -> Self:
        """This keyring with one slot empty, whether or not it was."""
        return type(self)({other: held for other, held in self.slots.items() if other != slot})

    def ends_at(self) -> datetime | None:
        """When the last of the active keys ends, as they are now: the longer of two (R39).

        A blocked key ends at its blocking. None if there is no active key, or one without end.
        """
        ends = [held.usable_until for held in self.actives()]
        known = [end for end in ends if end is not None]
        return max(known) if known and len(known) == len(ends) else None

    def problems(self, now: datetime) -> list[str]:
        """Every broken invariant of a keyring settled at `now`, in words; none if it is sound."""
        return list(self._problems(now))

    def _problems(self, now: datetime) -> Iterator[str]:
        if len({slot.type.scheme for slot in self.slots}) > 1:
            yield "keys of two schemes share the SVM (R36)"
        for slot, held in self.slots.items():
            if held.key.type is not slot.type:
                yield f"the {slot.type.value} slot holds a {held.key.type.value} key"
        serials = [held.key.serial for held in self.slots.values()]
        if len(set(serials)) < len(serials):
            yield "one key is in two slots (R84)"
        subscribed = any(held.key.kind is KeyKind.SUBSCRIPTION for held in self.actives())
        if subscribed and self.reserves():
            yield "a reserve waits beside an active subscription key (R4)"
        for held in self.actives():
            if held.ended_at is None and held.key.has_expired_at(now):
                yield f"active key {held.key.serial} has expired and is not marked as ended"
            if held.ended_at is not None and held.ended_at != held.key.expires_at:
                yield f"active key {held.key.serial} is marked as ended at another instant"
        for held in self.reserves():
            yield from self._reserve_problems(held, now)

    def _reserve_problems(self, reserve: HeldKey, now: datetime) -> Iterator[str]:
        key, name = reserve.key, f"reserve {reserve.key.serial}"
        if key.kind is not KeyKind.COMMERCIAL:
            yield f"{name} is not commercial (R26)"
        if reserve.blocked_at is not None or key.has_expired_at(now):
            yield f"{name} is blocked or expired and was not discarded (R87)"
        active = self.active(key.type)
        if active is None:
            yield f"{name} has no active key of its type (R5, R12)"
            return
        if active.key.edition is not key.edition:
            yield f"{name} differs from its active key in edition (R8)"
        if not ends_later(key, active.key):
            yield f"{name} does not end later than its active key (R84)"
        if usable(reserve, now) and not usable(active, now):
            yield f"{name} is valid and its active key is not, yet it was not promoted (R85, R87)"


Keyring.EMPTY = Keyring()
EMPTY = Keyring.EMPTY


def ends_later(key: LicenseKey, than: LicenseKey) -> bool:
    """Whether a key ends strictly after another (R84); no end is later than any end."""
    if than.expires_at is None:
        return False
    return key.expires_at is None or key.expires_at > than.expires_at

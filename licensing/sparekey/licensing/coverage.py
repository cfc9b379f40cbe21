"""Whether an SVM's keys fit the guests that it protects."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from sparekey.licensing.advice import Advice, explain_advice
from sparekey.licensing.guests import GuestMix, OsClass
from sparekey.licensing.keyring import Keyring, Role, Slot
from sparekey.licensing.keys import Edition, KeyType, Scheme
from sparekey.licensing.settling import settle
from sparekey.licensing.subscriptions import NO_SUBSCRIPTIONS, Subscription, in_force

__all__ = [
    "Advice",
    "advise",
    "covers",
    "explain_advice",
    "installation_advice",
    "uncovered_classes",
]

_ALL_CLASSES = frozenset(OsClass)
_COVERED = {
    KeyType.SERVER: frozenset({OsClass.SERVER}),
    KeyType.DESKTOP: frozenset({OsClass.DESKTOP}),
    KeyType.CORES: _ALL_CLASSES,
    KeyType.PROCESSORS: _ALL_CLASSES,
}
_PER_VM_TYPES = frozenset(key_type for key_type in KeyType if key_type.scheme is Scheme.PER_VM)


def covers(key_type: KeyType, os_class: OsClass) -> bool:
    """Whether keys of a type cover guests of a class (R21, R33).

    Linux guests are of the server class, so no desktop key covers them (R34).
    """
    return os_class in _COVERED[key_type]


def uncovered_classes(
    keyring: Keyring,
    mix: GuestMix,
    now: datetime,
    *,
    subscriptions: Mapping[str, Subscription] = NO_SUBSCRIPTIONS,
    void: bool = False,
) -> frozenset[OsClass]:
    """The classes with at least one guest and no active key in force at `now` that covers them.

    A key with a known subscription is in force while that works, also in its grace (R58). `void`:
    the SVM's keys have lost their effect, so that none is (R54, R82).
    """
    if void:
        return mix.classes()
    actives = settle(keyring, now).keyring.actives()
    types = [held.key.type for held in actives if in_force(held, now, subscriptions)]
    return frozenset(
        os_class
        for os_class in mix.classes()
        if not any(covers(key_type, os_class) for key_type in types)
    )


def advise(
    slot: Slot, keyring_after: Keyring, mix: GuestMix, now: datetime, *, void: bool = False
) -> tuple[Advice, ...]:
    """What to look at after a change of `slot` that led to `keyring_after` (R9, R33, R54, R76).

    In the order of `Advice`, each at most once. None of it ever refuses anything. `void`: the
    SVM's keys have lost their effect, and the change does not give it back.
    """
    found = tuple(_advice(slot, settle(keyring_after, now).keyring, mix, now))
    return (*found, Advice.KEYS_VOID) if void else found


def _advice(slot: Slot, keyring: Keyring, mix: GuestMix, now: datetime) -> Iterator[Advice]:
    active, reserve = keyring.active(slot.type), keyring.reserve(slot.type)
    classes = mix.classes()
    # With no guests at all nothing is known yet: an SVM is often licensed before its guests come.
    if (active or reserve) and classes and not classes & _COVERED[slot.type]:
        yield Advice.OS_MIX_MISMATCH
    if (
        classes == _ALL_CLASSES
        and keyring.scheme() is Scheme.PER_VM
        and len(keyring.reserves()) == 1
    ):
        yield Advice.RESERVE_COVERAGE_GAP
    if slot.role is Role.ACTIVE and uncovered_classes(keyring, mix, now):
        yield Advice.UNCOVERED_OS_CLASS
    if (
        active
        and reserve
        and (lapses_at := active.usable_until)
        and reserve.key.not_before > lapses_at
    ):
        yield Advice.RESERVE_STARTS_LATE


def installation_advice(
    keyrings: Iterable[Keyring], elsewhere: Iterable[tuple[KeyType, Edition]] = ()
) -> tuple[Advice, ...]:
    """What to look at in the whole installation: MIXED_EDITIONS (R40), MIXED_SCHEMES (R41).

    Active keys that were blocked or have ended don't count. Two editions may meet only as a server
    and desktop pair: all server keys of the one, all desktop keys of the other.

    Args:
        keyrings: Those of some SVMs.
        elsewhere: The types and editions of the keys in force on the others.
    """
    editions: dict[KeyType, set[Edition]] = {}
    for key_type, edition in elsewhere:
        editions.setdefault(key_type, set()).add(edition)
    for keyring in keyrings:
        for held in keyring.actives():
            if held.ended_at is None and held.blocked_at is None:
                editions.setdefault(held.key.type, set()).add(held.key.edition)
    schemes = {key_type.scheme for key_type in editions}
    one_edition = len(set().union(*editions.values())) <= 1
    clean_pair = editions.keys() <= _PER_VM_TYPES and all(
        len(of_type) == 1 for of_type in editions.values()
    )
    found = []
    if not one_edition and not clean_pair:
        found.append(Advice.MIXED_EDITIONS)
    if len(schemes) > 1:
        found.append(Advice.MIXED_SCHEMES)
    return tuple(found)

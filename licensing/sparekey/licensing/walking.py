"""The course of one SVM's keys from now to a horizon, instant by instant, with what-if changes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from sparekey.licensing.guests import GuestMix
from sparekey.licensing.keyring import Keyring
from sparekey.licensing.modes import BLOCK_GRACE
from sparekey.licensing.settling import next_due, settle
from sparekey.licensing.subscriptions import (
    NO_SUBSCRIPTIONS,
    OVER,
    Subscription,
    SubscriptionState,
)
from sparekey.licensing.transitions import block

_MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class BlockKey:
    """What if this key is blocked at an instant, wherever it is held (R72)?"""

    serial: str
    at: datetime


@dataclass(frozen=True, slots=True)
class EndKey:
    """What if this key ends at an instant, as a subscription does that is cancelled (R96)?

    A key that ends earlier anyway is left as it is.
    """

    serial: str
    at: datetime


@dataclass(frozen=True, slots=True)
class AddGuests:
    """What if an SVM gets more guests at an instant? Counts are 0 or more."""

    svm_id: str
    at: datetime
    servers: int = 0
    desktops: int = 0


WhatIf = BlockKey | EndKey | AddGuests


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What is known of keys beside what they say themselves, by serial.

    The providers' words on subscriptions (R96), and for how long a blocked key keeps everything
    running: its own grace, or the usual one (R95).
    """

    subscriptions: Mapping[str, Subscription] = field(default_factory=lambda: NO_SUBSCRIPTIONS)
    block_graces: Mapping[str, timedelta] = field(default_factory=lambda: MappingProxyType({}))
    block_grace: timedelta = BLOCK_GRACE

    def grace_of(self, serial: str) -> timedelta:
        """How long a key keeps everything running once it is blocked."""
        return self.block_graces.get(serial, self.block_grace)


NO_TERMS = KeyTerms()


@dataclass(frozen=True, slots=True)
class Moment:
    """An SVM's keys, settled, its guests, and how its subscriptions stand, from an instant on.

    `void`: its keys have no effect (R82).
    """

    at: datetime
    keyring: Keyring
    guests: GuestMix
    terms: KeyTerms = NO_TERMS
    void: bool = False


def walk(
    keyring: Keyring,
    guests: GuestMix,
    now: datetime,
    until: datetime,
    what_if: Sequence[WhatIf] = (),
    terms: KeyTerms = NO_TERMS,
    *,
    void: bool = False,
) -> Iterator[Moment]:
    """Each instant in [now, until) at which anything about the SVM's coverage can change.

    The first is `now`. Between two instants nothing changes, so whoever looks at these has seen
    the whole span. Changes dated before `now` count as at `now`; those of other SVMs must not be
    among them.
    """
    waiting = sorted(what_if, key=lambda change: change.at, reverse=True)
    at: datetime | None = now
    while at is not None and at < until:
        keyring = settle(keyring, at).keyring
        while waiting and waiting[-1].at <= at:
            change = waiting.pop()
            if isinstance(change, EndKey) and change.serial in terms.subscriptions:
                terms = _cancelled(terms, change.serial, at)
            else:
                keyring, guests = _changed(keyring, guests, change, at)
        yield Moment(at, keyring, guests, terms, void)
        at = min(_instants_ahead(keyring, at, waiting, terms), default=None)


def _changed(
    keyring: Keyring, guests: GuestMix, change: WhatIf, at: datetime
) -> tuple[Keyring, GuestMix]:
    match change:
        case BlockKey(serial):
            return block(keyring, serial, at).keyring, guests
        case EndKey(serial):
            return _ended(keyring, serial, at), guests
        case AddGuests(servers=servers, desktops=desktops):
            return keyring, replace(
                guests, servers=guests.servers + servers, desktops=guests.desktops + desktops
            )


def _cancelled(terms: KeyTerms, serial: str, at: datetime) -> KeyTerms:
    subscription = terms.subscriptions[serial]
    if subscription.state_at(at) in OVER:
        return terms
    ended = replace(subscription, state=SubscriptionState.CANCELLED_HARD, said_at=at)
    return replace(terms, subscriptions={**terms.subscriptions, serial: ended})


def _ended(keyring: Keyring, serial: str, at: datetime) -> Keyring:
    for slot, held in keyring.slots.items():
        if held.key.serial == serial and not held.key.has_expired_at(at):
            not_before = min(held.key.not_before, at - _MOMENT)
            ended = replace(held.key, not_before=not_before, expires_at=at)
            keyring = keyring.with_(slot, replace(held, key=ended))
    return settle(keyring, at).keyring


def _instants_ahead(
    keyring: Keyring, at: datetime, waiting: Sequence[WhatIf], terms: KeyTerms
) -> Iterator[datetime]:
    if due := next_due(keyring, at):
        yield due
    if waiting:
        yield waiting[-1].at
    for held in keyring.actives():
        serial = held.key.serial
        if held.blocked_at and held.blocked_at + terms.grace_of(serial) > at:
            yield held.blocked_at + terms.grace_of(serial)
        if subscription := terms.subscriptions.get(serial):
            for turn in (subscription.ends_at, subscription.grace_ends_at):
                if turn is not None and turn > at:
                    yield turn
        if held.key.not_before > at:
            yield held.key.not_before

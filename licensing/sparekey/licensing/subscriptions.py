"""A subscription over time: what its provider said last, and what time makes of that (R96)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from types import MappingProxyType

from sparekey.licensing.keyring import HeldKey, usable
from sparekey.licensing.keys import LicenseKey

_NO_TIME = timedelta(0)

RENEWAL_LEAD = timedelta(days=3)
"""How long before a key's end the next one of an unlimited subscription is had."""


class SubscriptionState(Enum):
    """The states of R96."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    GRACE = "GRACE"
    EXPIRED = "EXPIRED"
    CANCELLED_SOFT = "CANCELLED_SOFT"
    CANCELLED_HARD = "CANCELLED_HARD"


OVER = frozenset({SubscriptionState.EXPIRED, SubscriptionState.CANCELLED_HARD})
"""The states from which only an operator leads back (R61); no poll does."""

_RUNNING = frozenset(
    {SubscriptionState.ACTIVE, SubscriptionState.GRACE, SubscriptionState.CANCELLED_SOFT}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What the provider said last.

    `said_at`: when the state was first heard. `ends_at`: None for an unlimited one (R55).
    `grace`: zero or more, from the end on, or from the beginning of a pause (R58).
    `stops_protection`: at its end protection stops too (R59). All instants are UTC.
    """

    state: SubscriptionState
    said_at: datetime
    ends_at: datetime | None = None
    grace: timedelta = _NO_TIME
    stops_protection: bool = False
    provider_url: str = ""

    @property
    def grace_ends_at(self) -> datetime | None:
        """When the grace is over; None where nothing has an end, or there is no grace to come.

        It counts from the end, or from a pause if that came first: a pause is not a way to get
        the grace twice.
        """
        match self.state:
            case SubscriptionState.ACTIVE:
                return None if self.ends_at is None else self.ends_at + self.grace
            case SubscriptionState.PAUSED | SubscriptionState.GRACE:
                began = self.said_at if self.ends_at is None else min(self.said_at, self.ends_at)
                return began + self.grace
            case _:
                return None

    def state_at(self, now: datetime) -> SubscriptionState:
        """Where the subscription stands at `now`.

        Without a word from its provider it runs on as it was, until its own end: what was said
        last holds while the activation server cannot be reached.
        """
        state, ended = self.state, self.ends_at is not None and self.ends_at <= now
        match state:
            case SubscriptionState.CANCELLED_SOFT:
                return SubscriptionState.EXPIRED if ended else state
            case SubscriptionState.ACTIVE | SubscriptionState.PAUSED if not ended:
                return state
            case SubscriptionState.ACTIVE | SubscriptionState.PAUSED | SubscriptionState.GRACE:
                grace_ends_at = self.grace_ends_at
                within = grace_ends_at is not None and now < grace_ends_at
                return SubscriptionState.GRACE if within else SubscriptionState.EXPIRED
            case _:
                return state

    def works_at(self, now: datetime) -> bool:
        """Whether everything works: while it runs, in its grace, and in a pause with grace."""
        state = self.state_at(now)
        if state is SubscriptionState.PAUSED:
            grace_ends_at = self.grace_ends_at
            return grace_ends_at is not None and now < grace_ends_at
        return state in _RUNNING

    def turns(
        self, after: datetime, until: datetime
    ) -> tuple[tuple[datetime, SubscriptionState], ...]:
        """Each state that time alone brings after one instant up to another, with its instant."""
        return tuple(self._turns(after, until))

    def _turns(
        self, after: datetime, until: datetime
    ) -> Iterator[tuple[datetime, SubscriptionState]]:
        state = self.state_at(after)
        for instant in self._instants():
            if after < instant <= until and (turned := self.state_at(instant)) is not state:
                state = turned
                yield instant, state

    def next_turn(self, now: datetime) -> datetime | None:
        """The first instant after `now` at which time alone changes the state, if any."""
        state = self.state_at(now)
        later = (at for at in self._instants() if at > now and self.state_at(at) is not state)
        return next(later, None)

    def _instants(self) -> list[datetime]:
        known = (self.ends_at, self.grace_ends_at)
        return sorted(instant for instant in known if instant is not None)


NO_SUBSCRIPTIONS: Mapping[str, Subscription] = MappingProxyType({})


def in_force(
    held: HeldKey, now: datetime, subscriptions: Mapping[str, Subscription] = NO_SUBSCRIPTIONS
) -> bool:
    """Whether a key works: as its subscription does where that is known, else by its own validity.

    A blocked key is not in force, whatever its subscription says (R72).
    """
    subscription = subscriptions.get(held.key.serial)
    if subscription is None:
        return usable(held, now)
    return held.blocked_at is None and subscription.works_at(now)


def has_new_key(subscription: Subscription, key: LicenseKey, now: datetime) -> bool:
    """Whether the provider has renewed a subscription beyond its present key (R60).

    Of an unlimited one whose keys have ends, the next key is had `RENEWAL_LEAD` before the present
    one ends: early enough to leave no gap, and not a new key at every question. A key without end
    never needs a new one.
    """
    if key.expires_at is None or subscription.state_at(now) is not SubscriptionState.ACTIVE:
        return False
    if subscription.ends_at is None:
        return key.expires_at - now <= RENEWAL_LEAD
    return subscription.ends_at > key.expires_at


def in_grace(
    serials: Iterable[str], subscriptions: Mapping[str, Subscription], now: datetime
) -> bool:
    """Whether one of the keys is a subscription's in its grace; then no new task may be (R52)."""
    return any(
        subscription.state_at(now) is SubscriptionState.GRACE
        for serial in serials
        if (subscription := subscriptions.get(serial)) is not None
    )

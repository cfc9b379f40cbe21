"""Whether an SVM is well, and if not, why: the worst of its reasons counts (R94)."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from enum import Enum

from sparekey.licensing.coverage import uncovered_classes
from sparekey.licensing.guests import GuestMix
from sparekey.licensing.keyring import HeldKey, Keyring
from sparekey.licensing.settling import settle
from sparekey.licensing.subscriptions import (
    NO_SUBSCRIPTIONS,
    OVER,
    Subscription,
    SubscriptionState,
)

SOON = timedelta(days=14)
"""From how many days before its end a key without a reserve is a warning; at exactly 14 it is."""

SILENCE = timedelta(hours=2)
"""From how long without a sign of life an SVM is a warning; at exactly two hours it is."""


class Status(Enum):
    """How an SVM is."""

    OK = "OK"
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"


class StatusReason(Enum):
    """Why an SVM is not OK, the worst first."""

    NO_ACTIVE_KEY = "NO_ACTIVE_KEY"
    KEY_EXPIRED = "KEY_EXPIRED"
    KEY_BLOCKED = "KEY_BLOCKED"
    KEY_VOID = "KEY_VOID"
    SUBSCRIPTION_OVER = "SUBSCRIPTION_OVER"
    SUBSCRIPTION_PAUSED = "SUBSCRIPTION_PAUSED"
    SUBSCRIPTION_IN_GRACE = "SUBSCRIPTION_IN_GRACE"
    EXPIRES_SOON = "EXPIRES_SOON"
    UNCOVERED_OS_CLASS = "UNCOVERED_OS_CLASS"
    SILENT = "SILENT"

    @property
    def status(self) -> Status:
        """How bad it is."""
        return Status.CRITICAL if self in _CRITICAL else Status.WARNING


_CRITICAL = frozenset(
    {
        StatusReason.NO_ACTIVE_KEY,
        StatusReason.KEY_EXPIRED,
        StatusReason.KEY_BLOCKED,
        StatusReason.KEY_VOID,
        StatusReason.SUBSCRIPTION_OVER,
    }
)


def reasons_at(
    keyring: Keyring,
    mix: GuestMix,
    now: datetime,
    *,
    last_seen_at: datetime,
    connected: bool = False,
    subscriptions: Mapping[str, Subscription] = NO_SUBSCRIPTIONS,
    void: bool = False,
) -> tuple[StatusReason, ...]:
    """Everything that is amiss with an SVM, in the order of `StatusReason`, each once.

    `connected`: its agent's stream is open, so it is not silent. `void`: its keys have lost their
    effect since its clock was changed (R54, R82).
    """
    settled = settle(keyring, now).keyring
    found: set[StatusReason] = set()
    if not settled.actives():
        found.add(StatusReason.NO_ACTIVE_KEY)
    if void and settled.actives():
        found.add(StatusReason.KEY_VOID)
    for held in settled.actives():
        found.update(_amiss(held, settled, now, subscriptions.get(held.key.serial)))
    if uncovered_classes(settled, mix, now, subscriptions=subscriptions, void=void):
        found.add(StatusReason.UNCOVERED_OS_CLASS)
    if not connected and now - last_seen_at >= SILENCE:
        found.add(StatusReason.SILENT)
    return tuple(reason for reason in StatusReason if reason in found)


def worst_of(reasons: tuple[StatusReason, ...]) -> Status:
    """The status that the reasons amount to."""
    return max((one.status for one in reasons), key=_BADNESS.__getitem__, default=Status.OK)


_BADNESS = {status: position for position, status in enumerate(Status)}


def _amiss(
    held: HeldKey, keyring: Keyring, now: datetime, subscription: Subscription | None
) -> Iterator[StatusReason]:
    if held.blocked_at is not None:
        yield StatusReason.KEY_BLOCKED
    if subscription is not None:
        yield from _amiss_with(subscription, now)
        return
    if held.key.has_expired_at(now):
        yield StatusReason.KEY_EXPIRED
        return
    ends_at, reserve = held.key.expires_at, keyring.reserve(held.key.type)
    if ends_at is not None and ends_at - now <= SOON and (reserve is None or reserve.blocked_at):
        yield StatusReason.EXPIRES_SOON


def _amiss_with(subscription: Subscription, now: datetime) -> Iterator[StatusReason]:
    state = subscription.state_at(now)
    if state in OVER:
        yield StatusReason.SUBSCRIPTION_OVER
    elif state is SubscriptionState.GRACE:
        yield StatusReason.SUBSCRIPTION_IN_GRACE
    elif state is SubscriptionState.PAUSED or not subscription.works_at(now):
        yield StatusReason.SUBSCRIPTION_PAUSED
    elif _ends_soon(subscription, now):
        yield StatusReason.EXPIRES_SOON


def _ends_soon(subscription: Subscription, now: datetime) -> bool:
    return subscription.ends_at is not None and subscription.ends_at - now <= SOON

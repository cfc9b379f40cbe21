"""Whether a key has a successor, and until when that one runs (R16, R18, R61)."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sparekey.activation.fake.records import CodeDefinition, IssuedKey, end_of_term
from sparekey.activation.fake.subscriptions import Subscription, SubscriptionState

_RENEWABLE = {SubscriptionState.ACTIVE, SubscriptionState.GRACE}
"""As the provider last said. Over by mere time is renewable; paused, cancelled, expired is not."""


@dataclass(frozen=True, slots=True)
class Extension:
    """The end of the successor, None for unlimited, and what else becomes of the renewal."""

    ends_at: datetime | None
    renewal: int
    subscription: Subscription | None = None


def extension(
    old: IssuedKey, definition: CodeDefinition, subscription: Subscription | None, now: datetime
) -> Extension | None:
    """How a key goes on, or None where it has no successor.

    It ends one term after the old end, or one term from now where that would be over already, and
    costs one of the code's renewals. Where the provider moved a subscription's end himself, it
    ends there and costs nothing.
    """
    if subscription is not None:
        return _extended_subscription(old, definition, subscription, now)
    term = definition.properties.term
    if old.renewal >= definition.renewals or term is None or old.key.expires_at is None:
        return None
    return Extension(_one_more_term(old.key.expires_at, term, now), old.renewal + 1)


def _extended_subscription(
    old: IssuedKey, definition: CodeDefinition, subscription: Subscription, now: datetime
) -> Extension | None:
    if subscription.state not in _RENEWABLE:
        return None
    if _was_moved_on(old.key.expires_at, subscription.ends_at, now):
        return Extension(subscription.ends_at, old.renewal, subscription)
    if old.renewal >= definition.renewals:
        return None
    end = subscription.ends_at
    if end is not None:
        term = definition.properties.term
        if term is None:
            # Sold as unlimited and ended by the provider: there is no term to add.
            return None
        end = _one_more_term(end, term, now)
    renewed = replace(subscription, state=SubscriptionState.ACTIVE, ends_at=end)
    return Extension(end, old.renewal + 1, renewed)


def _one_more_term(end: datetime, term: timedelta, now: datetime) -> datetime:
    extended = end_of_term(end, term)
    return extended if now < extended else end_of_term(now, term)


def _was_moved_on(key_end: datetime | None, end: datetime | None, now: datetime) -> bool:
    if key_end is None:
        return False
    return end is None or (key_end < end and now < end)

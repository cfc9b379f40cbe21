"""Subscriptions as messages."""

from __future__ import annotations

from datetime import datetime

from sparekey.licensing.subscriptions import Subscription
from sparekey.v1 import subscription_pb2
from sparekey.wire.licensing_messages import SUBSCRIPTION_STATES
from sparekey.wire.timestamps import to_timestamp


def subscription_status(
    subscription: Subscription, now: datetime, polled_at: datetime | None = None
) -> subscription_pb2.SubscriptionStatus:
    """A subscription as it stands at an instant."""
    return subscription_pb2.SubscriptionStatus(
        state=SUBSCRIPTION_STATES[subscription.state_at(now)],  # type: ignore[arg-type]
        ends_at=to_timestamp(subscription.ends_at),
        grace_ends_at=to_timestamp(subscription.grace_ends_at),
        stops_protection=subscription.stops_protection,
        provider_url=subscription.provider_url,
        polled_at=to_timestamp(polled_at),
    )

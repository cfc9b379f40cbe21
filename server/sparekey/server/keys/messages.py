"""Stored keys as messages."""

from __future__ import annotations

from sparekey.server.store.keys import KeyUse, StoredKey
from sparekey.v1 import key_pb2, subscription_pb2
from sparekey.wire.licensing_messages import EDITIONS, KEY_KINDS, KEY_ORIGINS, KEY_TYPES
from sparekey.wire.timestamps import to_timestamp


def key_message(
    stored: StoredKey,
    use: KeyUse | None,
    *,
    units: int = 0,
    subscription: subscription_pb2.SubscriptionStatus | None = None,
) -> key_pb2.Key:
    """A key, with on how many SVMs it is held, its units in use and its subscription."""
    key = stored.key
    use = use or KeyUse()
    return key_pb2.Key(
        serial=key.serial,
        type=KEY_TYPES[key.type],  # type: ignore[arg-type]
        kind=KEY_KINDS[key.kind],  # type: ignore[arg-type]
        edition=EDITIONS[key.edition],  # type: ignore[arg-type]
        origin=KEY_ORIGINS[key.origin],  # type: ignore[arg-type]
        unit_limit=key.unit_limit,
        not_before=to_timestamp(key.not_before),
        expires_at=to_timestamp(key.expires_at),
        added_at=to_timestamp(stored.added_at),
        blocked_at=to_timestamp(stored.blocked_at),
        code_ending=stored.code_ending,
        renews_serial=stored.renews_serial or "",
        active_svm_count=use.active,
        reserve_svm_count=use.reserve,
        units_used=units,
        subscription=subscription,
    )

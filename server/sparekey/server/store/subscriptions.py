"""What was heard of subscriptions, and when to ask again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select

from sparekey.licensing.keyring import Role
from sparekey.licensing.keys import KeyKind
from sparekey.licensing.modes import BLOCK_GRACE
from sparekey.licensing.subscriptions import Subscription, SubscriptionState
from sparekey.server.store import schema
from sparekey.server.store.bulk import upsert
from sparekey.server.store.facts import read_fact, write_fact
from sparekey.server.store.transaction import batches

_subscriptions = schema.subscriptions
_graces = schema.block_graces
_keys = schema.keys
_held = schema.held_keys
_MICROSECOND = timedelta(microseconds=1)
_USUAL_GRACE = "block_grace"


@dataclass(frozen=True, slots=True)
class StoredSubscription:
    """What the provider said last of one key's subscription.

    Attributes:
        serial: The key.
        subscription: The provider's word.
        polled_at: When it was heard.
        next_poll_at: When to ask again; None where nobody asks any more (R60).
        told_until: Up to when the changes that time alone brings were told.
    """

    serial: str
    subscription: Subscription
    polled_at: datetime
    next_poll_at: datetime | None
    told_until: datetime


def load_stored_subscriptions(
    connection: Connection, serials: Iterable[str] | None = None
) -> dict[str, StoredSubscription]:
    """What is known of the subscriptions of these keys, or (None) of all."""
    query = select(_subscriptions)
    if serials is None:
        rows = list(connection.execute(query))
    else:
        rows = [
            row
            for batch in batches(sorted(set(serials)))
            for row in connection.execute(query.where(_subscriptions.c.serial.in_(batch)))
        ]
    return {row.serial: _stored(row) for row in rows}


def load_subscriptions(
    connection: Connection, serials: Iterable[str] | None = None
) -> Mapping[str, Subscription]:
    """The provider's words alone, as the rules take them."""
    found = load_stored_subscriptions(connection, serials)
    return {serial: stored.subscription for serial, stored in found.items()}


def save_subscription(connection: Connection, stored: StoredSubscription) -> None:
    """Write what is known of one subscription."""
    subscription = stored.subscription
    values = {
        "serial": stored.serial,
        "state": subscription.state.name,
        "said_at": subscription.said_at,
        "ends_at": subscription.ends_at,
        "grace": subscription.grace // _MICROSECOND,
        "stops_protection": subscription.stops_protection,
        "provider_url": subscription.provider_url,
        "polled_at": stored.polled_at,
        "next_poll_at": stored.next_poll_at,
        "told_until": stored.told_until,
    }
    connection.execute(upsert(_subscriptions, ("serial",), tuple(values)).values(values))


def subscription_keys_in_use(connection: Connection) -> list[str]:
    """Keys of subscriptions that an SVM runs under or that are in the storage, not blocked."""
    active = select(_held.c.serial).where(_held.c.role == Role.ACTIVE.name)
    query = select(_keys.c.serial).where(
        _keys.c.kind == KeyKind.SUBSCRIPTION.name,
        _keys.c.blocked_at.is_(None),
        _keys.c.in_storage | _keys.c.serial.in_(active),
    )
    return list(connection.scalars(query.order_by(_keys.c.serial)))


def load_block_graces(connection: Connection) -> Mapping[str, timedelta]:
    """For how long blocked keys work on, where their issuer says so (R95)."""
    return {row.serial: row.grace * _MICROSECOND for row in connection.execute(select(_graces))}


def save_block_grace(connection: Connection, serial: str, grace: timedelta) -> None:
    """Write for how long a blocked key works on."""
    statement = upsert(_graces, ("serial",), ("grace",))
    connection.execute(statement.values(serial=serial, grace=grace // _MICROSECOND))


def load_usual_block_grace(connection: Connection) -> timedelta:
    """For how long any other blocked key works on."""
    value = read_fact(connection, _USUAL_GRACE)
    return BLOCK_GRACE if value is None else int(value) * _MICROSECOND


def save_usual_block_grace(connection: Connection, grace: timedelta) -> None:
    """Write for how long it does."""
    write_fact(connection, _USUAL_GRACE, str(grace // _MICROSECOND))


def _stored(row: Row[Any]) -> StoredSubscription:
    return StoredSubscription(
        serial=row.serial,
        subscription=Subscription(
            state=SubscriptionState[row.state],
            said_at=row.said_at,
            ends_at=row.ends_at,
            grace=row.grace * _MICROSECOND,
            stops_protection=row.stops_protection,
            provider_url=row.provider_url,
        ),
        polled_at=row.polled_at,
        next_poll_at=row.next_poll_at,
        told_until=row.told_until,
    )

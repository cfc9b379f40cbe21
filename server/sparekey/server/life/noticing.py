"""Telling that keys come to their end: an alarm only where nothing covers it (R93)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sparekey.licensing.notices import (
    FIRST_NOTICE,
    due_notice,
    is_covered,
    next_notice_at,
    notice_at,
    severity_of,
)
from sparekey.licensing.subscriptions import OVER, Subscription, SubscriptionState
from sparekey.server.store.keys import renewed_serials
from sparekey.server.store.subscriptions import load_subscriptions
from sparekey.server.store.svms import holders, load_svms
from sparekey.server.store.tellings import (
    EndingKey,
    ending_keys,
    first_end_after,
    note_notice,
)
from sparekey.server.store.transaction import Transaction
from sparekey.v1 import event_pb2

ACTOR = "server"


def give_notices(transaction: Transaction, requests: Sequence[None]) -> list[None]:
    """Give every notice that is due, each at the instant that it belongs to."""
    connection, now = transaction.connection, transaction.now
    subscriptions = load_subscriptions(connection)
    for ending, end in _ends(connection, subscriptions, now + FIRST_NOTICE):
        days = due_notice(end, now, _told(ending, end))
        if days is not None:
            grace = _grace(subscriptions.get(ending.serial))
            _give(transaction, ending, end, days, grace)
            note_notice(connection, ending.serial, end, days)
    return list(requests)


def next_notice_due(connection: Connection, now: datetime) -> datetime | None:
    """When the next notice is due; now, where one is.

    Where it turns out then that a key was renewed, nothing is told.
    """
    until = now + FIRST_NOTICE
    far = first_end_after(connection, until)
    instants = [far and far - FIRST_NOTICE]
    for ending, end in _ends(connection, load_subscriptions(connection), until):
        if due_notice(end, now, _told(ending, end)) is not None:
            return now
        instants.append(next_notice_at(end, now))
    return min((at for at in instants if at is not None), default=None)


def _ends(
    connection: Connection, subscriptions: Mapping[str, Subscription], until: datetime
) -> list[tuple[EndingKey, datetime]]:
    """Keys with the ends that may be told; one that was renewed has no end of its own."""
    renewed = renewed_serials(connection)
    found = []
    for ending in ending_keys(connection, until):
        end = ending.expires_at
        subscription = subscriptions.get(ending.serial)
        if subscription is not None:
            # Of one that is over its own events have told.
            over = subscription.state in OVER or subscription.state is SubscriptionState.PENDING
            end = None if over else subscription.ends_at
        if end is not None and ending.serial not in renewed:
            found.append((ending, end))
    return found


def _told(ending: EndingKey, end: datetime) -> int | None:
    return ending.noticed_days if ending.noticed_end == end else None


def _grace(subscription: Subscription | None) -> timedelta:
    if subscription is None or subscription.state is SubscriptionState.CANCELLED_SOFT:
        return timedelta(0)
    return subscription.grace


def _give(
    transaction: Transaction, ending: EndingKey, end: datetime, days: int, grace: timedelta
) -> None:
    connection, now = transaction.connection, transaction.now
    uncovered = 0
    if not grace:
        records = load_svms(connection, holders(connection, ending.serial)).values()
        uncovered = sum(
            not is_covered(ending.serial, end, [record.keyring], now) for record in records
        )
    transaction.add_event(
        event_pb2.EVENT_KIND_EXPIRY_NOTICE,
        _sentence(ending.serial, days, uncovered, grace),
        actor=ACTOR,
        occurred_at=max(notice_at(end, days), min(ending.added_at, now)),
        serial=ending.serial,
        severity=int(severity_of(days, covered=not uncovered)),
        days_left=days,
        uncovered_svm_count=uncovered,
    )


def _sentence(serial: str, days: int, uncovered: int, grace: timedelta) -> str:
    span = "1 day" if days == 1 else f"{days} days"
    what = f"Key {serial} ends in {span}" if days else f"Key {serial} has ended"
    if grace:
        return f"{what}; its provider gives {grace.days} days of grace."
    if not uncovered:
        return f"{what}; every SVM that ran under it is covered."
    svms = "1 SVM has" if uncovered == 1 else f"{uncovered} SVMs have"
    then = "add a reserve key in time" if days else "activate them with another key"
    return f"{what} and {svms} no reserve key to follow: {then}."

"""What the activation server says of subscriptions, and what follows (R58-R62, R96)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sparekey.activation.v1 import activation_pb2
from sparekey.licensing.keyring import Role
from sparekey.licensing.keys import LicenseKey
from sparekey.licensing.notices import days_left
from sparekey.licensing.scopes import PickedSvms
from sparekey.licensing.subscriptions import OVER, Subscription, SubscriptionState, has_new_key
from sparekey.server.keys.adding import AddKey, store_key
from sparekey.server.life.messages import subscription_status
from sparekey.server.store.keys import StoredKey, load_keys
from sparekey.server.store.requests import Retry
from sparekey.server.store.subscriptions import (
    StoredSubscription,
    load_stored_subscriptions,
    save_subscription,
    subscription_keys_in_use,
)
from sparekey.server.store.svms import holders, load_svms
from sparekey.server.store.transaction import Transaction
from sparekey.server.tasks.planning import TaskOrder
from sparekey.server.tasks.starting import StartTask, start_tasks
from sparekey.v1 import error_pb2, event_pb2, license_pb2
from sparekey.wire.errors import CallRefused
from sparekey.wire.timestamps import from_duration, instant_or_none

ACTOR = "server"
_NO_RETRY = Retry(None, b"")
_WAIT = timedelta(days=90)

_SEVERITIES = {
    SubscriptionState.PENDING: event_pb2.SEVERITY_INFO,
    SubscriptionState.ACTIVE: event_pb2.SEVERITY_INFO,
    SubscriptionState.CANCELLED_SOFT: event_pb2.SEVERITY_INFO,
    SubscriptionState.PAUSED: event_pb2.SEVERITY_WARNING,
    SubscriptionState.GRACE: event_pb2.SEVERITY_WARNING,
    SubscriptionState.EXPIRED: event_pb2.SEVERITY_CRITICAL,
    SubscriptionState.CANCELLED_HARD: event_pb2.SEVERITY_CRITICAL,
}


@dataclass(frozen=True, slots=True)
class Poll:
    """How one question about a subscription went.

    Attributes:
        serial: The key.
        heard: The answer; None where the activation server was not there.
        successor: The renewed key with its signed form, where there was one.
        next_poll_at: When to ask again, if at all.
        task_id: The id for a task that gives the successor to the SVMs; empty for no task.
    """

    serial: str
    heard: activation_pb2.Subscription | None
    successor: tuple[LicenseKey, bytes] | None
    next_poll_at: datetime
    task_id: str


@dataclass(frozen=True, slots=True)
class KnownSubscription:
    """A key of a subscription that is in use, with what was heard of it, if anything was."""

    stored: StoredKey
    known: StoredSubscription | None

    def due_at(self) -> datetime | None:
        """When to ask, or to tell what time brought; the beginning of time if never heard of."""
        if self.known is None:
            return self.stored.added_at
        if self.known.next_poll_at is None:
            return None
        turn = self.known.subscription.next_turn(self.known.told_until)
        return min(self.known.next_poll_at, turn) if turn else self.known.next_poll_at


def subscriptions_in_use(connection: Connection) -> list[KnownSubscription]:
    """The keys of subscriptions in use, but those of which nobody asks any more."""
    serials = subscription_keys_in_use(connection)
    known = load_stored_subscriptions(connection, serials)
    stored = load_keys(connection, serials)
    found = [KnownSubscription(stored[serial], known.get(serial)) for serial in serials]
    return [one for one in found if one.known is None or one.known.next_poll_at is not None]


def word_of(
    heard: activation_pb2.Subscription, known: Subscription | None, now: datetime
) -> Subscription:
    """The provider's word as heard now; the old one, where it says what time makes of that.

    A state from a newer release counts as the one that is known, or as running.
    """
    name = activation_pb2.SubscriptionState.Name(heard.state).removeprefix("SUBSCRIPTION_STATE_")
    state = SubscriptionState.__members__.get(name)
    if state is None:
        state = known.state if known else SubscriptionState.ACTIVE
    new = Subscription(
        state=state,
        said_at=now,
        ends_at=instant_or_none(heard, "ends_at"),
        grace=max(timedelta(0), from_duration(heard.grace)),
        stops_protection=heard.stops_protection,
        provider_url=heard.provider_url,
    )
    if known is None:
        return new
    if state in {known.state, known.state_at(now)}:
        as_known = replace(new, state=known.state, said_at=known.said_at)
        if as_known == known:
            return known
    return replace(new, said_at=known.said_at) if state is known.state else new


def wants_successor(heard: activation_pb2.Subscription, key: LicenseKey, now: datetime) -> bool:
    """Whether the provider has renewed the subscription beyond its key."""
    return has_new_key(word_of(heard, None, now), key, now)


def record_polls(transaction: Transaction, polls: Sequence[Poll]) -> list[None]:
    """Write down what was heard, tell what changed, and give renewed keys to the SVMs."""
    for poll in polls:
        _record(transaction, poll)
    return [None] * len(polls)


def _record(transaction: Transaction, poll: Poll) -> None:
    connection, now = transaction.connection, transaction.now
    known = load_stored_subscriptions(connection, [poll.serial]).get(poll.serial)
    if known is None and poll.heard is None:
        return
    old = known.subscription if known else None
    word = word_of(poll.heard, old, now) if poll.heard is not None else old
    assert word is not None
    if known is not None and word == old:
        for at, state in word.turns(known.told_until, now):
            _tell(transaction, poll.serial, word, state, at)
    else:
        _tell(transaction, poll.serial, word, word.state_at(now), now)
    polled_at = now if poll.heard is not None or known is None else known.polled_at
    over = word.state_at(now) in OVER
    next_poll_at = None if over else poll.next_poll_at
    stored = StoredSubscription(poll.serial, word, polled_at, next_poll_at, told_until=now)
    if poll.successor is not None:
        try:
            _succeed(transaction, poll, stored)
        except CallRefused as refused:
            _tell_problem(transaction, poll.serial, refused.message)
        else:
            stored = replace(stored, next_poll_at=None)
    save_subscription(connection, stored)
    if stored.next_poll_at is not None:
        transaction.commit.add_due(stored.next_poll_at)
    transaction.commit.svms.update(holders(connection, poll.serial))


def _succeed(transaction: Transaction, poll: Poll, stored: StoredSubscription) -> None:
    """Put the renewed key into the storage, and on the SVMs that run under the old one (R60).

    Raises:
        CallRefused: it cannot be stored.
    """
    assert poll.successor is not None
    key, key_file = poll.successor
    if key.has_expired_at(transaction.now):
        raise CallRefused(
            error_pb2.ERROR_REASON_KEY_EXPIRED,
            f"the validity of its successor {key.serial} is over too",
        )
    store_key(transaction, AddKey(key, key_file, ACTOR, _NO_RETRY, renews_serial=poll.serial))
    save_subscription(
        transaction.connection,
        replace(stored, serial=key.serial, next_poll_at=poll.next_poll_at),
    )
    if not poll.task_id:
        return
    svm_ids = _running_under(transaction.connection, poll.serial)
    if not svm_ids:
        return
    scope = license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=svm_ids))
    order = TaskOrder(
        serial=key.serial,
        role=Role.ACTIVE,
        scope=PickedSvms(svm_ids),
        encoded_scope=scope.SerializeToString(),
        wait=_WAIT,
        actor=ACTOR,
        task_id=poll.task_id,
        in_grace_too=True,
    )
    (answer,) = start_tasks(
        transaction, [StartTask(order, _NO_RETRY, license_pb2.ActivateResponse)]
    )
    if isinstance(answer, CallRefused):
        raise answer


def _running_under(connection: Connection, serial: str) -> tuple[str, ...]:
    records = load_svms(connection, holders(connection, serial))
    return tuple(
        sorted(
            svm_id
            for svm_id, record in records.items()
            if any(held.key.serial == serial for held in record.keyring.actives())
        )
    )


def _tell(
    transaction: Transaction,
    serial: str,
    subscription: Subscription,
    state: SubscriptionState,
    at: datetime,
) -> None:
    transaction.add_event(
        event_pb2.EVENT_KIND_SUBSCRIPTION_CHANGED,
        _sentence(serial, subscription, state, at),
        actor=ACTOR,
        occurred_at=at,
        serial=serial,
        severity=_SEVERITIES[state],
        subscription=subscription_status(subscription, at),
    )


def _tell_problem(transaction: Transaction, serial: str, problem: str) -> None:
    transaction.add_event(
        event_pb2.EVENT_KIND_RENEWAL_CONTACT_FAILED,
        f"The subscription of key {serial} was renewed, but its new key could not be given:"
        f" {problem}. Run its task again.",
        actor=ACTOR,
        serial=serial,
    )


def _sentence(
    serial: str, subscription: Subscription, state: SubscriptionState, at: datetime
) -> str:
    whose = f"The subscription of key {serial}"
    match state:
        case SubscriptionState.ACTIVE:
            end = subscription.ends_at
            return f"{whose} runs, " + (f"until {end:%Y-%m-%d}." if end else "without end.")
        case SubscriptionState.GRACE:
            grace_ends_at = subscription.grace_ends_at
            left = days_left(grace_ends_at, at) if grace_ends_at else 0
            return f"{whose} has ended; its grace began and {left} days of it are left."
        case SubscriptionState.EXPIRED:
            return f"{whose} is over. Have it renewed, then run the task of its key again."
        case SubscriptionState.PAUSED:
            return f"{whose} is paused."
        case SubscriptionState.PENDING:
            return f"{whose} has not begun."
        case SubscriptionState.CANCELLED_SOFT:
            return f"{whose} was cancelled and runs to its end."
        case SubscriptionState.CANCELLED_HARD:
            return f"{whose} was cancelled and is over."

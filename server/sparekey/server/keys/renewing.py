"""Renewing code-based keys at their end: one contact, then an operator's matter (R16, R17, R88)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sparekey.licensing.keyring import Role, usable
from sparekey.licensing.keys import LicenseKey
from sparekey.licensing.scopes import PickedSvms
from sparekey.licensing.settling import settle
from sparekey.server.keys.adding import AddKey, store_key
from sparekey.server.store.keys import StoredKey, change_key, keys_to_renew
from sparekey.server.store.requests import Retry
from sparekey.server.store.svms import holders, load_svms
from sparekey.server.store.transaction import Transaction
from sparekey.server.tasks.planning import TaskOrder
from sparekey.server.tasks.starting import StartTask, start_tasks
from sparekey.v1 import error_pb2, event_pb2, license_pb2
from sparekey.wire.errors import CallRefused

ACTOR = "server"
_NO_RETRY = Retry(None, b"")

_WAIT = timedelta(days=90)
"""How long SVMs that are offline at the renewal are waited for."""


@dataclass(frozen=True, slots=True)
class EndedKey:
    """A code-based key that has ended, with the SVMs that have nothing to take its place."""

    stored: StoredKey
    svm_ids: tuple[str, ...]


def find_ended(connection: Connection, now: datetime) -> list[EndedKey]:
    """Code-based keys that have ended in use and were not tried yet.

    A valid reserve comes first (R88): SVMs that hold one, by what the rules
    predict for now, are not among those to be renewed.
    """
    return [
        EndedKey(stored, _without_successor(connection, stored.key.serial, now))
        for stored in keys_to_renew(connection, now)
    ]


def _without_successor(connection: Connection, serial: str, now: datetime) -> tuple[str, ...]:
    found = []
    for svm_id, record in load_svms(connection, holders(connection, serial)).items():
        keyring = settle(record.keyring, now).keyring
        if any(held.key.serial == serial and not usable(held, now) for held in keyring.actives()):
            found.append(svm_id)
    return tuple(sorted(found))


@dataclass(frozen=True, slots=True)
class Renewal:
    """How the one contact for an ended key went.

    Attributes:
        ended: The key and its SVMs.
        successor: The new key with its signed form, or None where it failed.
        problem: Why it failed.
        task_id: The id for the task that gives the new key to the SVMs.
    """

    ended: EndedKey
    successor: tuple[LicenseKey, bytes] | None
    problem: str
    task_id: str


def record_renewals(transaction: Transaction, requests: Sequence[Renewal]) -> list[None]:
    """Store successors and start the tasks that bring them; or note that it failed."""
    for renewal in requests:
        _record(transaction, renewal)
    return [None] * len(requests)


def _record(transaction: Transaction, renewal: Renewal) -> None:
    old = renewal.ended.stored.key
    change_key(transaction.connection, old.serial, renewal_tried_at=transaction.now)
    if not renewal.ended.svm_ids:
        return  # every SVM had a reserve key; nobody was contacted
    problem = renewal.problem
    if renewal.successor is not None:
        key, key_file = renewal.successor
        try:
            _take_successor(transaction, renewal, key, key_file)
        except CallRefused as refused:
            problem = refused.message
    if problem:
        for svm_id in renewal.ended.svm_ids:
            transaction.add_event(
                event_pb2.EVENT_KIND_RENEWAL_CONTACT_FAILED,
                f"Key {old.serial} ended and was not renewed: {problem}. Start an activation"
                " task to renew.",
                actor=ACTOR,
                svm_id=svm_id,
                serial=old.serial,
            )
        return
    for svm_id in renewal.ended.svm_ids:
        transaction.add_event(
            event_pb2.EVENT_KIND_KEY_RENEWED_BY_CODE,
            f"Key {old.serial} ended and was renewed by its code: {key.serial}.",
            actor=ACTOR,
            svm_id=svm_id,
            serial=old.serial,
            task_id=renewal.task_id,
        )


def _take_successor(
    transaction: Transaction, renewal: Renewal, key: LicenseKey, key_file: bytes
) -> None:
    """Store the new key and start the task that gives it to the SVMs.

    Raises:
        CallRefused: it cannot be stored, or cannot be given.
    """
    old = renewal.ended.stored.key
    if key.has_expired_at(transaction.now):
        raise CallRefused(
            error_pb2.ERROR_REASON_KEY_EXPIRED,
            f"the validity of its successor {key.serial} is over too",
        )
    store_key(transaction, AddKey(key, key_file, ACTOR, _NO_RETRY, renews_serial=old.serial))
    scope = license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=renewal.ended.svm_ids))
    order = TaskOrder(
        serial=key.serial,
        role=Role.ACTIVE,
        scope=PickedSvms(renewal.ended.svm_ids),
        encoded_scope=scope.SerializeToString(),
        wait=_WAIT,
        actor=ACTOR,
        task_id=renewal.task_id,
        in_grace_too=True,
    )
    request = StartTask(order, _NO_RETRY, license_pb2.ActivateResponse)
    (answer,) = start_tasks(transaction, [request])
    if isinstance(answer, CallRefused):
        raise answer

"""Adding keys to the storage and taking them out (R46, R80, R98)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from sparekey.licensing.keys import LicenseKey
from sparekey.licensing.refusals import Refusal
from sparekey.server.keys.messages import key_message
from sparekey.server.store.keys import (
    StoredKey,
    change_key,
    insert_key,
    key_use,
    load_keys,
)
from sparekey.server.store.requests import Retry, earlier_answer, earlier_response, remember_answer
from sparekey.server.store.tasks import running_tasks_with_key
from sparekey.server.store.transaction import Transaction
from sparekey.server.tasks.ending import refuse_key
from sparekey.v1 import error_pb2, event_pb2, key_pb2
from sparekey.wire.errors import CallRefused


@dataclass(frozen=True, slots=True)
class AddKey:
    """A verified key to be stored."""

    key: LicenseKey
    key_file: bytes
    actor: str
    retry: Retry
    code_ending: str = ""
    renews_serial: str | None = None


def check_new_key(connection: Connection, request: AddKey) -> StoredKey | None:
    """The stored key, if the storage has this very one.

    Raises:
        CallRefused: the storage has another key with the serial (R80).
    """
    known = load_keys(connection, [request.key.serial]).get(request.key.serial)
    if known is not None and known.key_file != request.key_file:
        raise CallRefused(
            error_pb2.ERROR_REASON_KEY_CONFLICT,
            f"the storage has another key with the serial {request.key.serial}; ask your vendor"
            " which one is right",
            metadata={"serial": request.key.serial},
        )
    return known


def add_keys(
    transaction: Transaction, requests: Sequence[AddKey]
) -> list[key_pb2.AddKeyResponse | CallRefused]:
    """Store keys in order; a key that is stored already changes nothing (R80)."""
    answers: list[key_pb2.AddKeyResponse | CallRefused] = []
    for request in requests:
        try:
            answers.append(_answer_add(transaction, request))
        except CallRefused as refused:
            answers.append(refused)
    return answers


def _answer_add(transaction: Transaction, request: AddKey) -> key_pb2.AddKeyResponse:
    earlier = earlier_answer(transaction.connection, request.retry)
    if isinstance(earlier, CallRefused):
        raise earlier
    if earlier is not None:
        return key_pb2.AddKeyResponse.FromString(earlier)
    stored, already = store_key(transaction, request)
    use = key_use(transaction.connection, [stored.key.serial]).get(stored.key.serial)
    response = key_pb2.AddKeyResponse(key=key_message(stored, use), already_stored=already)
    remember_answer(transaction, request.retry, response.SerializeToString())
    return response


def store_key(transaction: Transaction, request: AddKey) -> tuple[StoredKey, bool]:
    """Store one key; returns it and whether the storage had it.

    Raises:
        CallRefused: the storage has another key with the serial.
    """
    known = check_new_key(transaction.connection, request)
    if known is not None and known.in_storage:
        return known, True
    if known is not None:
        change_key(transaction.connection, known.key.serial, in_storage=True)
        stored = load_keys(transaction.connection, [known.key.serial])[known.key.serial]
    else:
        stored = StoredKey(
            key=request.key,
            key_file=request.key_file,
            added_at=transaction.now,
            code_ending=request.code_ending,
            renews_serial=request.renews_serial,
        )
        insert_key(transaction.connection, stored)
    # Its subscription is to be read, its end may be near.
    transaction.commit.add_due(transaction.now)
    transaction.add_event(
        event_pb2.EVENT_KIND_KEY_ADDED,
        f"Key {stored.key.serial} came into the storage.",
        actor=request.actor,
        serial=stored.key.serial,
    )
    return stored, False


@dataclass(frozen=True, slots=True)
class DeleteKey:
    """A request to take a key out of the storage."""

    serial: str
    force: bool
    actor: str
    retry: Retry
    validate_only: bool = False


def delete_keys(
    transaction: Transaction, requests: Sequence[DeleteKey]
) -> list[key_pb2.DeleteKeyResponse | CallRefused]:
    """Take keys out in order; SVMs that run under them keep running (R98)."""
    return [_delete(transaction, request) for request in requests]


def _delete(
    transaction: Transaction, request: DeleteKey
) -> key_pb2.DeleteKeyResponse | CallRefused:
    connection = transaction.connection
    earlier = earlier_response(connection, request.retry, key_pb2.DeleteKeyResponse)
    if earlier is not None:
        return earlier
    stored = load_keys(connection, [request.serial]).get(request.serial)
    if stored is None or not stored.in_storage:
        return key_not_found(request.serial)
    running = running_tasks_with_key(connection, request.serial)
    if running and not request.force:
        return CallRefused(
            error_pb2.ERROR_REASON_KEY_IN_USE,
            f"{len(running)} running task(s) refer to the key {request.serial}; wait for them,"
            " cancel them, or force the deletion",
            metadata={"serial": request.serial, "task_ids": ",".join(running[:20])},
        )
    response = key_pb2.DeleteKeyResponse(
        key=key_message(stored, key_use(connection, [request.serial]).get(request.serial))
    )
    if request.validate_only:
        return response
    change_key(connection, request.serial, in_storage=False)
    transaction.add_event(
        event_pb2.EVENT_KIND_KEY_DELETED,
        f"Key {request.serial} left the storage; SVMs that run under it keep running.",
        actor=request.actor,
        serial=request.serial,
    )
    if running:
        refuse_key(transaction, request.serial, Refusal.KEY_NOT_IN_STORAGE, request.actor)
    remember_answer(transaction, request.retry, response.SerializeToString())
    return response


def key_not_found(serial: str) -> CallRefused:
    """The refusal of a serial that the storage does not have."""
    return CallRefused(
        error_pb2.ERROR_REASON_KEY_NOT_FOUND,
        f"the key storage has no key {serial}; list the keys to see their serials",
        metadata={"serial": serial},
    )

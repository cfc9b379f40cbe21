"""Learning that keys are blocked, and telling the SVMs that hold them (R72, R85)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from sparekey.licensing.refusals import Refusal
from sparekey.server.keys.messages import key_message
from sparekey.server.link.results import InstructionBook
from sparekey.server.store.instructions import Action, StoredInstruction
from sparekey.server.store.keys import change_key, key_use, load_keys
from sparekey.server.store.requests import Retry, earlier_response, remember_answer
from sparekey.server.store.subscriptions import save_block_grace
from sparekey.server.store.svms import holders, load_svms, save_svms
from sparekey.server.store.transaction import Transaction
from sparekey.server.tasks.ending import refuse_key
from sparekey.v1 import event_pb2, key_pb2
from sparekey.wire.errors import CallRefused


@dataclass(frozen=True, slots=True)
class MarkBlocked:
    """What the activation server said: these keys are blocked.

    `graces` has for how long each still works, where it said so (R95).
    """

    serials: tuple[str, ...]
    actor: str
    retry: Retry
    validate_only: bool = False
    graces: Mapping[str, timedelta | None] = field(default_factory=dict)


def mark_blocked(
    transaction: Transaction, requests: Sequence[MarkBlocked]
) -> list[key_pb2.RefreshKeysResponse | CallRefused]:
    """Mark keys as blocked and tell the SVMs that hold them."""
    return [_mark(transaction, request) for request in requests]


def _mark(
    transaction: Transaction, request: MarkBlocked
) -> key_pb2.RefreshKeysResponse | CallRefused:
    connection = transaction.connection
    earlier = earlier_response(connection, request.retry, key_pb2.RefreshKeysResponse)
    if earlier is not None:
        return earlier
    known = load_keys(connection, request.serials)
    newly = sorted(serial for serial, stored in known.items() if not stored.blocked)
    if not request.validate_only:
        for serial in newly:
            _block(transaction, serial, request.actor)
            grace = request.graces.get(serial)
            if grace is not None:
                save_block_grace(connection, serial, max(grace, timedelta(0)))
    use = key_use(connection, newly)
    blocked = load_keys(connection, newly)
    response = key_pb2.RefreshKeysResponse(
        newly_blocked_keys=[key_message(blocked[serial], use.get(serial)) for serial in newly]
    )
    if not request.validate_only:
        remember_answer(transaction, request.retry, response.SerializeToString())
    return response


def _block(transaction: Transaction, serial: str, actor: str) -> None:
    connection = transaction.connection
    change_key(connection, serial, blocked_at=transaction.now)
    transaction.add_event(
        event_pb2.EVENT_KIND_KEY_BLOCKED,
        f"The activation server has blocked the key {serial}.",
        actor=actor,
        serial=serial,
    )
    refuse_key(transaction, serial, Refusal.KEY_BLOCKED, actor)
    svm_ids = holders(connection, serial)
    records = load_svms(connection, svm_ids)
    book = InstructionBook.load(transaction, svm_ids)
    for record in records.values():
        for slot, held in record.keyring.slots.items():
            if held.key.serial == serial and held.blocked_at is None:
                told = StoredInstruction(record.svm_id, slot, 0, Action.BLOCKED, serial)
                book.put_in(transaction, record, told)
    book.save(transaction)
    save_svms(connection, list(records.values()))

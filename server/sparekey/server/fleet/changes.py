"""What operators change about SVMs: leaving them out of wide tasks, forgetting them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from sparekey.licensing.tasks import OutcomeState
from sparekey.server.access.certificates import revoke_all_of
from sparekey.server.access.clusters import refuse_outside
from sparekey.server.fleet.messages import svm_message
from sparekey.server.life.guest_lists import forget_guests
from sparekey.server.life.terms import load_terms
from sparekey.server.store.instructions import load_pending
from sparekey.server.store.requests import Retry, earlier_response, remember_answer
from sparekey.server.store.svms import SvmRecord, delete_svm, load_svms, save_svms
from sparekey.server.store.tasks import OutcomeChanges, OutcomeRecord
from sparekey.server.store.transaction import Transaction
from sparekey.server.tasks.ending import apply_outcome_changes
from sparekey.v1 import error_pb2, event_pb2, fleet_pb2
from sparekey.wire.errors import CallRefused


@dataclass(frozen=True, slots=True)
class ChangeSvm:
    """A request about one SVM.

    Attributes:
        svm_id: The SVM.
        connected: Whether its agent's stream is open.
        actor: Who asks.
        retry: How the call is told from its retries.
        validate_only: Whether to change nothing.
        excluded: The new value; None where the SVM is to be forgotten.
        clusters: The clusters upon whose SVMs alone who asks may act; empty for all.
    """

    svm_id: str
    connected: bool
    actor: str
    retry: Retry
    validate_only: bool
    excluded: bool | None = None
    clusters: tuple[str, ...] = ()


_Change = Callable[[Transaction, ChangeSvm], Message | CallRefused]


def _answer(change: _Change, transaction: Transaction, request: ChangeSvm) -> Message | CallRefused:
    try:
        return change(transaction, request)
    except CallRefused as refused:
        return refused


def exclude_svms(
    transaction: Transaction, requests: Sequence[ChangeSvm]
) -> list[Message | CallRefused]:
    """Leave SVMs out of wide tasks, or take them in again."""
    return [_answer(_exclude, transaction, request) for request in requests]


def _exclude(transaction: Transaction, request: ChangeSvm) -> Message | CallRefused:
    earlier = earlier_response(transaction.connection, request.retry, fleet_pb2.ExcludeSvmResponse)
    if earlier is not None:
        return earlier
    record = _find(transaction, request)
    changed = record.excluded != bool(request.excluded)
    record.excluded = bool(request.excluded)
    waiting = load_pending(transaction.connection, [request.svm_id]).get(request.svm_id, [])
    message = _message(transaction, request, record, len(waiting))
    response = fleet_pb2.ExcludeSvmResponse(svm=message)
    if request.validate_only:
        return response
    if changed:
        save_svms(transaction.connection, [record])
        transaction.commit.svms.add(record.svm_id)
        what = "left out of wide tasks" if record.excluded else "taken into wide tasks again"
        transaction.add_event(
            event_pb2.EVENT_KIND_SVM_EXCLUDED,
            f"The SVM was {what}.",
            actor=request.actor,
            svm_id=record.svm_id,
        )
    remember_answer(transaction, request.retry, response.SerializeToString())
    return response


def forget_svms(
    transaction: Transaction, requests: Sequence[ChangeSvm]
) -> list[Message | CallRefused]:
    """Forget SVMs that are gone for good; their history stays."""
    return [_answer(_forget, transaction, request) for request in requests]


def _forget(transaction: Transaction, request: ChangeSvm) -> Message | CallRefused:
    earlier = earlier_response(transaction.connection, request.retry, fleet_pb2.ForgetSvmResponse)
    if earlier is not None:
        return earlier
    record = _find(transaction, request)
    if request.connected:
        return CallRefused(
            error_pb2.ERROR_REASON_SVM_CONNECTED,
            f"the agent of the SVM {request.svm_id} is connected; stop it first",
            metadata={"svm_id": request.svm_id},
        )
    waiting = load_pending(transaction.connection, [request.svm_id]).get(request.svm_id, [])
    message = _message(transaction, request, record, len(waiting))
    response = fleet_pb2.ForgetSvmResponse(svm=message)
    if request.validate_only:
        return response
    changes = OutcomeChanges()
    for stored in waiting:
        if stored.task_id is not None:
            changes.move(
                OutcomeState.PENDING,
                OutcomeRecord(
                    stored.task_id,
                    stored.svm_id,
                    OutcomeState.CANCELLED,
                    finished_at=transaction.now,
                    instruction_version=stored.version,
                ),
            )
    apply_outcome_changes(transaction, changes)
    forget_guests(transaction, record.svm_id, record.keyring)
    delete_svm(transaction.connection, record.svm_id)
    # Else its agent would make it known again.
    revoke_all_of(transaction, record.svm_id, request.actor)
    transaction.commit.forgotten.add(record.svm_id)
    transaction.add_event(
        event_pb2.EVENT_KIND_SVM_FORGOTTEN,
        "The SVM was forgotten.",
        actor=request.actor,
        svm_id=record.svm_id,
    )
    remember_answer(transaction, request.retry, response.SerializeToString())
    return response


def _find(transaction: Transaction, request: ChangeSvm) -> SvmRecord:
    """The SVM of a request.

    Raises:
        CallRefused: the server does not know it, or who asks may not act upon it.
    """
    record = load_svms(transaction.connection, [request.svm_id]).get(request.svm_id)
    if record is None:
        raise svm_not_found(request.svm_id)
    refuse_outside(request.clusters, [(record.svm_id, record.cluster)])
    return record


def _message(
    transaction: Transaction, request: ChangeSvm, record: SvmRecord, waiting: int
) -> fleet_pb2.Svm:
    return svm_message(
        record,
        transaction.now,
        connected=request.connected,
        waiting=waiting,
        terms=load_terms(transaction.connection),
    )


def svm_not_found(svm_id: str) -> CallRefused:
    """The refusal of an SVM id that the server does not know."""
    return CallRefused(
        error_pb2.ERROR_REASON_SVM_NOT_FOUND,
        f"the server knows no SVM {svm_id}; list the SVMs to see their ids",
        metadata={"svm_id": svm_id},
    )

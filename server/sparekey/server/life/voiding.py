"""Keys that lose their effect when an SVM's clock is changed, and get it back (R54, R82)."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from sparekey.licensing.story import in_words
from sparekey.server.store.transaction import Transaction
from sparekey.server.store.void_keys import add_void, remove_void
from sparekey.v1 import event_pb2

ACTOR = "server"

REMEDY = "Set the clock right, forget the SVM, let it connect again, and activate it."


def void_keys(transaction: Transaction, svm_id: str, jump: timedelta) -> None:
    """Void the keys of an SVM whose clock was moved by `jump`; without an active key nothing is."""
    if not add_void(transaction.connection, svm_id, transaction.now):
        return
    where = "on" if jump > timedelta() else "back"
    transaction.add_event(
        event_pb2.EVENT_KIND_KEYS_VOIDED,
        f"The SVM's clock was set {where} by {in_words(abs(jump))}, so its keys are void and it"
        f" gets no updates. {REMEDY}",
        actor=ACTOR,
        svm_id=svm_id,
        severity=event_pb2.SEVERITY_CRITICAL,
    )
    transaction.commit.svms.add(svm_id)


def reinstate_keys(transaction: Transaction, svm_ids: Collection[str]) -> None:
    """Give their effect back to the void keys of SVMs that were activated.

    Only those that registered anew after their keys were voided have done both that it takes.
    """
    for svm_id in remove_void(transaction.connection, svm_ids) if svm_ids else ():
        transaction.add_event(
            event_pb2.EVENT_KIND_KEYS_REINSTATED,
            "The SVM connected anew and was activated: its keys have their effect again.",
            actor=ACTOR,
            svm_id=svm_id,
            severity=event_pb2.SEVERITY_INFO,
        )
        transaction.commit.svms.add(svm_id)

"""What must be known beside an SVM's keyring to say how the SVM is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import Connection

from sparekey.licensing.modes import BLOCK_GRACE
from sparekey.licensing.subscriptions import Subscription
from sparekey.licensing.walking import KeyTerms
from sparekey.server.store.subscriptions import (
    load_block_graces,
    load_subscriptions,
    load_usual_block_grace,
    save_usual_block_grace,
)
from sparekey.server.store.transaction import Transaction
from sparekey.server.store.void_keys import void_svms


@dataclass(frozen=True, slots=True)
class Terms:
    """By serial, what providers say of subscriptions and issuers of blocked keys.

    `void_svms` are those whose keys have no effect (R82); `block_grace` is for blocked keys of
    which no issuer says anything (R95).
    """

    subscriptions: Mapping[str, Subscription] = field(default_factory=dict)
    block_graces: Mapping[str, timedelta] = field(default_factory=dict)
    void_svms: frozenset[str] = frozenset()
    block_grace: timedelta = BLOCK_GRACE

    @property
    def of_keys(self) -> KeyTerms:
        """What concerns keys, without the SVMs whose keys are void."""
        return KeyTerms(self.subscriptions, self.block_graces, self.block_grace)


NO_TERMS = Terms()


def load_terms(connection: Connection) -> Terms:
    """All terms; there are as many as subscriptions, blocked and void keys, not as many as SVMs."""
    return Terms(
        load_subscriptions(connection),
        load_block_graces(connection),
        void_svms(connection),
        load_usual_block_grace(connection),
    )


def set_block_grace(transaction: Transaction, requests: Sequence[timedelta]) -> list[None]:
    """Settle for how long blocked keys work on of which their issuers say nothing (R95)."""
    for grace in requests:
        save_usual_block_grace(transaction.connection, grace)
    return [None] * len(requests)

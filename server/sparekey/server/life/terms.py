"""What must be known beside an SVM's keyring to say how the SVM is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import Connection

from sparekey.licensing.subscriptions import Subscription
from sparekey.server.store.subscriptions import load_block_graces, load_subscriptions
from sparekey.server.store.void_keys import void_svms


@dataclass(frozen=True, slots=True)
class Terms:
    """By serial, what providers say of subscriptions and issuers of blocked keys.

    `void_svms` are those whose keys have no effect (R82).
    """

    subscriptions: Mapping[str, Subscription] = field(default_factory=dict)
    block_graces: Mapping[str, timedelta] = field(default_factory=dict)
    void_svms: frozenset[str] = frozenset()


NO_TERMS = Terms()


def load_terms(connection: Connection) -> Terms:
    """All terms; there are as many as subscriptions, blocked and void keys, not as many as SVMs."""
    return Terms(
        load_subscriptions(connection), load_block_graces(connection), void_svms(connection)
    )

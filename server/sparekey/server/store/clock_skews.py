"""The SVMs whose clocks were found to differ from the server's (R82)."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from sparekey.server.store import schema

_skews = schema.clock_skews
_svms = schema.svms


def skewed_svms(connection: Connection) -> set[str]:
    """Every SVM whose clock is known to differ."""
    return set(connection.scalars(select(_skews.c.svm_id)))


def add_skew(connection: Connection, svm_id: str, found_at: datetime) -> bool:
    """Note that an SVM's clock differs; False where that is known, or the SVM is not."""
    known = select(_skews.c.svm_id).where(_skews.c.svm_id == svm_id)
    svm = select(_svms.c.id).where(_svms.c.id == svm_id)
    if connection.scalar(known) is not None or connection.scalar(svm) is None:
        return False
    connection.execute(insert(_skews).values(svm_id=svm_id, found_at=found_at))
    return True


def remove_skews(connection: Connection, svm_ids: Collection[str]) -> bool:
    """Note that SVMs' clocks agree again; False where nothing else was known."""
    gone = connection.execute(delete(_skews).where(_skews.c.svm_id.in_(svm_ids)))
    return gone.rowcount > 0

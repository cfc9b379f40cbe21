"""The SVMs whose clocks were found to differ from the server's (R82)."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, delete, select

from sparekey.server.store import schema
from sparekey.server.store.bulk import upsert

_skews = schema.clock_skews
_svms = schema.svms


def load_skews(connection: Connection) -> dict[str, int | None]:
    """By SVM whose clock differs, by how many seconds it is ahead; None where that is not known."""
    query = select(_skews.c.svm_id, _skews.c.skew)
    return {row.svm_id: row.skew for row in connection.execute(query)}


def save_skew(connection: Connection, svm_id: str, found_at: datetime, skew: int) -> bool:
    """Note by how many seconds an SVM's clock is ahead; whether it was not known to differ."""
    known = select(_skews.c.svm_id).where(_skews.c.svm_id == svm_id)
    svm = select(_svms.c.id).where(_svms.c.id == svm_id)
    if connection.scalar(svm) is None:
        return False
    new = connection.scalar(known) is None
    statement = upsert(_skews, ("svm_id",), ("skew",))
    connection.execute(statement.values(svm_id=svm_id, found_at=found_at, skew=skew))
    return new


def remove_skews(connection: Connection, svm_ids: Collection[str]) -> bool:
    """Note that SVMs' clocks agree again; False where nothing else was known."""
    gone = connection.execute(delete(_skews).where(_skews.c.svm_id.in_(svm_ids)))
    return gone.rowcount > 0

"""The SVMs whose keys are void, since their clocks were changed (R54, R82)."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects import sqlite

from sparekey.licensing.keyring import Role
from sparekey.server.store import schema
from sparekey.server.store.transaction import batches

_void = schema.void_keys
_held = schema.held_keys


def void_svms(connection: Connection) -> frozenset[str]:
    """Every SVM whose keys are void; few, so they are read whole."""
    return frozenset(connection.scalars(select(_void.c.svm_id)))


def remedies_begun(connection: Connection) -> dict[str, bool]:
    """By SVM whose keys are void whether it registered anew: an activation is what is missing."""
    rows = connection.execute(select(_void.c.svm_id, _void.c.registered_again_at))
    return {svm_id: again is not None for svm_id, again in rows}


def add_void(connection: Connection, svm_id: str, voided_at: datetime) -> bool:
    """Note that an SVM's keys are void; False where it has no active key, or they were already."""
    holds = select(_held.c.serial).where(_held.c.svm_id == svm_id, _held.c.role == Role.ACTIVE.name)
    if connection.scalar(holds.limit(1)) is None:
        return False
    statement = sqlite.insert(_void).values(svm_id=svm_id, voided_at=voided_at)
    return connection.execute(statement.on_conflict_do_nothing()).rowcount > 0


def note_registered_again(
    connection: Connection, svm_ids: Collection[str], registered_at: datetime
) -> None:
    """Note that SVMs connected for the first time, again: the first half of the remedy."""
    for batch in batches(sorted(svm_ids)):
        connection.execute(
            update(_void).where(_void.c.svm_id.in_(batch)).values(registered_again_at=registered_at)
        )


def remove_void(connection: Connection, svm_ids: Collection[str]) -> list[str]:
    """Take back what voided the keys of SVMs that registered again; those SVMs, by id."""
    found: list[str] = []
    for batch in batches(sorted(svm_ids)):
        statement = delete(_void).where(
            _void.c.svm_id.in_(batch), _void.c.registered_again_at.is_not(None)
        )
        found.extend(connection.scalars(statement.returning(_void.c.svm_id)))
    return sorted(found)

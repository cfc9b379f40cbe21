"""What a task needs of the SVMs of its scope; less than their whole rows, since those are many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, select, update

from sparekey.licensing.guests import GuestMix
from sparekey.licensing.keyring import EMPTY, Keyring
from sparekey.licensing.keys import Edition, KeyType
from sparekey.licensing.scopes import AllSvms, OneCluster, PickedSvms, Scope
from sparekey.server.store import schema
from sparekey.server.store.bulk import BulkChange, Lookup
from sparekey.server.store.keys import StoredKey
from sparekey.server.store.svms import guest_mix, load_keyrings

_svms = schema.svms
_held = schema.held_keys


@dataclass(slots=True)
class Target:
    """An SVM that a task may be for.

    Attributes:
        svm_id: The SVM.
        cluster: Its cluster; empty for none.
        guests: Its guests by its last report.
        instruction_version: The highest version given to an instruction for it.
        keyring: Its keys by its last report.
    """

    svm_id: str
    cluster: str
    guests: GuestMix
    instruction_version: int
    keyring: Keyring = EMPTY


_TARGETS = select(
    _svms.c.id,
    _svms.c.cluster,
    _svms.c.servers,
    _svms.c.desktops,
    _svms.c.unknown,
    _svms.c.instruction_version,
)
_BY_ID = Lookup(_TARGETS.where(_svms.c.id.in_(bindparam("values", expanding=True))))
_SAVE_VERSION = BulkChange(
    update(_svms)
    .where(_svms.c.id == bindparam("svm"))
    .values(instruction_version=bindparam("version")),
    ("version", "svm"),
)


def load_targets(
    connection: Connection, scope: Scope, keys: dict[str, StoredKey]
) -> dict[str, Target]:
    """The SVMs that a scope may select: picked ones by id, else those that are not excluded.

    Args:
        connection: Where to read.
        scope: The scope.
        keys: Keys by serial that are loaded already; those that the SVMs hold are added to it.
    """
    found = {
        svm_id: Target(svm_id, cluster, guest_mix(servers, desktops, unknown), version)
        for svm_id, cluster, servers, desktops, unknown, version in _rows(connection, scope)
    }
    for svm_id, keyring in load_keyrings(connection, found, keys).items():
        found[svm_id].keyring = keyring
    return found


def save_versions(connection: Connection, targets: Iterable[Target]) -> None:
    """Write the versions that were given to instructions."""
    _SAVE_VERSION.run(connection, [(one.instruction_version, one.svm_id) for one in targets])


def clusters_within(connection: Connection, scope: Scope) -> dict[str, str]:
    """By SVM that a scope may select its cluster, which is empty for none."""
    return {svm_id: cluster for svm_id, cluster, *_ in _rows(connection, scope)}


def kinds_outside(
    connection: Connection, scope: AllSvms | OneCluster, now: datetime
) -> list[tuple[KeyType, Edition]]:
    """The types and editions of the keys in force on SVMs that a scope leaves out (R40, R41).

    Reserve keys count too: one is like the active key before it, and where that has ended it has
    taken over, be that reported or not. What waits for these SVMs does not count.
    """
    query = select(_held.c.type, _held.c.edition).where(
        _held.c.ended_at.is_(None),
        _held.c.blocked_at.is_(None),
        _held.c.not_before <= now,
        _held.c.expires_at.is_(None) | (_held.c.expires_at > now),
        _held.c.svm_id.not_in(select(_svms.c.id).where(*_wide(scope))),
    )
    found = connection.execute(query.distinct())
    return [(KeyType[key_type], Edition[edition]) for key_type, edition in found]


def _rows(connection: Connection, scope: Scope) -> Iterable[Sequence[Any]]:
    if isinstance(scope, PickedSvms):
        return _BY_ID.rows(connection, scope.ids)
    return connection.execute(_TARGETS.where(*_wide(scope))).all()


def _wide(scope: AllSvms | OneCluster) -> list[ColumnElement[bool]]:
    """What selects all SVMs or those of a cluster, without those that are excluded."""
    of_cluster = [_svms.c.cluster == scope.name] if isinstance(scope, OneCluster) else []
    return [~_svms.c.excluded, *of_cluster]

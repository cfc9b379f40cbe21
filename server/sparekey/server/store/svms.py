"""The SVMs' rows, with the keys that each holds as last reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, select, update

from sparekey.licensing.guests import GuestMix, HostCpu
from sparekey.licensing.keyring import EMPTY, HeldKey, Keyring, Role, Slot
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.licensing.scopes import AllSvms, OneCluster, PickedSvms, Scope
from sparekey.server.store import schema
from sparekey.server.store.bulk import (
    BulkChange,
    BulkInsert,
    Lookup,
    read_instant,
    read_set_instant,
    stored_instant,
    upsert,
)
from sparekey.server.store.keys import StoredKey, load_keys

_svms = schema.svms
_held = schema.held_keys


@dataclass(slots=True)
class SvmRecord:
    """One SVM as the store has it; changed in place by operations, then saved.

    `keyring` is the last reported one and only a report changes it.
    """

    svm_id: str
    registered_at: datetime
    last_seen_at: datetime
    cluster: str = ""
    guests: GuestMix = field(default_factory=GuestMix)
    host_uuid: str = ""
    host_cpu: HostCpu = field(default_factory=lambda: HostCpu(0, 0))
    keyring: Keyring = EMPTY
    keyring_revision: int = 0
    report_sequence: int = 0
    report_digest: bytes | None = None
    instruction_version: int = 0
    agent_version: str = ""
    boot_id: str = ""
    excluded: bool = False
    push_stalled: bool = False


_BY_ID = Lookup(select(_svms).where(_svms.c.id.in_(bindparam("values", expanding=True))))
_CLUSTERS = Lookup(
    select(_svms.c.id, _svms.c.cluster).where(_svms.c.id.in_(bindparam("values", expanding=True)))
)
_HELD_BY_SVM = Lookup(select(_held).where(_held.c.svm_id.in_(bindparam("values", expanding=True))))


def load_svms(
    connection: Connection,
    svm_ids: Iterable[str],
    keys: dict[str, StoredKey] | None = None,
    with_keys: Callable[[str], bool] | None = None,
) -> dict[str, SvmRecord]:
    """The SVMs with these ids that the server knows.

    Args:
        connection: Where to read.
        svm_ids: The ids.
        keys: Keys by serial that are loaded already; those that the SVMs hold
            are added to it.
        with_keys: Of which SVMs the keyring is wanted, if not of all; the others'
            stays empty and must not be saved.
    """
    records = {row[0]: _record(row) for row in _BY_ID.rows(connection, svm_ids)}
    holding = records if with_keys is None else filter(with_keys, records)
    _add_keyrings(connection, records, holding, keys)
    return records


def load_scope(
    connection: Connection, scope: Scope, keys: dict[str, StoredKey] | None = None
) -> dict[str, SvmRecord]:
    """The SVMs that a scope may select: picked ones by id, else those that are not excluded."""
    if isinstance(scope, PickedSvms):
        return load_svms(connection, scope.ids, keys)
    return load_svms(connection, connection.scalars(_wide(scope)), keys)


def clusters_within(connection: Connection, scope: Scope) -> dict[str, str]:
    """By SVM that a scope may select its cluster, which is empty for none."""
    if isinstance(scope, PickedSvms):
        return dict(_CLUSTERS.rows(connection, scope.ids))
    query = _wide(scope).add_columns(_svms.c.cluster)
    return dict(connection.execute(query).tuples().all())


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
        _held.c.svm_id.not_in(_wide(scope)),
    )
    found = connection.execute(query.distinct())
    return [(KeyType[key_type], Edition[edition]) for key_type, edition in found]


def _wide(scope: AllSvms | OneCluster) -> Select[tuple[str]]:
    """The ids of all SVMs or of those of a cluster, without those that are excluded."""
    query = select(_svms.c.id).where(~_svms.c.excluded)
    return query.where(_svms.c.cluster == scope.name) if isinstance(scope, OneCluster) else query


def page_of_svms(
    connection: Connection, cluster: str, after: str, size: int
) -> tuple[list[SvmRecord], dict[str, StoredKey]]:
    """SVMs by id after an id, of one cluster or (empty) of all, and the keys that they hold."""
    query = select(_svms.c.id).where(_svms.c.id > after)
    if cluster:
        query = query.where(_svms.c.cluster == cluster)
    ids = list(connection.scalars(query.order_by(_svms.c.id).limit(size)))
    keys: dict[str, StoredKey] = {}
    found = load_svms(connection, ids, keys)
    return [found[svm_id] for svm_id in ids], keys


def holders(connection: Connection, serial: str) -> list[str]:
    """The SVMs that hold a key, by their last reports."""
    query = select(_held.c.svm_id).where(_held.c.serial == serial).distinct()
    return list(connection.scalars(query.order_by(_held.c.svm_id)))


_COLUMNS = (
    "cluster",
    "servers",
    "desktops",
    "unknown",
    "host_uuid",
    "processors",
    "cores",
    "keyring_revision",
    "report_sequence",
    "report_digest",
    "instruction_version",
    "agent_version",
    "boot_id",
    "registered_at",
    "last_seen_at",
    "excluded",
    "push_stalled",
)


_SAVE = BulkInsert(upsert(_svms, ("id",), _COLUMNS), ("id", *_COLUMNS))
_UPDATE_SEEN = BulkChange(
    update(_svms).where(_svms.c.id == bindparam("svm")).values(last_seen_at=bindparam("seen_at")),
    ("seen_at", "svm"),
)
_HELD_SLOT = ("svm_id", "type", "role")
_DELETE_HELD = BulkChange(
    delete(_held).where(*(_held.c[name] == bindparam(f"of_{name}") for name in _HELD_SLOT)),
    tuple(f"of_{name}" for name in _HELD_SLOT),
)
_HELD_REST = (
    "serial",
    "kind",
    "edition",
    "installed_at",
    "not_before",
    "expires_at",
    "ended_at",
    "blocked_at",
)
_HELD_COLUMNS = (*_HELD_SLOT, *_HELD_REST)
_SAVE_HELD = BulkInsert(upsert(_held, _HELD_SLOT, _HELD_REST), _HELD_COLUMNS)


def save_svms(connection: Connection, records: Sequence[SvmRecord]) -> None:
    """Write SVMs, new or changed; held keys are saved by `save_keyrings`."""
    _SAVE.run(connection, [_values(record) for record in records])


def save_keyrings(connection: Connection, changed: Iterable[tuple[SvmRecord, Keyring]]) -> None:
    """Write the keys that SVMs hold now, each beside the keyring that is stored so far."""
    gone: list[tuple[object, ...]] = []
    rows: list[tuple[object, ...]] = []
    for record, stored in changed:
        now, before = record.keyring.slots, stored.slots
        gone.extend(
            (record.svm_id, slot.type.name, slot.role.name) for slot in before if slot not in now
        )
        rows.extend(
            _held_values(record.svm_id, slot, held)
            for slot, held in now.items()
            if before.get(slot) != held
        )
    _DELETE_HELD.run(connection, gone)
    _SAVE_HELD.run(connection, rows)


def touch_svms(connection: Connection, seen: Mapping[str, datetime]) -> None:
    """Write when SVMs were last heard of."""
    _UPDATE_SEEN.run(connection, [(stored_instant(at), svm_id) for svm_id, at in seen.items()])


def delete_svm(connection: Connection, svm_id: str) -> None:
    """Delete an SVM with its keys and instructions; its events stay."""
    connection.execute(delete(_svms).where(_svms.c.id == svm_id))


def reported_key(
    serial: str,
    key_type: KeyType,
    kind: KeyKind,
    edition: Edition,
    not_before: datetime,
    expires_at: datetime | None,
) -> LicenseKey:
    """A key that the storage does not know, from what its SVM reports.

    The number of units is not reported and stays 0: such a key is shown and
    followed to its end, never given out.
    """
    origin = KeyOrigin.KEY_FILE if "-" in serial else KeyOrigin.ACTIVATION_CODE
    return LicenseKey(
        serial=serial,
        type=key_type,
        kind=kind,
        edition=edition,
        origin=origin,
        unit_limit=0,
        not_before=not_before,
        expires_at=expires_at,
    )


def _add_keyrings(
    connection: Connection,
    records: Mapping[str, SvmRecord],
    svm_ids: Iterable[str],
    keys: dict[str, StoredKey] | None,
) -> None:
    rows = list(_HELD_BY_SVM.rows(connection, svm_ids))
    known = keys if keys is not None else {}
    missing = {row[_SERIAL] for row in rows} - known.keys()
    if missing:
        known.update(load_keys(connection, missing))
    slots: dict[str, dict[Slot, HeldKey]] = {}
    for row in rows:
        slot = Slot(KeyType[row[1]], Role[row[2]])
        slots.setdefault(row[0], {})[slot] = _held_key(row, slot, known.get(row[_SERIAL]))
    for svm_id, held in slots.items():
        records[svm_id].keyring = Keyring(held)


_SERIAL = _HELD_COLUMNS.index("serial")


def _held_key(row: Sequence[Any], slot: Slot, stored: StoredKey | None) -> HeldKey:
    serial, kind, edition, installed_at, not_before, expires_at, ended_at, blocked_at = row[3:]
    key = (
        stored.key
        if stored is not None
        else reported_key(
            serial,
            slot.type,
            KeyKind[kind],
            Edition[edition],
            read_set_instant(not_before),
            read_instant(expires_at),
        )
    )
    return HeldKey(
        key,
        read_set_instant(installed_at),
        ended_at=read_instant(ended_at),
        blocked_at=read_instant(blocked_at),
    )


def _held_values(svm_id: str, slot: Slot, held: HeldKey) -> tuple[object, ...]:
    key = held.key
    return (
        svm_id,
        slot.type.name,
        slot.role.name,
        key.serial,
        key.kind.name,
        key.edition.name,
        stored_instant(held.installed_at),
        stored_instant(key.not_before),
        stored_instant(key.expires_at),
        stored_instant(held.ended_at),
        stored_instant(held.blocked_at),
    )


def _values(record: SvmRecord) -> tuple[object, ...]:
    return (
        record.svm_id,
        record.cluster,
        record.guests.servers,
        record.guests.desktops,
        record.guests.unknown,
        record.host_uuid,
        record.host_cpu.processors,
        record.host_cpu.cores,
        record.keyring_revision,
        record.report_sequence,
        record.report_digest,
        record.instruction_version,
        record.agent_version,
        record.boot_id,
        stored_instant(record.registered_at),
        stored_instant(record.last_seen_at),
        record.excluded,
        record.push_stalled,
    )


def _record(row: Sequence[Any]) -> SvmRecord:
    (
        svm_id,
        cluster,
        servers,
        desktops,
        unknown,
        host_uuid,
        processors,
        cores,
        keyring_revision,
        report_sequence,
        report_digest,
        instruction_version,
        agent_version,
        boot_id,
        registered_at,
        last_seen_at,
        excluded,
        push_stalled,
    ) = row
    return SvmRecord(
        svm_id=svm_id,
        registered_at=read_set_instant(registered_at),
        last_seen_at=read_set_instant(last_seen_at),
        cluster=cluster,
        guests=GuestMix(servers, desktops, unknown),
        host_uuid=host_uuid,
        host_cpu=HostCpu(processors, cores),
        keyring_revision=keyring_revision,
        report_sequence=report_sequence,
        report_digest=report_digest,
        instruction_version=instruction_version,
        agent_version=agent_version,
        boot_id=boot_id,
        excluded=bool(excluded),
        push_stalled=bool(push_stalled),
    )

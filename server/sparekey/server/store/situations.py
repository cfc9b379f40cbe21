"""The whole fleet for a report: few columns, and one keyring object for all SVMs that share it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, select

from sparekey.licensing.forecast import SvmSituation
from sparekey.licensing.guests import GuestMix, HostCpu
from sparekey.licensing.keyring import EMPTY, HeldKey, Keyring, Role, Slot
from sparekey.licensing.keys import Edition, KeyKind, KeyType
from sparekey.server.store import schema
from sparekey.server.store.bulk import read_instant, read_set_instant, stored_instant
from sparekey.server.store.keys import StoredKey, load_keys
from sparekey.server.store.svms import reported_key
from sparekey.server.store.void_keys import void_svms

_svms = schema.svms
_held = schema.held_keys
_keys = schema.keys

_HeldRow = tuple[Any, ...]


class SituationReader:
    """Reads SVMs as reports see them, within one snapshot.

    A key's `installed_at` is not the SVM's own unless it is still to come, so that SVMs with the
    same keys are alike. Nothing that a forecast says depends on it.

    Attributes:
        keys: The keys by serial that the SVMs hold, as the storage knows them.
    """

    def __init__(self, connection: Connection, now: datetime) -> None:
        self._connection = connection
        self._now = now
        self._keyrings: dict[tuple[_HeldRow, ...], Keyring] = {}
        self.keys: dict[str, StoredKey] = {}

    def read(self, cluster: str = "") -> list[SvmSituation]:
        """The SVMs of one cluster, or (empty) all, by id."""
        held = self._held(cluster)
        void = void_svms(self._connection)
        columns = (
            _svms.c.id,
            _svms.c.cluster,
            _svms.c.servers,
            _svms.c.desktops,
            _svms.c.unknown,
            _svms.c.host_uuid,
            _svms.c.processors,
            _svms.c.cores,
        )
        mixes: dict[tuple[int, int, int], GuestMix] = {}
        hosts: dict[tuple[int, int], HostCpu] = {}
        found = []
        query = _of_cluster(select(*columns), cluster).order_by(_svms.c.id)
        for (
            svm_id,
            of,
            servers,
            desktops,
            unknown,
            host,
            processors,
            cores,
        ) in self._connection.execute(query):
            mix = mixes.get((servers, desktops, unknown))
            if mix is None:
                mix = mixes[servers, desktops, unknown] = GuestMix(servers, desktops, unknown)
            cpu = hosts.get((processors, cores))
            if cpu is None:
                cpu = hosts[processors, cores] = HostCpu(processors, cores)
            rows = held.get(svm_id)
            keyring = self._keyring(tuple(rows)) if rows else EMPTY
            found.append(SvmSituation(svm_id, keyring, mix, of, host, cpu, svm_id in void))
        return found

    def _held(self, cluster: str) -> dict[str, list[_HeldRow]]:
        columns = [column for column in _held.c if column.name != "svm_id"]
        query = select(_held.c.svm_id, *columns)
        if cluster:
            query = _of_cluster(query.join(_svms, _svms.c.id == _held.c.svm_id), cluster)
        result = self._connection.exec_driver_sql(*_driver_form(self._connection, query))
        now = _microseconds(self._now)
        held: dict[str, list[_HeldRow]] = {}
        serials: set[str] = set()
        for svm_id, key_type, role, serial, kind, edition, installed_at, *rest in _rows(result):
            # When a key came doesn't matter any more, so SVMs with the same keys are alike.
            came = installed_at if installed_at > now else 0
            held.setdefault(svm_id, []).append((key_type, role, serial, kind, edition, came, *rest))
            serials.add(serial)
        self.keys.update(load_keys(self._connection, serials - self.keys.keys()))
        return held

    def _keyring(self, rows: tuple[_HeldRow, ...]) -> Keyring:
        found = self._keyrings.get(rows)
        if found is None:
            slots = dict(self._held_key(row) for row in rows)
            found = self._keyrings[rows] = Keyring(slots)
        return found

    def _held_key(self, row: _HeldRow) -> tuple[Slot, HeldKey]:
        key_type, role, serial, kind, edition, came, not_before, expires_at, ended, blocked = row
        slot = Slot(KeyType[key_type], Role[role])
        stored = self.keys.get(serial)
        if stored is not None:
            key = stored.key
        else:
            key = reported_key(
                serial,
                slot.type,
                KeyKind[kind],
                Edition[edition],
                read_set_instant(not_before),
                read_instant(expires_at),
            )
        installed_at = read_set_instant(came) if came else min(key.not_before, self._now)
        return slot, HeldKey(key, installed_at, read_instant(ended), read_instant(blocked))


def storage_keys(connection: Connection) -> list[StoredKey]:
    """Every key in the storage, blocked ones too."""
    serials = connection.scalars(select(_keys.c.serial).where(_keys.c.in_storage))
    return list(load_keys(connection, serials).values())


def page_of_holders(
    connection: Connection, serial: str, after: str, size: int
) -> Sequence[tuple[str, Role]]:
    """The SVMs that hold a key, by id, and as what."""
    query = (
        select(_held.c.svm_id, _held.c.role)
        .where(_held.c.serial == serial, _held.c.svm_id > after)
        .order_by(_held.c.svm_id)
        .limit(size)
    )
    return [(svm_id, Role[role]) for svm_id, role in connection.execute(query)]


def _of_cluster(query: Select[Any], cluster: str) -> Select[Any]:
    return query.where(_svms.c.cluster == cluster) if cluster else query


def _microseconds(instant: datetime) -> int:
    stored = stored_instant(instant)
    assert stored is not None
    return stored


def _driver_form(connection: Connection, query: Select[Any]) -> tuple[str, tuple[Any, ...]]:
    compiled = query.compile(dialect=connection.dialect)
    assert compiled.positiontup is not None
    return str(compiled), tuple(compiled.params[name] for name in compiled.positiontup)


def _rows(result: Any) -> Iterator[tuple[Any, ...]]:
    yield from result.cursor.fetchall() if result.cursor is not None else ()
    result.close()

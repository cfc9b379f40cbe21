"""The guests that SVMs report one by one, and the units that all of the fleet uses (R67, R91)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import (
    Connection,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    union,
)
from sqlalchemy.dialects import sqlite

from sparekey.licensing.guests import OsClass
from sparekey.licensing.keyring import Role
from sparekey.licensing.keys import KeyType
from sparekey.licensing.units import WINDOW, Guest, Protection
from sparekey.server.store import schema
from sparekey.server.store.bulk import BulkInsert, Lookup, read_instant, stored_instant

_guests = schema.guests
_listers = schema.guest_listers
_protections = schema.protections
_held = schema.held_keys
_svms = schema.svms

_BY_SVM = Lookup(select(_guests).where(_guests.c.svm_id.in_(bindparam("values", expanding=True))))
_LISTERS = Lookup(
    select(_listers.c.svm_id).where(_listers.c.svm_id.in_(bindparam("values", expanding=True)))
)
_INSERT = BulkInsert(
    insert(_guests), ("svm_id", "instance_uuid", "os_class", "last_protected_at", "counted")
)


def load_guests(connection: Connection, svm_ids: Iterable[str]) -> dict[str, tuple[Guest, ...]]:
    """The guests beside SVMs; an SVM that reports counts alone is absent."""
    wanted = set(svm_ids)
    found: dict[str, list[Guest]] = {row[0]: [] for row in _LISTERS.rows(connection, wanted)}
    for svm_id, uuid, os_class, last, counted in _BY_SVM.rows(connection, found):
        known = OsClass[os_class] if os_class else None
        found[svm_id].append(Guest(uuid, known, read_instant(last), bool(counted)))
    return {svm_id: tuple(guests) for svm_id, guests in found.items()}


def save_guests(connection: Connection, lists: Mapping[str, Sequence[Guest]]) -> None:
    """Write the guests beside SVMs in place of those that were stored."""
    if not lists:
        return
    for svm_id in lists:
        statement = sqlite.insert(_listers).values(svm_id=svm_id)
        connection.execute(statement.on_conflict_do_nothing())
        connection.execute(delete(_guests).where(_guests.c.svm_id == svm_id))
    rows = [
        (
            svm_id,
            guest.instance_uuid,
            guest.os_class.name if guest.os_class else None,
            stored_instant(guest.last_protected_at),
            guest.counted,
        )
        for svm_id, guests in lists.items()
        for guest in guests
    ]
    _INSERT.run(connection, rows)


def save_protections(connection: Connection, protections: Iterable[Protection]) -> None:
    """Remember guests that a key covered; the latest instant of each stays."""
    for one in protections:
        statement = sqlite.insert(_protections).values(
            serial=one.serial,
            instance_uuid=one.instance_uuid,
            last_protected_at=one.last_protected_at,
        )
        later = func.max(_protections.c.last_protected_at, statement.excluded.last_protected_at)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=("serial", "instance_uuid"), set_={"last_protected_at": later}
            )
        )


def forget_protections(connection: Connection, now: datetime) -> None:
    """Delete what no longer counts."""
    connection.execute(delete(_protections).where(_protections.c.last_protected_at <= now - WINDOW))


def units_in_use(
    connection: Connection, now: datetime, serials: Iterable[str] | None = None
) -> dict[str, int]:
    """The units of each key that uses any, as `licensing.units.units_used` counts them.

    Args:
        connection: Where to read.
        now: The instant.
        serials: The keys that are asked about; None for all.
    """
    wanted = None if serials is None else sorted(set(serials))
    used: dict[str, int] = {}
    for query in (_guest_units(now), _nameless_units(), _host_units()):
        counted = query.subquery()
        rows = select(counted)
        if wanted is not None:
            rows = rows.where(counted.c.serial.in_(wanted))
        for serial, units in connection.execute(rows):
            if units:
                used[serial] = used.get(serial, 0) + units
    return used


def _guest_units(now: datetime) -> Select[tuple[str, int]]:
    since = now - WINDOW
    licensed_as = func.coalesce(_guests.c.os_class, OsClass.SERVER.name)
    present = (
        select(_held.c.serial, _guests.c.instance_uuid)
        .join(_guests, _guests.c.svm_id == _held.c.svm_id)
        .where(
            _held.c.role == Role.ACTIVE.name,
            _held.c.type == licensed_as,
            _guests.c.counted,
            or_(_guests.c.last_protected_at.is_(None), _guests.c.last_protected_at > since),
        )
    )
    past = select(_protections.c.serial, _protections.c.instance_uuid).where(
        _protections.c.last_protected_at > since
    )
    both = union(present, past).subquery()
    return select(both.c.serial, func.count()).group_by(both.c.serial)


def _nameless_units() -> Select[tuple[str, int]]:
    servers = _svms.c.servers + _svms.c.unknown
    count = case((_held.c.type == KeyType.SERVER.name, servers), else_=_svms.c.desktops)
    return (
        select(_held.c.serial, func.sum(count))
        .join(_svms, _svms.c.id == _held.c.svm_id)
        .outerjoin(_listers, _listers.c.svm_id == _held.c.svm_id)
        .where(
            _held.c.role == Role.ACTIVE.name,
            _held.c.type.in_((KeyType.SERVER.name, KeyType.DESKTOP.name)),
            _listers.c.svm_id.is_(None),
        )
        .group_by(_held.c.serial)
    )


def _host_units() -> Select[tuple[str, int]]:
    size = case((_held.c.type == KeyType.CORES.name, _svms.c.cores), else_=_svms.c.processors)
    host = case((_svms.c.host_uuid == "", "svm " + _svms.c.id), else_=_svms.c.host_uuid)
    hosts = (
        select(_held.c.serial, host.label("host"), func.max(size).label("size"))
        .join(_svms, _svms.c.id == _held.c.svm_id)
        .where(
            and_(
                _held.c.role == Role.ACTIVE.name,
                _held.c.type.in_((KeyType.CORES.name, KeyType.PROCESSORS.name)),
            )
        )
        .group_by(_held.c.serial, host)
        .subquery()
    )
    return select(hosts.c.serial, func.sum(hosts.c.size)).group_by(hosts.c.serial)

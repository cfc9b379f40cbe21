"""The key storage's rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, insert, or_, select, update

from sparekey.licensing.keyring import Role
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.server.store import schema
from sparekey.server.store.bulk import Lookup, read_instant, read_set_instant
from sparekey.server.store.transaction import batches

_keys = schema.keys
_held = schema.held_keys


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key with what the storage knows of it.

    Attributes:
        key: The key.
        key_file: Its signed form.
        added_at: When it came into the storage.
        blocked_at: When the server learned that it is blocked.
        code_ending: The last five characters of its activation code.
        renews_serial: The key that it renewed, where it came by a renewal.
        renewal_tried_at: When its one renewal by code was tried (R88).
        in_storage: False: kept only for the SVMs that run on it (R98).
    """

    key: LicenseKey
    key_file: bytes
    added_at: datetime
    blocked_at: datetime | None = None
    code_ending: str = ""
    renews_serial: str | None = None
    renewal_tried_at: datetime | None = None
    in_storage: bool = True

    @property
    def blocked(self) -> bool:
        """Whether the key is known to be blocked."""
        return self.blocked_at is not None


@dataclass(frozen=True, slots=True)
class KeyUse:
    """On how many SVMs a key is held, by their last reports."""

    active: int = 0
    reserve: int = 0


_BY_SERIAL = Lookup(select(_keys).where(_keys.c.serial.in_(bindparam("values", expanding=True))))


def load_keys(connection: Connection, serials: Iterable[str]) -> dict[str, StoredKey]:
    """The keys with these serials, in the storage or only kept."""
    return {row[0]: _stored(row) for row in _BY_SERIAL.rows(connection, serials)}


def load_key_files(connection: Connection, serials: Iterable[str]) -> dict[str, bytes]:
    """The signed forms of the keys with these serials."""
    found: dict[str, bytes] = {}
    for batch in batches(sorted(set(serials))):
        query = select(_keys.c.serial, _keys.c.key_file).where(_keys.c.serial.in_(batch))
        found.update((serial, key_file) for serial, key_file in connection.execute(query))
    return found


def insert_key(connection: Connection, stored: StoredKey) -> None:
    """Add a key that has no row yet."""
    connection.execute(insert(_keys).values(_values(stored)))


def change_key(connection: Connection, serial: str, **columns: Any) -> None:
    """Change columns of one key."""
    connection.execute(update(_keys).where(_keys.c.serial == serial).values(**columns))


def page_of_keys(
    connection: Connection, after: tuple[datetime | None, str] | None, size: int
) -> list[StoredKey]:
    """Keys in the storage by expiry, then serial (R100); those without end come last."""
    query = select(_keys.c.serial).where(_keys.c.in_storage)
    if after is not None:
        expires_at, serial = after
        if expires_at is None:
            query = query.where(_keys.c.expires_at.is_(None), _keys.c.serial > serial)
        else:
            query = query.where(
                or_(
                    _keys.c.expires_at.is_(None),
                    _keys.c.expires_at > expires_at,
                    and_(_keys.c.expires_at == expires_at, _keys.c.serial > serial),
                )
            )
    ordered = query.order_by(_keys.c.expires_at.asc().nulls_last(), _keys.c.serial)
    return _in_order(connection, list(connection.scalars(ordered.limit(size))))


def key_use(connection: Connection, serials: Iterable[str]) -> Mapping[str, KeyUse]:
    """On how many SVMs each key is held; keys that no SVM holds are absent."""
    counts: dict[str, dict[str, int]] = {}
    for batch in batches(sorted(set(serials))):
        query = (
            select(_held.c.serial, _held.c.role, func.count())
            .where(_held.c.serial.in_(batch))
            .group_by(_held.c.serial, _held.c.role)
        )
        for serial, role, count in connection.execute(query):
            counts.setdefault(serial, {})[role] = count
    return {
        serial: KeyUse(roles.get(Role.ACTIVE.name, 0), roles.get(Role.RESERVE.name, 0))
        for serial, roles in counts.items()
    }


def serials_to_check(connection: Connection) -> Sequence[str]:
    """Keys in the storage or on an SVM that are not known to be blocked."""
    held = select(_held.c.serial)
    query = select(_keys.c.serial).where(
        _keys.c.blocked_at.is_(None), or_(_keys.c.in_storage, _keys.c.serial.in_(held))
    )
    return list(connection.scalars(query.order_by(_keys.c.serial)))


def _renewable() -> Any:
    active = select(_held.c.serial).where(_held.c.role == Role.ACTIVE.name)
    return and_(
        _keys.c.origin == KeyOrigin.ACTIVATION_CODE.name,
        _keys.c.kind == KeyKind.COMMERCIAL.name,
        _keys.c.renewal_tried_at.is_(None),
        _keys.c.blocked_at.is_(None),
        _keys.c.serial.in_(active),
    )


def next_renewal_due(connection: Connection) -> datetime | None:
    """When the next key that came by code and is in use ends (R16)."""
    due: datetime | None = connection.scalar(
        select(_keys.c.expires_at)
        .where(_renewable(), _keys.c.expires_at.is_not(None))
        .order_by(_keys.c.expires_at)
        .limit(1)
    )
    return due


def keys_to_renew(connection: Connection, now: datetime) -> list[StoredKey]:
    """Keys that came by code, have ended while in use, and were not tried yet (R16, R88)."""
    query = select(_keys.c.serial).where(_renewable(), _keys.c.expires_at <= now)
    return _in_order(connection, list(connection.scalars(query.order_by(_keys.c.expires_at))))


def renewed_serials(connection: Connection) -> set[str]:
    """The keys that have a successor, by code or by their subscription."""
    query = select(_keys.c.renews_serial).where(_keys.c.renews_serial.is_not(None))
    return set(connection.scalars(query))


def newest_successor(connection: Connection, serial: str) -> str:
    """The last of the keys that renewed each other from this one on; itself, if none did."""
    seen = {serial}
    while True:
        found = connection.scalar(
            select(_keys.c.serial)
            .where(_keys.c.renews_serial == serial, _keys.c.in_storage)
            .order_by(_keys.c.added_at.desc(), _keys.c.serial)
            .limit(1)
        )
        if found is None or found in seen:
            return serial
        seen.add(found)
        serial = found


def _in_order(connection: Connection, serials: Sequence[str]) -> list[StoredKey]:
    found = load_keys(connection, serials)
    return [found[serial] for serial in serials]


def _values(stored: StoredKey) -> dict[str, Any]:
    key = stored.key
    return {
        "serial": key.serial,
        "type": key.type.name,
        "kind": key.kind.name,
        "edition": key.edition.name,
        "origin": key.origin.name,
        "unit_limit": key.unit_limit,
        "not_before": key.not_before,
        "expires_at": key.expires_at,
        "key_file": stored.key_file,
        "added_at": stored.added_at,
        "blocked_at": stored.blocked_at,
        "code_ending": stored.code_ending,
        "renews_serial": stored.renews_serial,
        "renewal_tried_at": stored.renewal_tried_at,
        "in_storage": stored.in_storage,
    }


def _stored(row: Sequence[Any]) -> StoredKey:
    """A key from a row as the driver gives it."""
    (
        serial,
        key_type,
        kind,
        edition,
        origin,
        unit_limit,
        not_before,
        expires_at,
        key_file,
        added_at,
        blocked_at,
        code_ending,
        renews_serial,
        renewal_tried_at,
        in_storage,
    ) = row
    return StoredKey(
        key=LicenseKey(
            serial=serial,
            type=KeyType[key_type],
            kind=KeyKind[kind],
            edition=Edition[edition],
            origin=KeyOrigin[origin],
            unit_limit=unit_limit,
            not_before=read_set_instant(not_before),
            expires_at=read_instant(expires_at),
        ),
        key_file=key_file,
        added_at=read_set_instant(added_at),
        blocked_at=read_instant(blocked_at),
        code_ending=code_ending,
        renews_serial=renews_serial,
        renewal_tried_at=read_instant(renewal_tried_at),
        in_storage=bool(in_storage),
    )

"""What was told of each key: expiry notices (R93) and bands of usage (R92)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, and_, exists, or_, select
from sqlalchemy.dialects import sqlite

from sparekey.licensing.bands import Band, BandTold
from sparekey.server.store import schema
from sparekey.server.store.transaction import batches

_tellings = schema.key_tellings
_keys = schema.keys
_held = schema.held_keys
_subscriptions = schema.subscriptions
_MAY_BE_TOLD = and_(
    _keys.c.blocked_at.is_(None),
    or_(_keys.c.in_storage, exists().where(_held.c.serial == _keys.c.serial)),
)


@dataclass(frozen=True, slots=True)
class EndingKey:
    """A key in the storage or on an SVM that is not blocked, and what was told of its end.

    Attributes:
        serial: The key.
        expires_at: Its end; None for none.
        added_at: When it came in; nothing is told of the time before.
        noticed_end: The end that the last notice was about.
        noticed_days: The days that it told.
    """

    serial: str
    expires_at: datetime | None
    added_at: datetime
    noticed_end: datetime | None
    noticed_days: int | None


def ending_keys(connection: Connection, until: datetime) -> list[EndingKey]:
    """The keys of which an end up to an instant may be told, but those whose very end was.

    Those of known subscriptions are all among them: these end when their providers say.
    """
    columns = (_keys.c.serial, _keys.c.expires_at, _keys.c.added_at)
    query = (
        select(*columns, _tellings.c.noticed_end, _tellings.c.noticed_days)
        .outerjoin(_tellings, _tellings.c.serial == _keys.c.serial)
        .where(
            _MAY_BE_TOLD,
            or_(
                and_(
                    _keys.c.expires_at <= until,
                    or_(
                        _tellings.c.noticed_end.is_(None),
                        _tellings.c.noticed_end != _keys.c.expires_at,
                        _tellings.c.noticed_days > 0,
                    ),
                ),
                _keys.c.serial.in_(select(_subscriptions.c.serial)),
            ),
        )
    )
    return [EndingKey(*row) for row in connection.execute(query.order_by(_keys.c.serial))]


def first_end_after(connection: Connection, instant: datetime) -> datetime | None:
    """The first end after an instant that a key itself has."""
    query = select(_keys.c.expires_at).where(_keys.c.expires_at > instant, _MAY_BE_TOLD)
    first: datetime | None = connection.scalar(query.order_by(_keys.c.expires_at).limit(1))
    return first


def note_notice(connection: Connection, serial: str, end: datetime, days: int) -> None:
    """Note that a notice was given."""
    _save(connection, serial, noticed_end=end, noticed_days=days)


def load_bands(connection: Connection, serials: Iterable[str]) -> dict[str, BandTold]:
    """The bands told last; keys of which none was told are absent."""
    found: dict[str, BandTold] = {}
    for batch in batches(sorted(set(serials))):
        query = select(_tellings).where(_tellings.c.serial.in_(batch))
        for row in connection.execute(query):
            day = None if row.band_day is None else date.fromordinal(row.band_day)
            found[row.serial] = BandTold(Band(row.band), day)
    return found


def note_band(connection: Connection, serial: str, told: BandTold) -> None:
    """Note which band was told, and when."""
    day = None if told.day is None else told.day.toordinal()
    _save(connection, serial, band=int(told.band), band_day=day)


def _save(connection: Connection, serial: str, **values: Any) -> None:
    statement = sqlite.insert(_tellings).values(serial=serial, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=("serial",), set_=values))


def banded_keys(connection: Connection) -> list[str]:
    """The keys of which a band above none was told last."""
    return list(connection.scalars(select(_tellings.c.serial).where(_tellings.c.band > 0)))

"""How far the server's clock has ever come, so that one which was set back is noticed (R82)."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from sparekey.server.store.facts import read_fact, write_fact

ROLLBACK = timedelta(minutes=5)
"""A clock that is behind its mark by more than this was set back."""

_MARK = "clock_high_water"
_TOLD = "clock_rollback_told"
_CHECKED = "limits_checked_at"


def high_water(connection: Connection) -> datetime | None:
    """The latest instant that the clock was seen at; None before the first."""
    return _read(connection, _MARK)


def raise_high_water(connection: Connection, now: datetime) -> None:
    """Note how far the clock has come; it never goes back."""
    known = high_water(connection)
    if known is None or known < now:
        write_fact(connection, _MARK, now.isoformat())


def clock_went_back(connection: Connection, now: datetime) -> datetime | None:
    """The mark that the clock is more than five minutes behind; None where it is not."""
    known = high_water(connection)
    return known if known is not None and known - now > ROLLBACK else None


def rollback_told(connection: Connection) -> bool:
    """Whether the history says already that the clock went back."""
    return read_fact(connection, _TOLD) == "yes"


def note_rollback_told(connection: Connection, *, told: bool) -> None:
    """Note whether the history says so."""
    write_fact(connection, _TOLD, "yes" if told else "no")


def limits_checked_at(connection: Connection) -> datetime | None:
    """When usage was compared with limits last (R65)."""
    return _read(connection, _CHECKED)


def note_limits_checked(connection: Connection, now: datetime) -> None:
    """Note that it was now."""
    write_fact(connection, _CHECKED, now.isoformat())


def _read(connection: Connection, name: str) -> datetime | None:
    value = read_fact(connection, name)
    return datetime.fromisoformat(value) if value else None

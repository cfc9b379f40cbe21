"""The daily comparison of usage with limits (R63-R66, R92); it tells and never blocks."""

from __future__ import annotations

from collections.abc import Sequence

from sparekey.licensing.bands import Band, BandTold, band_of, is_to_be_told
from sparekey.server.store.clock import note_limits_checked
from sparekey.server.store.guests import forget_protections, units_in_use
from sparekey.server.store.keys import StoredKey, load_keys
from sparekey.server.store.tellings import banded_keys, load_bands, note_band
from sparekey.server.store.transaction import Transaction
from sparekey.v1 import event_pb2

ACTOR = "server"

_SEVERITIES = {
    Band.INFO: event_pb2.SEVERITY_INFO,
    Band.WARNING: event_pb2.SEVERITY_WARNING,
    Band.CRITICAL: event_pb2.SEVERITY_CRITICAL,
}


def check_limits(transaction: Transaction, requests: Sequence[None]) -> list[None]:
    """Tell of every key whose usage came into another band; once a UTC day for each (R92)."""
    connection, now = transaction.connection, transaction.now
    used = units_in_use(connection, now)
    concerned = used.keys() | set(banded_keys(connection))
    told = load_bands(connection, concerned)
    for serial, stored in sorted(load_keys(connection, concerned).items()):
        # Of a key that no longer works there is worse to tell than that it is full.
        if stored.blocked or stored.key.has_expired_at(now):
            continue
        units = used.get(serial, 0)
        band = band_of(units, stored.key.unit_limit)
        if is_to_be_told(told.get(serial, BandTold()), band, now.date()):
            _tell(transaction, stored, units, band)
            note_band(connection, serial, BandTold(band, now.date()))
    forget_protections(connection, now)
    note_limits_checked(connection, now)
    return list(requests)


def _tell(transaction: Transaction, stored: StoredKey, units: int, band: Band) -> None:
    key = stored.key
    share = f"{units} of the {key.unit_limit} units of key {key.serial} are in use"
    if band is Band.NONE:
        transaction.add_event(
            event_pb2.EVENT_KIND_LIMIT_OK,
            f"{share}: below nine tenths again.",
            actor=ACTOR,
            serial=key.serial,
            severity=event_pb2.SEVERITY_INFO,
            units_used=units,
            unit_limit=key.unit_limit,
        )
        return
    advice = "" if band is Band.INFO else " Get more units, or take guests off; nothing is stopped."
    transaction.add_event(
        event_pb2.EVENT_KIND_LIMIT_BAND,
        f"{share}.{advice}",
        actor=ACTOR,
        serial=key.serial,
        severity=_SEVERITIES[band],
        units_used=units,
        unit_limit=key.unit_limit,
    )

"""What the server and the slow model must agree on at each step of a year."""

from __future__ import annotations

from typing import Any

from sparekey.licensing.modes import mode_at
from sparekey.licensing.settling import settle
from sparekey.licensing.status import reasons_at, worst_of
from sparekey.server.fleet.messages import svm_message
from sparekey.server.life.terms import Terms, load_terms
from sparekey.server.store.guests import units_in_use
from sparekey.server.store.reader import Connection
from sparekey.server.store.svms import SvmRecord, load_svms
from sparekey.v1 import fleet_pb2

from .year_server import instant, slots_of
from .year_sides import YearSides


async def compare(year: YearSides) -> None:
    """Every SVM's keys, mode and status, the units in use, and all that was told."""
    model, hour, now = year.model, year.hour, instant(year.hour)
    records, terms, units = await year.server.reader.read(_look, sorted(model.svms), now)
    for name, svm in model.svms.items():
        svm.live(hour)
        record = records[name]
        held = {
            (kind, role): (one.key.serial, one.blocked is not None)
            for role, some in (("ACTIVE", svm.active), ("RESERVE", svm.reserve))
            for kind, one in some.items()
        }
        where = (hour, name, svm.cluster)
        settled = settle(record.keyring, now).keyring
        assert slots_of(settled) == held, (where, slots_of(settled), held)
        if svm.online:
            assert year.server.svms[name].keyring == record.keyring, where
        mode = mode_at(
            record.keyring,
            now,
            block_graces=terms.block_graces,
            subscriptions=terms.subscriptions,
            void=svm.void,
        )
        assert (name in terms.void_svms) == svm.void, where
        assert mode.name == model.mode(svm, hour), where
        reasons = reasons_at(
            record.keyring,
            record.guests,
            now,
            last_seen_at=record.last_seen_at,
            connected=svm.online,
            subscriptions=terms.subscriptions,
            void=svm.void,
        )
        given = {one.name for one in reasons}
        assert given == model.status(svm, hour), (where, model.status(svm, hour))
        year.seen[f"mode {mode.name}"] += 1
        year.seen.update(one.name for one in reasons)
    sample = year.rng.choice(sorted(model.svms))
    shown = svm_message(records[sample], now, connected=True, waiting=0, terms=terms)
    reasons = reasons_at(
        records[sample].keyring,
        records[sample].guests,
        now,
        last_seen_at=now,
        subscriptions=terms.subscriptions,
        void=sample in terms.void_svms,
    )
    assert fleet_pb2.SvmStatus.Name(shown.status) == f"SVM_STATUS_{worst_of(reasons).name}"
    assert units == (counted := model.units(hour)), (hour, units, counted)
    told = await year.server.new_events()
    assert told == model.events, (hour, told - model.events, model.events - told)
    year.seen.update(event[0] for event in told.elements())
    year.seen.update(f"{one[0]} {one[2]}" for one in told.elements() if one[0] != "PROMOTED")
    model.events.clear()


def _look(
    connection: Connection, names: list[str], now: Any
) -> tuple[dict[str, SvmRecord], Terms, dict[str, int]]:
    return load_svms(connection, names), load_terms(connection), units_in_use(connection, now)

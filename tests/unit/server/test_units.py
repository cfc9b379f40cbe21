"""The database counts licensing units as the rules do (R67, R91)."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from sparekey.licensing.guests import GuestMix, HostCpu, OsClass
from sparekey.licensing.keyring import EMPTY, HeldKey, Keyring, Role, Slot
from sparekey.licensing.keys import KeyType, Scheme
from sparekey.licensing.units import WINDOW, Guest, Protection, Protector, units_used
from sparekey.server.store.guests import save_guests, save_protections, units_in_use
from sparekey.server.store.svms import SvmRecord, save_keyrings, save_svms
from sparekey.server.store.transaction import Transaction

from .world import NOW, World, make_key

KEYS = [make_key(number, key_type) for number, key_type in enumerate([*KeyType, *KeyType], 1)]
SERIALS = st.sampled_from([key.serial for key in KEYS])
# Guests are remembered for keys that count them, and for no others.
PER_VM = st.sampled_from([key.serial for key in KEYS if key.type.scheme is Scheme.PER_VM])
VMS = st.sampled_from([f"vm-{number}" for number in range(6)])
SMALL = st.integers(0, 3)
# Around the edge of what still counts, to the microsecond.
AGES = [timedelta(0), WINDOW - timedelta(microseconds=1), WINDOW, timedelta(days=31)]
INSTANTS = st.sampled_from(AGES).map(lambda age: NOW - age)


@st.composite
def keyrings(draw: st.DrawFn) -> Keyring:
    """Active keys of some types, and perhaps reserves, which use nothing."""
    slots = {}
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=3)):
        slots[Slot(key.type, draw(st.sampled_from(Role)))] = HeldKey(key, NOW)
    return Keyring(slots)


@st.composite
def guest_lists(draw: st.DrawFn) -> tuple[Guest, ...]:
    uuids = draw(st.lists(VMS, unique=True, max_size=4))
    classes, seen = st.none() | st.sampled_from(OsClass), st.none() | INSTANTS
    return tuple(
        Guest(uuid, draw(classes), draw(seen), counted=draw(st.booleans())) for uuid in uuids
    )


@st.composite
def fleets(draw: st.DrawFn) -> list[Protector]:
    return [
        Protector(
            f"svm-{number}",
            draw(keyrings()),
            GuestMix(draw(SMALL), draw(SMALL), draw(SMALL)),
            draw(st.none() | guest_lists()),
            draw(st.sampled_from(["", "host-1", "host-2"])),
            HostCpu(draw(SMALL), draw(SMALL)),
        )
        for number in range(draw(st.integers(0, 5)))
    ]


def save(
    transaction: Transaction, requests: list[tuple[list[Protector], list[Protection]]]
) -> list[None]:
    connection = transaction.connection
    for fleet, past in requests:
        records = [
            SvmRecord(
                svm.svm_id,
                NOW,
                NOW,
                guests=svm.mix,
                host_uuid=svm.host_uuid,
                host_cpu=svm.host_cpu,
                keyring=svm.keyring,
            )
            for svm in fleet
        ]
        save_svms(connection, records)
        save_keyrings(connection, ((record, EMPTY) for record in records))
        save_guests(connection, {one.svm_id: one.guests for one in fleet if one.guests is not None})
        save_protections(connection, past)
    return [None] * len(requests)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    fleet=fleets(),
    past=st.lists(st.builds(Protection, PER_VM, VMS, INSTANTS), max_size=5),
    asked=st.sets(SERIALS),
)
def test_R67_R91_the_database_counts_units_as_the_rules_do(
    shared_engine: Engine, fleet: list[Protector], past: list[Protection], asked: set[str]
) -> None:
    world = World(shared_engine)
    world.clear()
    world.write(save, (fleet, past))
    counted = units_used(fleet, past, NOW)
    assert world.read(units_in_use, NOW) == counted
    some = {serial: units for serial, units in counted.items() if serial in asked}
    assert world.read(units_in_use, NOW, asked) == some

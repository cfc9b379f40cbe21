"""Counting units over the fleet."""

from collections.abc import Callable
from datetime import datetime, timedelta

from sparekey.licensing.guests import GuestMix, HostCpu, OsClass
from sparekey.licensing.keyring import Keyring
from sparekey.licensing.keys import KeyType, LicenseKey
from sparekey.licensing.units import Guest, Protection, Protector, units_used

MakeKey = Callable[..., LicenseKey]
MakeKeyring = Callable[..., Keyring]
At = Callable[[float], datetime]
MICROSECOND = timedelta(microseconds=1)
SERVER, DESKTOP = OsClass


def test_R67_R91_each_vm_counts_once_for_its_key_over_all_svms(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    key, other = make_key(), make_key()
    moved = Guest("vm-1", SERVER)
    fleet = [
        Protector("a", keyring_of([key]), guests=(moved, Guest("vm-2", SERVER))),
        Protector("b", keyring_of([key]), guests=(moved, Guest("vm-3", SERVER))),
        Protector("c", keyring_of([other]), guests=(moved,)),
    ]
    assert units_used(fleet, (), at(0)) == {key.serial: 3, other.serial: 1}


def test_R91_an_unknown_system_counts_as_a_server_and_desktops_have_their_own_key(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    server, desktop = make_key(), make_key(KeyType.DESKTOP)
    guests = (Guest("vm-1", None), Guest("vm-2", SERVER), Guest("vm-3", DESKTOP))
    fleet = [Protector("a", keyring_of([server, desktop]), guests=guests)]
    assert units_used(fleet, (), at(0)) == {server.serial: 2, desktop.serial: 1}


def test_R68_R91_a_vm_counts_for_thirty_days_after_it_was_protected_last(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    key = make_key()
    off = Guest("vm-1", SERVER, last_protected_at=at(0))
    fleet = [Protector("a", keyring_of([key]), guests=(off,))]
    assert units_used(fleet, (), at(30) - MICROSECOND) == {key.serial: 1}
    assert units_used(fleet, (), at(30)) == {}
    gone = Protection(key.serial, "vm-2", at(0))
    assert units_used((), [gone], at(30) - MICROSECOND) == {key.serial: 1}
    assert units_used((), [gone], at(30)) == {}
    again = Protection(key.serial, "vm-1", at(0))
    assert units_used(fleet, [again, gone], at(1)) == {key.serial: 2}


def test_R68_R69_excluded_vms_templates_and_service_vms_do_not_count(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    key = make_key()
    guests = (Guest("vm-1", SERVER, counted=False), Guest("vm-2", SERVER))
    assert units_used([Protector("a", keyring_of([key]), guests=guests)], (), at(0)) == {
        key.serial: 1
    }


def test_R91_where_only_counts_are_known_each_guest_is_one(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    server, desktop = make_key(), make_key(KeyType.DESKTOP)
    keyring = keyring_of([server, desktop])
    fleet = [
        Protector("a", keyring, mix=GuestMix(2, 1, 1)),
        Protector("b", keyring, mix=GuestMix(9, 9, 9), guests=(Guest("vm-1", SERVER),)),
    ]
    assert units_used(fleet, (), at(0)) == {server.serial: 4, desktop.serial: 1}


def test_R67_R91_a_host_counts_once_also_with_two_svms(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    cores, processors = make_key(KeyType.CORES), make_key(KeyType.PROCESSORS)
    cpu = HostCpu(processors=2, cores=32)
    fleet = [
        Protector("a", keyring_of([cores]), host_uuid="host-1", host_cpu=cpu),
        Protector("b", keyring_of([cores]), host_uuid="host-1", host_cpu=cpu),
        Protector("c", keyring_of([cores]), host_cpu=HostCpu(1, 8)),
        Protector("d", keyring_of([cores]), host_cpu=HostCpu(1, 8)),
        Protector("e", keyring_of([processors]), host_uuid="host-2", host_cpu=cpu),
    ]
    assert units_used(fleet, (), at(0)) == {cores.serial: 48, processors.serial: 2}


def test_R91_a_reserve_uses_no_unit(make_key: MakeKey, keyring_of: MakeKeyring, at: At) -> None:
    active, reserve = make_key(), make_key(ends=60)
    fleet = [Protector("a", keyring_of([active], [reserve]), guests=(Guest("vm-1", SERVER),))]
    assert units_used(fleet, (), at(0)) == {active.serial: 1}

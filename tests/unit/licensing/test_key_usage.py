"""The usage report: who counts, and in which order it is shown."""

from sparekey.licensing.forecast import SvmSituation
from sparekey.licensing.guests import GuestMix, HostCpu
from sparekey.licensing.key_usage import count_holdings, usage_rows
from sparekey.licensing.keyring import HeldKey, Keyring, Role, Slot
from sparekey.licensing.keys import KeyKind, KeyType, LicenseKey

from .random_fleets import NOW, day, key


def svm(name: str, active: LicenseKey, *, reserve: LicenseKey | None = None) -> SvmSituation:
    held = {Slot(active.type, Role.ACTIVE): HeldKey(active, NOW)}
    if reserve:
        held[Slot(reserve.type, Role.RESERVE)] = HeldKey(reserve, NOW)
    return SvmSituation(
        name, Keyring(held), GuestMix(3, 4, 2), host_uuid="host-1", host_cpu=HostCpu(2, 16)
    )


def test_R67_R91_a_key_per_vm_counts_the_guests_of_its_class() -> None:
    servers, desktops = key(1), key(2, KeyType.DESKTOP)
    counted = count_holdings([svm("a", servers), svm("b", servers), svm("c", desktops)])
    assert counted.units_used == {servers.serial: 10, desktops.serial: 4}
    assert counted.active_svms == {servers.serial: 2, desktops.serial: 1}


def test_R67_R91_a_host_with_two_svms_counts_once() -> None:
    cores, processors = key(1, KeyType.CORES), key(2, KeyType.PROCESSORS)
    counted = count_holdings(
        [svm("a", cores), svm("b", cores), svm("c", processors), svm("d", processors)]
    )
    assert counted.units_used == {cores.serial: 16, processors.serial: 2}


def test_R91_a_reserve_uses_nothing_and_keeps_its_units_from_others() -> None:
    active, reserve = key(1, ends=10), key(2, ends=90, units=7)
    counted = count_holdings([svm("a", active, reserve=reserve)])
    (_, row) = usage_rows([reserve, active], counted, NOW)
    assert (row.key, row.units_used, row.reserve_svms) == (reserve, 0, 1)
    assert (row.units_reserved, row.spare_units) == (5, 2)


def test_R100_rows_come_by_expiry_then_serial_and_keys_without_end_last() -> None:
    endless = key(1, kind=KeyKind.SUBSCRIPTION, ends=None)
    keys = [endless, key(5, ends=9), key(4, ends=9), key(9, ends=2)]
    rows = usage_rows(keys, count_holdings([]), NOW)
    assert [row.key.serial[:4] for row in rows] == ["0009", "0004", "0005", "0001"]


def test_R74_R100_units_over_the_limit_and_days_left() -> None:
    over, ended = key(1, ends=1.5, units=3), key(2, ends=-2)
    gone, row = usage_rows([over, ended], count_holdings([svm("a", over)]), day(0))
    assert (row.units_used, row.units_over, row.spare_units, row.days_left) == (5, 2, 0, 2)
    assert gone.days_left == -2

"""How many licensing units each key uses, over the whole fleet (R67, R68, R91)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sparekey.licensing.guests import GuestMix, HostCpu, OsClass
from sparekey.licensing.keyring import Keyring
from sparekey.licensing.keys import KeyType

WINDOW = timedelta(days=30)
"""How long a guest counts after it was protected last: exactly 30 times 24 hours (R91)."""


@dataclass(frozen=True, slots=True)
class Guest:
    """One guest VM beside an SVM, told apart by its instance UUID.

    `os_class` is None where the system is unknown; it counts as a server. `last_protected_at` is
    None while the guest runs protected. `counted` is False for templates, SVMs, service VMs and
    excluded VMs (R69).
    """

    instance_uuid: str
    os_class: OsClass | None
    last_protected_at: datetime | None = None
    counted: bool = True

    @property
    def licensed_as(self) -> OsClass:
        """The class under which the guest takes a unit: servers, if unknown (R91)."""
        return self.os_class or OsClass.SERVER


@dataclass(frozen=True, slots=True)
class Protection:
    """That a guest was protected under a key which no longer covers it where it is now."""

    serial: str
    instance_uuid: str
    last_protected_at: datetime


@dataclass(frozen=True, slots=True)
class Protector:
    """An SVM as counting sees it.

    `guests` is None where the SVM reports counts alone: then each of them is one unit of this SVM,
    since nothing tells a guest that moved from two guests. An empty `host_uuid` is a host of its
    own.
    """

    svm_id: str
    keyring: Keyring
    mix: GuestMix = field(default_factory=GuestMix)
    guests: tuple[Guest, ...] | None = None
    host_uuid: str = ""
    host_cpu: HostCpu = field(default_factory=lambda: HostCpu(0, 0))


_CLASS_OF = {KeyType.SERVER: OsClass.SERVER, KeyType.DESKTOP: OsClass.DESKTOP}


def was_protected(last_protected_at: datetime | None, now: datetime) -> bool:
    """Whether a guest is protected, or was less than 30 days ago, powered on or not (R68)."""
    return last_protected_at is None or now - last_protected_at < WINDOW


def units_used(
    fleet: Iterable[Protector], past: Iterable[Protection], now: datetime
) -> dict[str, int]:
    """The units of each key that uses any. Reserve keys use none.

    A guest counts once for each key, a host once for each key, however many SVMs protect it.
    """
    guests: dict[str, set[str]] = {}
    hosts: dict[str, dict[str, int]] = {}
    nameless: dict[str, int] = {}
    for svm in fleet:
        for held in svm.keyring.actives():
            serial, key_type = held.key.serial, held.key.type
            if key_type in _CLASS_OF:
                os_class = _CLASS_OF[key_type]
                if svm.guests is None:
                    nameless[serial] = nameless.get(serial, 0) + svm.mix.count(os_class)
                    continue
                guests.setdefault(serial, set()).update(
                    guest.instance_uuid
                    for guest in svm.guests
                    if guest.counted
                    and guest.licensed_as is os_class
                    and was_protected(guest.last_protected_at, now)
                )
            else:
                cpu = svm.host_cpu
                size = cpu.cores if key_type is KeyType.CORES else cpu.processors
                host = svm.host_uuid or f"svm {svm.svm_id}"
                of_key = hosts.setdefault(serial, {})
                of_key[host] = max(size, of_key.get(host, 0))
    for one in past:
        if was_protected(one.last_protected_at, now):
            guests.setdefault(one.serial, set()).add(one.instance_uuid)
    used = {serial: len(uuids) for serial, uuids in guests.items()}
    for serial, count in nameless.items():
        used[serial] = used.get(serial, 0) + count
    used.update((serial, sum(sizes.values())) for serial, sizes in hosts.items())
    return {serial: count for serial, count in used.items() if count}

"""How much of each key is used: the rows of the usage report (R74f, R100).

How units are counted and how they are shown are apart: the rows take a mapping of serials to units
used, whoever counted them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sparekey.licensing.forecast import SvmSituation
from sparekey.licensing.guests import OsClass
from sparekey.licensing.keyring import Role
from sparekey.licensing.keys import KeyType, LicenseKey

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One key in the report. Units are VMs, physical cores or processors by the key's type.

    `active_svms` and `reserve_svms` are numbers of SVMs. `days_left` is rounded up and 0 or less
    after the end (R93); None for a key without end.
    """

    key: LicenseKey
    units_used: int
    units_over: int
    active_svms: int
    reserve_svms: int
    units_reserved: int
    days_left: int | None

    @property
    def spare_units(self) -> int:
        """What is left of the limit when each reserve has taken over; 0 if nothing is."""
        return max(0, self.key.unit_limit - self.units_used - self.units_reserved)


@dataclass(frozen=True, slots=True)
class Holdings:
    """Which keys are held: numbers of SVMs and units by serial, as active and as reserve keys."""

    active_svms: Mapping[str, int]
    reserve_svms: Mapping[str, int]
    units_used: Mapping[str, int]
    units_reserved: Mapping[str, int]


def count_holdings(svms: Iterable[SvmSituation]) -> Holdings:
    """Count over the whole fleet by what the SVMs report now (R67).

    A key per VM counts the guests of its class on each SVM, unknown ones as servers (R91); a key
    per core or processor counts each host once, however many SVMs run beside it (R91). Reserve
    keys use nothing (R91); what they will use is counted apart.
    """
    svms_by: dict[Role, dict[str, int]] = {role: {} for role in Role}
    units_by: dict[Role, dict[str, int]] = {role: {} for role in Role}
    counted_hosts: set[tuple[str, Role, str]] = set()
    for svm in svms:
        for slot, held in svm.keyring.slots.items():
            serial, role = held.key.serial, slot.role
            svms_by[role][serial] = svms_by[role].get(serial, 0) + 1
            if slot.type in (KeyType.CORES, KeyType.PROCESSORS):
                host = (serial, role, svm.host_uuid or svm.svm_id)
                if host in counted_hosts:
                    continue
                counted_hosts.add(host)
            units_by[role][serial] = units_by[role].get(serial, 0) + _units(svm, slot.type)
    return Holdings(
        svms_by[Role.ACTIVE],
        svms_by[Role.RESERVE],
        units_by[Role.ACTIVE],
        units_by[Role.RESERVE],
    )


def _units(svm: SvmSituation, key_type: KeyType) -> int:
    match key_type:
        case KeyType.SERVER:
            return svm.guests.count(OsClass.SERVER)
        case KeyType.DESKTOP:
            return svm.guests.count(OsClass.DESKTOP)
        case KeyType.CORES:
            return svm.host_cpu.cores
        case KeyType.PROCESSORS:
            return svm.host_cpu.processors


def usage_rows(keys: Iterable[LicenseKey], holdings: Holdings, now: datetime) -> list[UsageRow]:
    """The report's rows by expiry, then serial; keys without end come last (R100)."""
    rows = []
    for key in keys:
        used = holdings.units_used.get(key.serial, 0)
        left = None if key.expires_at is None else -((now - key.expires_at) // _DAY)
        rows.append(
            UsageRow(
                key,
                units_used=used,
                units_over=max(0, used - key.unit_limit),
                active_svms=holdings.active_svms.get(key.serial, 0),
                reserve_svms=holdings.reserve_svms.get(key.serial, 0),
                units_reserved=holdings.units_reserved.get(key.serial, 0),
                days_left=left,
            )
        )
    return sorted(rows, key=_report_order)


def _report_order(row: UsageRow) -> tuple[bool, float, str]:
    expires_at = row.key.expires_at
    return (expires_at is None, expires_at.timestamp() if expires_at else 0, row.key.serial)

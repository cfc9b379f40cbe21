"""Licensing values and their messages agree, value by value."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from sparekey.licensing.advice import Advice
from sparekey.licensing.changes import Change, ChangeKind, ChangeReason
from sparekey.licensing.guests import GuestMix, HostCpu, OsClass
from sparekey.licensing.keyring import HeldKey, Role, Slot
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.licensing.modes import Mode
from sparekey.licensing.refusals import Refusal
from sparekey.licensing.status import Status, StatusReason
from sparekey.licensing.subscriptions import SubscriptionState
from sparekey.licensing.tasks import OutcomeState, TaskState
from sparekey.v1 import (
    event_pb2,
    fleet_pb2,
    guest_pb2,
    key_pb2,
    keyring_pb2,
    license_pb2,
    report_pb2,
    subscription_pb2,
)
from sparekey.wire import licensing_messages as messages
from sparekey.wire.timestamps import instant_or_none

TABLES: list[tuple[type[Enum], Mapping[Any, int], Any, str]] = [
    (KeyType, messages.KEY_TYPES, key_pb2.KeyType, "KEY_TYPE_"),
    (KeyKind, messages.KEY_KINDS, key_pb2.KeyKind, "KEY_KIND_"),
    (Edition, messages.EDITIONS, key_pb2.Edition, "EDITION_"),
    (KeyOrigin, messages.KEY_ORIGINS, key_pb2.KeyOrigin, "KEY_ORIGIN_"),
    (Role, messages.ROLES, keyring_pb2.KeyRole, "KEY_ROLE_"),
    (ChangeKind, messages.CHANGE_KINDS, keyring_pb2.KeyringChangeKind, "KEYRING_CHANGE_KIND_"),
    (
        ChangeReason,
        messages.CHANGE_REASONS,
        keyring_pb2.KeyringChangeReason,
        "KEYRING_CHANGE_REASON_",
    ),
    (Refusal, messages.REFUSALS, license_pb2.RefusalReason, "REFUSAL_REASON_"),
    (Advice, messages.ADVICE, license_pb2.Advice, "ADVICE_"),
    (OutcomeState, messages.OUTCOME_STATES, license_pb2.OutcomeState, "OUTCOME_STATE_"),
    (TaskState, messages.TASK_STATES, license_pb2.TaskState, "TASK_STATE_"),
    (Mode, messages.MODES, fleet_pb2.ProtectionMode, "PROTECTION_MODE_"),
    (OsClass, messages.OS_CLASSES, guest_pb2.OsClass, "OS_CLASS_"),
    (Status, messages.STATUSES, fleet_pb2.SvmStatus, "SVM_STATUS_"),
    (StatusReason, messages.STATUS_REASONS, fleet_pb2.SvmStatusReason, "SVM_STATUS_REASON_"),
    (
        SubscriptionState,
        messages.SUBSCRIPTION_STATES,
        subscription_pb2.SubscriptionState,
        "SUBSCRIPTION_STATE_",
    ),
]
READERS = [
    (messages.KEY_TYPES, messages.KEY_TYPES_READ),
    (messages.KEY_KINDS, messages.KEY_KINDS_READ),
    (messages.EDITIONS, messages.EDITIONS_READ),
    (messages.KEY_ORIGINS, messages.KEY_ORIGINS_READ),
    (messages.ROLES, messages.ROLES_READ),
    (messages.CHANGE_KINDS, messages.CHANGE_KINDS_READ),
    (messages.CHANGE_REASONS, messages.CHANGE_REASONS_READ),
    (messages.REFUSALS, messages.REFUSALS_READ),
    (messages.ADVICE, messages.ADVICE_READ),
    (messages.OUTCOME_STATES, messages.OUTCOME_STATES_READ),
    (messages.TASK_STATES, messages.TASK_STATES_READ),
    (messages.MODES, messages.MODES_READ),
    (messages.OS_CLASSES, messages.OS_CLASSES_READ),
]
INSTANTS = st.datetimes(timezones=st.just(UTC))
SLOTS = st.builds(Slot, st.sampled_from(KeyType), st.sampled_from(Role))
SERIALS = st.from_regex(r"[0-9A-F]{4}-[0-9A-F]{6}-[0-9A-F]{8}", fullmatch=True)
CHANGES = st.builds(
    Change,
    kind=st.sampled_from(ChangeKind),
    slot=SLOTS,
    serial=SERIALS,
    at=INSTANTS,
    reason=st.sampled_from(ChangeReason),
    previous_serial=st.none() | SERIALS,
)
COUNTS = st.integers(0, 2**31 - 1)
SLOT = Slot(KeyType.SERVER, Role.ACTIVE)
AT = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "numbers", "wire", "prefix"), TABLES, ids=[table[0].__name__ for table in TABLES]
)
def test_every_value_has_its_number_and_every_number_its_value(
    values: type[Enum], numbers: Mapping[Any, int], wire: Any, prefix: str
) -> None:
    assert list(numbers) == list(values)
    names = {prefix + value.name: number for value, number in numbers.items()}
    assert names == {name: number for name, number in wire.items() if number}
    assert wire.Name(0) == prefix + "UNSPECIFIED"


@pytest.mark.parametrize(("numbers", "values"), READERS)
def test_numbers_are_read_back_and_unknown_ones_as_none(
    numbers: Mapping[Any, int], values: Mapping[int, Any]
) -> None:
    for value, number in numbers.items():
        assert values.get(number) is value
    assert values.get(0) is None
    assert values.get(9999) is None


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (fleet_pb2.Svm(), "status"),
        (fleet_pb2.Svm(), "mode"),
        (subscription_pb2.SubscriptionStatus(), "state"),
        (report_pb2.CoverageGap(), "reason"),
        (report_pb2.CoverageGap(), "guest_class"),
        (event_pb2.Event(), "kind"),
        (event_pb2.Event(), "severity"),
        (guest_pb2.Guest(), "os_class"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_value_of_a_newer_release_survives_its_way(message: Any, field: str) -> None:
    setattr(message, field, 9999)
    back = type(message).FromString(message.SerializeToString())
    assert getattr(back, field) == 9999


def test_reasons_of_a_newer_release_survive_among_known_ones() -> None:
    reasons = [fleet_pb2.SVM_STATUS_REASON_KEY_VOID, 9999, fleet_pb2.SVM_STATUS_REASON_SILENT]
    svm = fleet_pb2.Svm(status_reasons=reasons)  # type: ignore[arg-type]
    back = fleet_pb2.Svm.FromString(svm.SerializeToString())
    assert list(back.status_reasons) == reasons


@given(SLOTS)
def test_a_slot_comes_back(slot: Slot) -> None:
    assert messages.read_slot(messages.slot_message(slot)) == slot


@given(st.integers(-10, 10), st.integers(-10, 10))
def test_a_slot_with_a_part_from_the_future_is_none(key_type: int, role: int) -> None:
    message = keyring_pb2.Slot(type=key_type, role=role)  # type: ignore[arg-type]
    known = key_type in range(1, 5) and role in range(1, 3)
    assert (messages.read_slot(message) is not None) == known


@given(CHANGES, st.integers(0, 2**64 - 1))
def test_a_change_comes_back_over_the_wire(change: Change, revision: int) -> None:
    encoded = messages.change_message(revision, change).SerializeToString()
    message = keyring_pb2.KeyringChange.FromString(encoded)
    assert message.revision == revision
    assert messages.read_change(message) == change


@pytest.mark.parametrize(
    "part",
    [
        keyring_pb2.KeyringChange(kind=99),  # type: ignore[arg-type]
        keyring_pb2.KeyringChange(reason=99),  # type: ignore[arg-type]
        keyring_pb2.KeyringChange(slot=keyring_pb2.Slot(type=99)),  # type: ignore[arg-type]
        keyring_pb2.KeyringChange(changed_at=Timestamp(seconds=2**62)),
        keyring_pb2.KeyringChange(changed_at=Timestamp(seconds=253402300800)),
    ],
)
def test_a_change_with_a_part_that_cannot_be_read_is_none(
    part: keyring_pb2.KeyringChange,
) -> None:
    change = Change(ChangeKind.KEY_ACTIVATED, SLOT, "A", AT, ChangeReason.REQUESTED)
    message = messages.change_message(1, change)
    message.MergeFrom(part)
    assert messages.read_change(message) is None


@given(st.builds(GuestMix, servers=COUNTS, desktops=COUNTS, unknown=COUNTS))
def test_guests_come_back(guests: GuestMix) -> None:
    assert messages.read_guest_mix(messages.guest_mix_message(guests)) == guests


@given(st.builds(HostCpu, processors=COUNTS, cores=COUNTS), st.uuids())
def test_a_host_comes_back(host: HostCpu, uuid: Any) -> None:
    message = messages.host_cpu_message(host, str(uuid))
    assert message.host_uuid == str(uuid)
    assert messages.read_host_cpu(message) == host


@given(st.integers(-(2**31), -1))
def test_negative_counts_become_none_at_all(count: int) -> None:
    guests = keyring_pb2.GuestMix(servers=count, desktops=count, unknown=count)
    assert messages.read_guest_mix(guests) == GuestMix()
    host = keyring_pb2.HostCpu(processors=count, cores=count)
    assert messages.read_host_cpu(host) == HostCpu(0, 0)


def held(*, expires_at: datetime | None, kind: KeyKind = KeyKind.SUBSCRIPTION) -> HeldKey:
    key = LicenseKey(
        serial="4A3F-00B2C1-9D8E7F66",
        type=KeyType.SERVER,
        kind=kind,
        edition=Edition.ENTERPRISE,
        origin=KeyOrigin.KEY_FILE,
        unit_limit=5,
        not_before=datetime(2029, 1, 1, tzinfo=UTC),
        expires_at=expires_at,
    )
    return HeldKey(key, installed_at=AT)


def test_a_held_key_carries_its_key_and_leaves_unset_what_is_not() -> None:
    message = messages.held_key_message(SLOT, held(expires_at=None))
    assert messages.read_slot(message.slot) == SLOT
    assert message.serial == "4A3F-00B2C1-9D8E7F66"
    assert message.kind == key_pb2.KEY_KIND_SUBSCRIPTION
    assert message.edition == key_pb2.EDITION_ENTERPRISE
    assert instant_or_none(message, "installed_at") == AT
    assert instant_or_none(message, "not_before") == datetime(2029, 1, 1, tzinfo=UTC)
    for unset in ("expires_at", "ended_at", "blocked_at"):
        assert not message.HasField(unset)


def test_a_keyring_keeps_the_order_of_its_slots_and_changes() -> None:
    reserve = Slot(KeyType.SERVER, Role.RESERVE)
    change = Change(ChangeKind.RESERVE_ADDED, reserve, "A", AT, ChangeReason.REQUESTED)
    message = messages.keyring_message(
        {SLOT: held(expires_at=AT), reserve: held(expires_at=AT)}, 7, [(6, change), (7, change)]
    )
    assert message.revision == 7
    assert [messages.read_slot(key.slot) for key in message.keys] == [SLOT, reserve]
    assert [change.revision for change in message.changes] == [6, 7]

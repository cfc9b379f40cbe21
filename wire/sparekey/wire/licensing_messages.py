"""Licensing values as messages of the contract, and back.

Reading is lenient as the contract demands: an enum value from a newer release
becomes None, and it is for the caller to say what that means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TypeVar

from sparekey.licensing.advice import Advice
from sparekey.licensing.changes import Change, ChangeKind, ChangeReason
from sparekey.licensing.guests import GuestMix, HostCpu
from sparekey.licensing.keyring import HeldKey, Role, Slot
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType
from sparekey.licensing.modes import Mode
from sparekey.licensing.refusals import Refusal
from sparekey.licensing.status import Status, StatusReason
from sparekey.licensing.subscriptions import SubscriptionState
from sparekey.licensing.tasks import OutcomeState, TaskState
from sparekey.v1 import fleet_pb2, key_pb2, keyring_pb2, license_pb2, subscription_pb2
from sparekey.wire.timestamps import from_timestamp, to_timestamp

_E = TypeVar("_E", bound=Enum)


def _numbers(values: type[_E], wire: object, prefix: str) -> dict[_E, int]:
    return {value: wire.Value(prefix + value.name) for value in values}  # type: ignore[attr-defined]


def _names(numbers: Mapping[_E, int]) -> dict[int, _E]:
    return {number: value for value, number in numbers.items()}


KEY_TYPES = _numbers(KeyType, key_pb2.KeyType, "KEY_TYPE_")
KEY_TYPES_READ = _names(KEY_TYPES)
KEY_KINDS = _numbers(KeyKind, key_pb2.KeyKind, "KEY_KIND_")
KEY_KINDS_READ = _names(KEY_KINDS)
EDITIONS = _numbers(Edition, key_pb2.Edition, "EDITION_")
EDITIONS_READ = _names(EDITIONS)
KEY_ORIGINS = _numbers(KeyOrigin, key_pb2.KeyOrigin, "KEY_ORIGIN_")
KEY_ORIGINS_READ = _names(KEY_ORIGINS)
ROLES = _numbers(Role, keyring_pb2.KeyRole, "KEY_ROLE_")
ROLES_READ = _names(ROLES)
CHANGE_KINDS = _numbers(ChangeKind, keyring_pb2.KeyringChangeKind, "KEYRING_CHANGE_KIND_")
CHANGE_KINDS_READ = _names(CHANGE_KINDS)
CHANGE_REASONS = _numbers(ChangeReason, keyring_pb2.KeyringChangeReason, "KEYRING_CHANGE_REASON_")
CHANGE_REASONS_READ = _names(CHANGE_REASONS)
REFUSALS = _numbers(Refusal, license_pb2.RefusalReason, "REFUSAL_REASON_")
REFUSALS_READ = _names(REFUSALS)
ADVICE = _numbers(Advice, license_pb2.Advice, "ADVICE_")
ADVICE_READ = _names(ADVICE)
OUTCOME_STATES = _numbers(OutcomeState, license_pb2.OutcomeState, "OUTCOME_STATE_")
OUTCOME_STATES_READ = _names(OUTCOME_STATES)
TASK_STATES = _numbers(TaskState, license_pb2.TaskState, "TASK_STATE_")
TASK_STATES_READ = _names(TASK_STATES)
MODES = _numbers(Mode, fleet_pb2.ProtectionMode, "PROTECTION_MODE_")
MODES_READ = _names(MODES)
STATUSES = _numbers(Status, fleet_pb2.SvmStatus, "SVM_STATUS_")
STATUS_REASONS = _numbers(StatusReason, fleet_pb2.SvmStatusReason, "SVM_STATUS_REASON_")
SUBSCRIPTION_STATES = _numbers(
    SubscriptionState, subscription_pb2.SubscriptionState, "SUBSCRIPTION_STATE_"
)


def slot_message(slot: Slot) -> keyring_pb2.Slot:
    """A slot as a message."""
    return keyring_pb2.Slot(type=KEY_TYPES[slot.type], role=ROLES[slot.role])  # type: ignore[arg-type]


def read_slot(message: keyring_pb2.Slot) -> Slot | None:
    """The slot, or None where its type or role is not known to this release."""
    key_type = KEY_TYPES_READ.get(message.type)
    role = ROLES_READ.get(message.role)
    return Slot(key_type, role) if key_type is not None and role is not None else None


def held_key_message(slot: Slot, held: HeldKey) -> keyring_pb2.HeldKey:
    """A key in its slot as a message."""
    return keyring_pb2.HeldKey(
        slot=slot_message(slot),
        serial=held.key.serial,
        kind=KEY_KINDS[held.key.kind],  # type: ignore[arg-type]
        edition=EDITIONS[held.key.edition],  # type: ignore[arg-type]
        installed_at=to_timestamp(held.installed_at),
        not_before=to_timestamp(held.key.not_before),
        expires_at=to_timestamp(held.key.expires_at),
        ended_at=to_timestamp(held.ended_at),
        blocked_at=to_timestamp(held.blocked_at),
    )


def keyring_message(
    slots: Mapping[Slot, HeldKey],
    revision: int,
    changes: Iterable[tuple[int, Change]] = (),
) -> keyring_pb2.Keyring:
    """A keyring as a message.

    Args:
        slots: The keys by slot.
        revision: The keyring's revision.
        changes: Changes with the revision after each, in order.
    """
    return keyring_pb2.Keyring(
        revision=revision,
        keys=[held_key_message(slot, held) for slot, held in slots.items()],
        changes=[change_message(number, change) for number, change in changes],
    )


def change_message(revision: int, change: Change) -> keyring_pb2.KeyringChange:
    """One change with the revision after it as a message."""
    return keyring_pb2.KeyringChange(
        revision=revision,
        changed_at=to_timestamp(change.at),
        kind=CHANGE_KINDS[change.kind],  # type: ignore[arg-type]
        reason=CHANGE_REASONS[change.reason],  # type: ignore[arg-type]
        slot=slot_message(change.slot),
        serial=change.serial,
        previous_serial=change.previous_serial or "",
    )


def read_change(message: keyring_pb2.KeyringChange) -> Change | None:
    """The change, or None where a part of it is not known to this release or no instant."""
    kind = CHANGE_KINDS_READ.get(message.kind)
    reason = CHANGE_REASONS_READ.get(message.reason)
    slot = read_slot(message.slot)
    if kind is None or reason is None or slot is None:
        return None
    try:
        changed_at = from_timestamp(message.changed_at)
    except OverflowError:
        return None
    return Change(
        kind=kind,
        slot=slot,
        serial=message.serial,
        at=changed_at,
        reason=reason,
        previous_serial=message.previous_serial or None,
    )


def guest_mix_message(guests: GuestMix) -> keyring_pb2.GuestMix:
    """A guest mix as a message."""
    return keyring_pb2.GuestMix(
        servers=guests.servers, desktops=guests.desktops, unknown=guests.unknown
    )


def read_guest_mix(message: keyring_pb2.GuestMix) -> GuestMix:
    """The guest mix; negative counts become 0."""
    return GuestMix(
        servers=max(0, message.servers),
        desktops=max(0, message.desktops),
        unknown=max(0, message.unknown),
    )


def host_cpu_message(host: HostCpu, host_uuid: str) -> keyring_pb2.HostCpu:
    """A host's processors as a message."""
    return keyring_pb2.HostCpu(host_uuid=host_uuid, processors=host.processors, cores=host.cores)


def read_host_cpu(message: keyring_pb2.HostCpu) -> HostCpu:
    """The host's processors; negative counts become 0."""
    return HostCpu(processors=max(0, message.processors), cores=max(0, message.cores))

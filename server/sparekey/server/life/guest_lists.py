"""Taking in the guests that SVMs report one by one, and remembering who protected whom (R91)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from sparekey.licensing.guests import OsClass
from sparekey.licensing.keyring import Keyring
from sparekey.licensing.keys import KeyType
from sparekey.licensing.units import Guest, Protection
from sparekey.server.store.guests import load_guests, save_guests, save_protections
from sparekey.server.store.transaction import Transaction
from sparekey.v1 import error_pb2, guest_pb2
from sparekey.wire.errors import CallRefused
from sparekey.wire.licensing_messages import read_guest

MAX_GUESTS = 10_000
"""How many guests of one SVM are kept; more than any host runs."""

_MAX_UUID_LENGTH = 64
_TYPE_FOR = {OsClass.SERVER: KeyType.SERVER, OsClass.DESKTOP: KeyType.DESKTOP}


def read_guest_list(message: guest_pb2.GuestList, now: datetime) -> tuple[Guest, ...]:
    """The guests of a report, each once; an instant to come counts as now (R82).

    Raises:
        CallRefused: an instant is outside the years 1 to 9999.
    """
    found: dict[str, Guest] = {}
    for one in message.guests[:MAX_GUESTS]:
        try:
            guest = read_guest(one)
        except OverflowError:
            raise CallRefused(
                error_pb2.ERROR_REASON_INVALID_FIELD,
                "the reported guests hold an instant outside the years 1 to 9999; update the agent",
            ) from None
        last, name = guest.last_protected_at, guest.instance_uuid[:_MAX_UUID_LENGTH]
        if name:
            found[name] = replace(
                guest,
                instance_uuid=name,
                last_protected_at=None if last is None else min(last, now),
            )
    return tuple(found.values())


def follow_guests(
    transaction: Transaction,
    before: Mapping[str, Keyring],
    after: Mapping[str, Keyring],
    lists: Mapping[str, tuple[Guest, ...]],
) -> None:
    """Write the lists of some SVMs, and remember what each key stopped protecting.

    Args:
        transaction: Where to write.
        before: The keyrings of the SVMs that reported, as they were.
        after: The same as they are.
        lists: The guests of those that sent a list.
    """
    concerned = {
        svm_id
        for svm_id, keyring in after.items()
        if svm_id in lists or _covering(before[svm_id]) != _covering(keyring)
    }
    if not concerned:
        return
    known = load_guests(transaction.connection, concerned)
    now = transaction.now
    past = [
        protection
        for svm_id, guests in known.items()
        for protection in _ended(
            _covering(before[svm_id]),
            guests,
            _covering(after[svm_id]),
            lists.get(svm_id, guests),
            now,
        )
    ]
    save_protections(transaction.connection, past)
    save_guests(transaction.connection, lists)


def forget_guests(transaction: Transaction, svm_id: str, keyring: Keyring) -> None:
    """Remember what an SVM's keys protected, before the SVM is forgotten."""
    guests = load_guests(transaction.connection, [svm_id]).get(svm_id, ())
    past = _ended(_covering(keyring), guests, {}, (), transaction.now)
    save_protections(transaction.connection, past)


def _covering(keyring: Keyring) -> dict[KeyType, str]:
    """By type the active keys that count VMs."""
    return {
        held.key.type: held.key.serial
        for held in keyring.actives()
        if held.key.type in _TYPE_FOR.values()
    }


def _ended(
    keys: Mapping[KeyType, str],
    guests: Iterable[Guest],
    later_keys: Mapping[KeyType, str],
    later_guests: Iterable[Guest],
    now: datetime,
) -> Iterator[Protection]:
    """The pairs of key and guest that are no longer seen on an SVM."""
    still = set(_pairs(later_keys, later_guests))
    for guest in guests:
        serial = keys.get(_TYPE_FOR[guest.licensed_as])
        if guest.counted and serial is not None and (serial, guest.instance_uuid) not in still:
            yield Protection(serial, guest.instance_uuid, guest.last_protected_at or now)


def _pairs(keys: Mapping[KeyType, str], guests: Iterable[Guest]) -> Iterator[tuple[str, str]]:
    for guest in guests:
        serial = keys.get(_TYPE_FOR[guest.licensed_as])
        if guest.counted and serial is not None:
            yield serial, guest.instance_uuid

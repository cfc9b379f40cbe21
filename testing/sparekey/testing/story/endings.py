"""What became of each active key that ended, told from the server's history alone.

A keyring's past is put together again from the events of its changes. At the
end of each active key it says whether a valid reserve stood by, and how the
SVM went on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from sparekey.v1 import event_pb2, key_pb2, keyring_pb2
from sparekey.wire.timestamps import from_timestamp, instant_or_none

_INTO_ACTIVE = {
    keyring_pb2.KEYRING_CHANGE_KIND_KEY_ACTIVATED,
    keyring_pb2.KEYRING_CHANGE_KIND_KEY_REPLACED,
    keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_PROMOTED,
}
_INTO_RESERVE = {
    keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_ADDED,
    keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_REPLACED,
}
_OUT_OF_RESERVE = {
    keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_REMOVED,
    keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_PROMOTED,
}


class How(Enum):
    """How an SVM went on when its active key ended."""

    PROMOTED = "promoted"
    RENEWED_BY_CODE = "renewed by code"
    LAPSED = "lapsed"


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one active key on one SVM.

    Attributes:
        svm_id: The SVM.
        type: The key's type.
        serial: The key that ended.
        ended_at: The instant of its end.
        valid_reserve: The serial of the reserve that stood by and was valid then; else empty.
        how: How the SVM went on.
        next_serial: The key that took its place; empty where none did.
        next_at: When that one took its place.
        told_at: When the server learned of it.
    """

    svm_id: str
    type: key_pb2.KeyType.ValueType
    serial: str
    ended_at: datetime
    valid_reserve: str
    how: How
    next_serial: str = ""
    next_at: datetime | None = None
    told_at: datetime | None = None

    @property
    def gap(self) -> timedelta | None:
        """How long the SVM was without a valid key; None where it still is."""
        return None if self.next_at is None else self.next_at - self.ended_at

    @property
    def failed_its_reserve(self) -> bool:
        """Whether a valid reserve stood by and did not take over at once."""
        return bool(self.valid_reserve) and (
            self.next_serial != self.valid_reserve or self.gap != timedelta(0)
        )


def find_endings(
    events: Iterable[event_pb2.Event], keys: Iterable[key_pb2.Key], now: datetime
) -> list[Ending]:
    """Every end of an active key until now, by instant and SVM.

    Args:
        events: The whole history, oldest first.
        keys: Every key.
        now: The server's time.
    """
    by_serial = {key.serial: key for key in keys}
    pasts: dict[tuple[str, key_pb2.KeyType.ValueType], list[event_pb2.Event]] = defaultdict(list)
    by_code = set()
    for event in events:
        if event.kind == event_pb2.EVENT_KIND_KEYRING_CHANGED:
            pasts[event.svm_id, event.change.slot.type].append(event)
        elif event.kind == event_pb2.EVENT_KIND_KEY_RENEWED_BY_CODE:
            by_code.add((event.svm_id, event.key_serial))
    endings = [
        ending
        for (svm_id, key_type), past in pasts.items()
        for ending in _endings_of(svm_id, key_type, past, by_serial, by_code, now)
    ]
    return sorted(endings, key=lambda ending: (ending.ended_at, ending.svm_id, ending.type))


def _endings_of(
    svm_id: str,
    key_type: key_pb2.KeyType.ValueType,
    past: Sequence[event_pb2.Event],
    keys: Mapping[str, key_pb2.Key],
    by_code: set[tuple[str, str]],
    now: datetime,
) -> Iterable[Ending]:
    past = sorted(past, key=lambda event: event.change.revision)
    for index, event in enumerate(past):
        if event.change.kind not in _INTO_ACTIVE:
            continue
        serial = event.change.serial
        ended_at = instant_or_none(keys[serial], "expires_at")
        if ended_at is None or ended_at > now:
            continue
        later = past[index + 1 :]
        before = [one for one in later if _changed_at(one) < ended_at]
        if any(one.change.kind in _INTO_ACTIVE for one in before):
            continue  # it had been replaced before its end
        reserve = _reserve_after(past[: index + 1 + len(before)])
        valid = bool(reserve) and _is_valid(keys[reserve], ended_at)
        successor = next((one for one in later if one.change.kind in _INTO_ACTIVE), None)
        yield Ending(
            svm_id,
            key_type,
            serial,
            ended_at,
            reserve if valid else "",
            _how(successor, (svm_id, serial) in by_code),
            successor.change.serial if successor else "",
            _changed_at(successor) if successor else None,
            from_timestamp(successor.recorded_at) if successor else None,
        )


def _changed_at(event: event_pb2.Event) -> datetime:
    return from_timestamp(event.change.changed_at)


def _reserve_after(past: Sequence[event_pb2.Event]) -> str:
    reserve = ""
    for event in past:
        if event.change.kind in _INTO_RESERVE:
            reserve = event.change.serial
        elif event.change.kind in _OUT_OF_RESERVE:
            reserve = ""
    return reserve


def _is_valid(key: key_pb2.Key, instant: datetime) -> bool:
    ends = instant_or_none(key, "expires_at")
    blocked = instant_or_none(key, "blocked_at")
    return (
        from_timestamp(key.not_before) <= instant
        and (ends is None or instant < ends)
        and (blocked is None or instant < blocked)
    )


def _how(successor: event_pb2.Event | None, by_code: bool) -> How:
    if successor is None:
        return How.LAPSED
    if successor.change.kind == keyring_pb2.KEYRING_CHANGE_KIND_RESERVE_PROMOTED:
        return How.PROMOTED
    return How.RENEWED_BY_CODE if by_code else How.LAPSED

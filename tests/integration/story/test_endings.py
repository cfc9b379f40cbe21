"""The verdict's own arithmetic: it must find a lapse where there is one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from sparekey.testing.story.endings import How, find_endings
from sparekey.v1 import event_pb2, key_pb2, keyring_pb2
from sparekey.wire.timestamps import to_timestamp

START = datetime(2030, 1, 1, tzinfo=UTC)
END = START + timedelta(days=90)
NOW = END + timedelta(days=30)
_CHANGE = keyring_pb2.KeyringChangeKind
_revisions = count(1)


def key(serial: str, ends: datetime, **fields: Any) -> key_pb2.Key:
    return key_pb2.Key(
        serial=serial,
        not_before=fields.pop("starts", None) or to_timestamp(START),
        expires_at=to_timestamp(ends),
        **fields,
    )


def change(kind: str, serial: str, at: datetime) -> event_pb2.Event:
    return event_pb2.Event(
        kind=event_pb2.EVENT_KIND_KEYRING_CHANGED,
        svm_id="svm",
        occurred_at=to_timestamp(at),
        recorded_at=to_timestamp(at),
        change=keyring_pb2.KeyringChange(
            revision=next(_revisions),
            changed_at=to_timestamp(at),
            kind=_CHANGE.Value(f"KEYRING_CHANGE_KIND_{kind}"),
            slot=keyring_pb2.Slot(type=key_pb2.KEY_TYPE_SERVER),
            serial=serial,
        ),
    )


KEYS = [key("A", END), key("B", END + timedelta(days=365))]
ACTIVATED = change("KEY_ACTIVATED", "A", START)
ADDED = change("RESERVE_ADDED", "B", START)


def test_a_promotion_at_the_very_instant_is_no_lapse() -> None:
    promoted = change("RESERVE_PROMOTED", "B", END)
    (ending,) = find_endings([ACTIVATED, ADDED, promoted], KEYS, NOW)
    assert (ending.how, ending.valid_reserve, ending.gap) == (How.PROMOTED, "B", timedelta(0))
    assert not ending.failed_its_reserve


@pytest.mark.parametrize(
    "later",
    [
        [],
        [change("KEY_EXPIRED", "A", END)],
        [change("RESERVE_PROMOTED", "B", END + timedelta(seconds=1))],
        [change("KEY_REPLACED", "C", END)],
    ],
    ids=["nothing happened", "it expired", "promoted too late", "replaced by another key"],
)
def test_a_valid_reserve_that_does_not_take_over_at_once_has_failed(
    later: list[event_pb2.Event],
) -> None:
    (ending,) = find_endings(
        [ACTIVATED, ADDED, *later], [*KEYS, key("C", NOW + timedelta(days=9))], NOW
    )
    assert ending.failed_its_reserve


def test_without_a_reserve_it_lapses_and_nothing_has_failed() -> None:
    removed = change("RESERVE_REMOVED", "B", END - timedelta(days=1))
    (ending,) = find_endings([ACTIVATED, ADDED, removed], KEYS, NOW)
    assert (ending.how, ending.valid_reserve, ending.gap) == (How.LAPSED, "", None)
    assert not ending.failed_its_reserve


@pytest.mark.parametrize(
    "reserve",
    [
        key("B", END),
        key("B", END + timedelta(days=365), starts=to_timestamp(END + timedelta(seconds=1))),
        key("B", END + timedelta(days=365), blocked_at=to_timestamp(END)),
    ],
    ids=["ends with it", "begins later", "is blocked"],
)
def test_a_reserve_that_is_not_valid_then_does_not_count(reserve: key_pb2.Key) -> None:
    (ending,) = find_endings([ACTIVATED, ADDED], [KEYS[0], reserve], NOW)
    assert ending.valid_reserve == ""


def test_a_renewal_by_code_is_told_from_a_lapse() -> None:
    replaced = change("KEY_REPLACED", "B", END)
    by_code = event_pb2.Event(
        kind=event_pb2.EVENT_KIND_KEY_RENEWED_BY_CODE, svm_id="svm", key_serial="A"
    )
    (ending,) = find_endings([ACTIVATED, by_code, replaced], KEYS, NOW)
    assert (ending.how, ending.next_serial) == (How.RENEWED_BY_CODE, "B")
    (ending,) = find_endings([ACTIVATED, replaced], KEYS, NOW)
    assert ending.how is How.LAPSED


def test_a_key_that_was_replaced_before_its_end_has_no_ending() -> None:
    replaced = change("KEY_REPLACED", "B", END - timedelta(days=1))
    assert find_endings([ACTIVATED, replaced], KEYS, NOW) == []
    assert find_endings([ACTIVATED], KEYS, END - timedelta(days=1)) == []

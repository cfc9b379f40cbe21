"""Changes: an SVM's keys can be rebuilt from them alone."""

from collections.abc import Callable
from datetime import datetime

import pytest

from sparekey.licensing.changes import Change, ChangeKind, ChangeReason, Transition, apply_change
from sparekey.licensing.keyring import EMPTY, Role, Slot
from sparekey.licensing.keys import KeyType

At = Callable[[float], datetime]
ACTIVE = Slot(KeyType.CORES, Role.ACTIVE)
RESERVE = Slot(KeyType.CORES, Role.RESERVE)


@pytest.mark.parametrize(
    ("kind", "slot", "before", "after"),
    [
        (ChangeKind.KEY_ACTIVATED, ACTIVE, {}, {ACTIVE: "new"}),
        (ChangeKind.KEY_REPLACED, ACTIVE, {ACTIVE: "old"}, {ACTIVE: "new"}),
        (ChangeKind.KEY_REMOVED, ACTIVE, {ACTIVE: "new"}, {}),
        (ChangeKind.KEY_EXPIRED, ACTIVE, {ACTIVE: "new"}, {ACTIVE: "new"}),
        (ChangeKind.KEY_BLOCKED, ACTIVE, {ACTIVE: "new"}, {ACTIVE: "new"}),
        (ChangeKind.RESERVE_ADDED, RESERVE, {ACTIVE: "a"}, {ACTIVE: "a", RESERVE: "new"}),
        (ChangeKind.RESERVE_REPLACED, RESERVE, {RESERVE: "old"}, {RESERVE: "new"}),
        (ChangeKind.RESERVE_REMOVED, RESERVE, {ACTIVE: "a", RESERVE: "new"}, {ACTIVE: "a"}),
        (ChangeKind.RESERVE_PROMOTED, ACTIVE, {ACTIVE: "a", RESERVE: "new"}, {ACTIVE: "new"}),
        (ChangeKind.RESERVE_PROMOTED, ACTIVE, {RESERVE: "new"}, {ACTIVE: "new"}),
        (ChangeKind.KEY_REMOVED, ACTIVE, {}, {}),
    ],
)
def test_each_kind_of_change_is_applied(
    at: At, kind: ChangeKind, slot: Slot, before: dict[Slot, str], after: dict[Slot, str]
) -> None:
    slots = dict(before)
    apply_change(slots, Change(kind, slot, "new", at(0), ChangeReason.REQUESTED))
    assert slots == after


@pytest.mark.parametrize("enum", [ChangeKind, ChangeReason])
def test_enum_values_are_their_names(enum: type[ChangeKind] | type[ChangeReason]) -> None:
    assert all(member.value == member.name for member in enum)


def test_own_changes_are_those_after_what_time_did(at: At) -> None:
    changes = tuple(
        Change(ChangeKind.KEY_EXPIRED, ACTIVE, serial, at(0), ChangeReason.EXPIRED)
        for serial in ("first", "second")
    )
    assert Transition(EMPTY, changes).own_changes == changes
    assert Transition(EMPTY, changes, settled=1).own_changes == changes[1:]
    assert Transition(EMPTY, changes, settled=2).own_changes == ()

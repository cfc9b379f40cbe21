"""What waits for an SVM: one instruction a slot, in order, and as it was foretold."""

from __future__ import annotations

from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from sparekey.licensing.changes import Transition
from sparekey.licensing.keyring import EMPTY, HeldKey, Keyring, Role, Slot
from sparekey.licensing.keys import Edition, KeyKind, KeyType, LicenseKey
from sparekey.licensing.refusals import Refusal
from sparekey.licensing.transitions import add_active
from sparekey.server.store.instructions import Action, StoredInstruction
from sparekey.server.store.keys import StoredKey
from sparekey.server.tasks.waiting import (
    Queued,
    follow_stored,
    foresee,
    project,
    queue_instruction,
)

from .world import NOW, make_key

ACTIVE, RESERVE = Slot(KeyType.SERVER, Role.ACTIVE), Slot(KeyType.SERVER, Role.RESERVE)


def stored(*keys: LicenseKey, **more: Any) -> dict[str, StoredKey]:
    return {key.serial: StoredKey(key, b"", NOW, **more) for key in keys}


def hold(key: LicenseKey, role: Role = Role.ACTIVE, version: int = 0) -> StoredInstruction:
    """An instruction to hold a key, of a task that has the key's serial for its id."""
    slot = Slot(key.type, role)
    return StoredInstruction("svm-1", slot, version, Action.KEY, key.serial, key.serial)


def queue_all(
    keyring: Keyring, keys: dict[str, StoredKey], *new: StoredInstruction
) -> tuple[list[Queued], tuple[StoredInstruction, ...]]:
    """Put instructions in one after the other."""
    queued: list[Queued] = []
    waiting: tuple[StoredInstruction, ...] = ()
    version = 0
    for one in new:
        queued.append(queue_instruction(keyring, waiting, one, version, keys, NOW))
        waiting, version = queued[-1].waiting, queued[-1].version
    return queued, waiting


def test_the_first_instruction_gets_the_next_version() -> None:
    key = make_key(1)
    result = queue_instruction(EMPTY, (), hold(key), 41, stored(key), NOW)
    assert result == Queued(
        waiting=(hold(key, version=42),),
        changed=(hold(key, version=42),),
        superseded=None,
        overtaken=(),
        version=42,
    )


def test_other_slots_wait_beside_each_other() -> None:
    server, desktop = make_key(1), make_key(2, KeyType.DESKTOP)
    _, waiting = queue_all(EMPTY, stored(server, desktop), hold(server), hold(desktop))
    assert [(one.serial, one.version) for one in waiting] == [
        (server.serial, 1),
        (desktop.serial, 2),
    ]


def test_R89_a_newer_active_key_takes_the_older_ones_place_before_its_reserve() -> None:
    old, new, reserve = make_key(1), make_key(2, ends=40), make_key(3, ends=60)
    queued, waiting = queue_all(
        EMPTY, stored(old, new, reserve), hold(old), hold(reserve, Role.RESERVE), hold(new)
    )
    assert waiting == (hold(new, version=3), hold(reserve, Role.RESERVE, version=4))
    assert queued[-1].changed == waiting
    assert queued[-1].superseded == hold(old, version=1)
    assert queued[-1].version == 4


def test_R89_a_reserve_that_the_newer_active_key_rules_out_leaves_with_its_reason() -> None:
    old, new, reserve = make_key(1), make_key(2, ends=90), make_key(3, ends=60)
    queued, waiting = queue_all(
        EMPTY, stored(old, new, reserve), hold(old), hold(reserve, Role.RESERVE), hold(new)
    )
    assert waiting == (hold(new, version=3),)
    (overtaken,) = queued[-1].overtaken
    assert overtaken == (hold(reserve, Role.RESERVE, version=2), Refusal.RESERVE_NOT_LATER)


def test_R89_a_newer_reserve_goes_last_since_it_may_rest_on_what_came_between() -> None:
    held = make_key(1)
    older = make_key(2, ends=60)
    active = make_key(3, edition=Edition.ENTERPRISE)
    newer = make_key(4, edition=Edition.ENTERPRISE, ends=90)
    keyring = Keyring({ACTIVE: HeldKey(held, NOW)})
    queued, waiting = queue_all(
        keyring,
        stored(held, older, active, newer),
        hold(older, Role.RESERVE),
        hold(active),
        hold(newer, Role.RESERVE),
    )
    assert waiting == (hold(active, version=2), hold(newer, Role.RESERVE, version=3))
    assert queued[-1].changed == (hold(newer, Role.RESERVE, version=3),)
    assert queued[-1].superseded == hold(older, Role.RESERVE, version=1)
    assert project(keyring, waiting, stored(held, older, active, newer), NOW).serials() == {
        ACTIVE: active.serial,
        RESERVE: newer.serial,
    }


def test_R27_what_a_superseded_key_alone_made_possible_is_not_foretold() -> None:
    commercial = make_key(1)
    subscription = make_key(2, kind=KeyKind.SUBSCRIPTION)
    trial = make_key(3, kind=KeyKind.TRIAL)
    keys = stored(commercial, subscription, trial)
    keyring = Keyring({ACTIVE: HeldKey(commercial, NOW)})
    waiting = (hold(subscription, version=1),)
    result, after = foresee(keyring, waiting, hold(trial), keys, NOW)
    assert result is Refusal.TRIAL_OVER_COMMERCIAL
    assert after.serials() == {ACTIVE: subscription.serial}


def test_projecting_settles_first_and_passes_over_what_is_refused() -> None:
    ended, reserve, early = make_key(1, ends=-1), make_key(2, ends=60), make_key(3, ends=50)
    keyring = Keyring({ACTIVE: HeldKey(ended, NOW), RESERVE: HeldKey(reserve, NOW)})
    keys = stored(ended, reserve, early)
    after = project(keyring, (hold(early, Role.RESERVE, version=1),), keys, NOW)
    assert after.serials() == {ACTIVE: reserve.serial}


def test_a_block_and_a_removal_are_projected_too() -> None:
    active, reserve = make_key(1), make_key(2, ends=60)
    keyring = Keyring({ACTIVE: HeldKey(active, NOW), RESERVE: HeldKey(reserve, NOW)})
    block = StoredInstruction("svm-1", ACTIVE, 1, Action.BLOCKED, active.serial)
    assert project(keyring, (block,), {}, NOW).serials() == {ACTIVE: reserve.serial}
    remove = StoredInstruction("svm-1", RESERVE, 1, Action.REMOVE)
    assert project(keyring, (remove,), {}, NOW).serials() == {ACTIVE: active.serial}
    assert follow_stored(EMPTY, remove, {}, NOW) is Refusal.SLOT_EMPTY


def test_a_blocked_or_unknown_key_is_refused() -> None:
    key = make_key(1)
    assert follow_stored(EMPTY, hold(key), {}, NOW) is Refusal.KEY_NOT_IN_STORAGE
    blocked = stored(key, blocked_at=NOW)
    assert follow_stored(EMPTY, hold(key), blocked, NOW) is Refusal.KEY_BLOCKED


keys_of_all_sorts = st.lists(
    st.builds(
        lambda type_, kind, edition, ends: (type_, kind, edition, ends),
        st.sampled_from([KeyType.SERVER] * 6 + [KeyType.DESKTOP, KeyType.CORES]),
        st.sampled_from([KeyKind.COMMERCIAL] * 5 + [KeyKind.TRIAL, KeyKind.SUBSCRIPTION]),
        st.sampled_from([Edition.STANDARD] * 3 + [Edition.ENTERPRISE]),
        st.integers(1, 9),
    ),
    min_size=6,
    max_size=6,
)
orders = st.lists(st.tuples(st.integers(1, 5), st.sampled_from(list(Role))), max_size=8)


@settings(max_examples=250, deadline=None)
@given(sorts=keys_of_all_sorts, orders=orders)
def test_R24_R89_what_waits_is_one_for_a_slot_in_order_and_as_foretold(
    sorts: list[tuple[KeyType, KeyKind, Edition, int]],
    orders: list[tuple[int, Role]],
) -> None:
    """After any sequence of instructions; the SVM starts with the first key, if that may be."""
    keys = [
        make_key(number, type_, kind=kind, edition=edition, ends=ends)
        for number, (type_, kind, edition, ends) in enumerate(sorts)
    ]
    by_serial = stored(*keys)
    start = add_active(EMPTY, keys[0], NOW)
    assert isinstance(start, Transition)
    keyring = start.keyring
    waiting: tuple[StoredInstruction, ...] = ()
    version = 0
    for number, role in orders:
        new = hold(keys[number], role)._replace(task_id=f"task-{number}")
        result, foretold = foresee(keyring, waiting, new, by_serial, NOW)
        if isinstance(result, Refusal):
            event("refused")
            assert project(keyring, waiting, by_serial, NOW) == foretold
            continue
        before = waiting
        queued = queue_instruction(keyring, waiting, new, version, by_serial, NOW)
        waiting = queued.waiting
        event(f"superseded {queued.superseded is not None}, overtaken {len(queued.overtaken)}")

        slots = [one.slot for one in waiting]
        assert len(slots) == len(set(slots))
        versions = [one.version for one in waiting]
        assert versions == sorted(set(versions))
        assert queued.version == max(versions) > version
        version = queued.version
        # Nothing is lost: what waited waits, was superseded, or has left with a reason.
        left = [one for one, _ in queued.overtaken]
        gone = [*left, *([queued.superseded] if queued.superseded else [])]
        assert {one.slot for one in before} | {new.slot} == {
            *slots,
            *(one.slot for one in left),
        }
        assert all(one in before for one in gone)
        assert set(queued.changed) == {one for one in waiting if one not in before}

        # Followed in order of versions, as by the SVM.
        followed = keyring
        for one in waiting:
            told = follow_stored(followed, one, by_serial, NOW)
            if one.slot == new.slot:
                assert told == result
            if isinstance(told, Transition):
                followed = told.keyring
        assert followed == foretold == project(keyring, waiting, by_serial, NOW)

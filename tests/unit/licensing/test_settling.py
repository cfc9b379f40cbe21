"""R11, R87: what time alone does, in order, exactly once, however late it is noticed."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from sparekey.licensing.changes import Change, ChangeKind, ChangeReason, Transition
from sparekey.licensing.keyring import EMPTY, HeldKey, Keyring, Role, Slot, usable
from sparekey.licensing.keys import Edition, KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.licensing.refusals import Refusal
from sparekey.licensing.settling import next_due, settle
from sparekey.licensing.transitions import add_reserve

MakeKey = Callable[..., LicenseKey]
MakeKeyring = Callable[..., Keyring]
At = Callable[[float], datetime]
Sound = Callable[[Keyring, Transition | Refusal, datetime], Transition]
ACTIVE_SERVER = Slot(KeyType.SERVER, Role.ACTIVE)
RESERVE_SERVER = Slot(KeyType.SERVER, Role.RESERVE)
MICROSECOND = timedelta(microseconds=1)


def test_R11_R87_the_reserve_takes_over_at_the_very_instant_of_the_expiry(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    active, spare = make_key(ends=10), make_key(ends=60)
    before = keyring_of([active], [spare])
    assert settle(before, at(10) - MICROSECOND) == Transition(before)
    for noticed in (at(10), at(10) + MICROSECOND, at(59)):
        done = sound(before, settle(before, noticed), noticed)
        assert done.changes == (
            Change(
                ChangeKind.RESERVE_PROMOTED,
                ACTIVE_SERVER,
                spare.serial,
                at(10),
                ChangeReason.ACTIVE_EXPIRED,
                active.serial,
            ),
        )
        assert done.keyring == keyring_of([spare])
        assert settle(done.keyring, noticed) == Transition(done.keyring)


def test_R87_each_type_is_promoted_by_itself(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    desktop, desktop_spare = make_key(KeyType.DESKTOP, ends=20), make_key(KeyType.DESKTOP, ends=60)
    before = keyring_of([make_key(ends=10), desktop], [make_key(ends=50), desktop_spare])
    done = sound(before, settle(before, at(15)), at(15))
    assert [change.slot.type for change in done.changes] == [KeyType.SERVER]
    assert [held.key for held in done.keyring.reserves()] == [desktop_spare]


def test_R87_without_a_reserve_the_ended_key_stays_and_is_told_once(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    key = make_key(ends=10)
    before = keyring_of([key])
    done = sound(before, settle(before, at(12)), at(12))
    assert done.changes == (
        Change(ChangeKind.KEY_EXPIRED, ACTIVE_SERVER, key.serial, at(10), ChangeReason.EXPIRED),
    )
    assert done.keyring.slots[ACTIVE_SERVER].ended_at == at(10)
    assert settle(done.keyring, at(99)).changes == ()


def test_R87_a_reserve_that_starts_after_the_end_takes_over_when_it_starts(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    before = keyring_of([make_key(ends=10)], [make_key(starts=12, ends=60)])
    done = sound(before, settle(before, at(20)), at(20))
    assert [(change.kind, change.at) for change in done.changes] == [
        (ChangeKind.KEY_EXPIRED, at(10)),
        (ChangeKind.RESERVE_PROMOTED, at(12)),
    ]
    assert done.changes[1].reason is ChangeReason.ACTIVE_EXPIRED


def test_R87_a_chain_is_told_in_order_with_its_own_instants(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    desktop = make_key(KeyType.DESKTOP, ends=15)
    before = keyring_of([make_key(ends=10), desktop], [make_key(ends=20)])
    done = sound(before, settle(before, at(99)), at(99))
    assert [(change.kind, change.at, change.slot.type) for change in done.changes] == [
        (ChangeKind.RESERVE_PROMOTED, at(10), KeyType.SERVER),
        (ChangeKind.KEY_EXPIRED, at(15), KeyType.DESKTOP),
        (ChangeKind.KEY_EXPIRED, at(20), KeyType.SERVER),
    ]


def test_R87_a_reserve_marked_as_blocked_is_discarded_and_never_promoted(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    """No transition leaves such a reserve; a keyring that came from elsewhere may hold one."""
    spare = make_key(ends=60)
    before = keyring_of([make_key(ends=10)])
    before = before.with_(RESERVE_SERVER, HeldKey(spare, at(-1), blocked_at=at(-0.5)))
    done = sound(before, settle(before, at(10)), at(10))
    assert [(change.kind, change.at, change.reason) for change in done.changes] == [
        (ChangeKind.RESERVE_REMOVED, at(-0.5), ChangeReason.BLOCKED),
        (ChangeKind.KEY_EXPIRED, at(10), ChangeReason.EXPIRED),
    ]


def test_R87_a_reserve_that_expires_before_its_turn_is_discarded(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    before = keyring_of([make_key(ends=30)], [make_key(ends=5)])
    done = sound(before, settle(before, at(6)), at(6))
    assert [(change.kind, change.at, change.reason) for change in done.changes] == [
        (ChangeKind.RESERVE_REMOVED, at(5), ChangeReason.EXPIRED)
    ]


def test_R87_a_promoted_key_keeps_the_instant_at_which_it_came(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    before = keyring_of([make_key(ends=10)], [make_key(ends=60)])
    assert settle(before, at(10)).keyring.slots[ACTIVE_SERVER].installed_at == at(-1)


def test_a_subscription_without_end_never_ends(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    before = keyring_of([make_key(kind=KeyKind.SUBSCRIPTION, ends=None)])
    assert settle(before, at(1_000_000)) == Transition(before)
    assert next_due(before, at(0)) is None


def test_R85_of_a_key_both_blocked_and_ended_the_earlier_is_the_reason(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    before = keyring_of([make_key(ends=5)], [make_key(starts=8, ends=60)])
    for blocked_at, reason in (
        (at(4), ChangeReason.ACTIVE_BLOCKED),
        (at(5), ChangeReason.ACTIVE_EXPIRED),
        (at(6), ChangeReason.ACTIVE_EXPIRED),
    ):
        held = replace(before.slots[ACTIVE_SERVER], blocked_at=blocked_at)
        done = settle(before.with_(ACTIVE_SERVER, held), at(9))
        assert [(change.kind, change.at) for change in done.changes] == [
            (ChangeKind.KEY_EXPIRED, at(5)),
            (ChangeKind.RESERVE_PROMOTED, at(8)),
        ]
        assert done.changes[1].reason is reason


def test_R82_marks_from_a_clock_that_was_set_back_count_as_now(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At, sound: Sound
) -> None:
    held = HeldKey(make_key(), at(-1), blocked_at=at(2))
    before = Keyring({ACTIVE_SERVER: held})
    done = sound(before, add_reserve(before, make_key(ends=60), at(1)), at(1))
    assert [(change.kind, change.at) for change in done.changes] == [
        (ChangeKind.RESERVE_ADDED, at(1)),
        (ChangeKind.RESERVE_PROMOTED, at(1)),
    ]


def test_next_due_is_the_next_instant_of_a_change(
    make_key: MakeKey, keyring_of: MakeKeyring, at: At
) -> None:
    keyring = keyring_of(
        [make_key(ends=10), make_key(KeyType.DESKTOP, ends=15)], [make_key(starts=12, ends=20)]
    )
    seen: list[datetime | None] = [at(0)]
    while seen[-1] and len(seen) < 9:
        seen.append(next_due(keyring, seen[-1]))
    assert seen == [at(0), at(10), at(12), at(15), at(20), None]
    assert next_due(EMPTY, at(0)) is None


# ---- properties ----

START = datetime(2030, 1, 1, tzinfo=UTC)
HOURS = st.integers(0, 60)


def hour(number: int) -> datetime:
    return START + timedelta(hours=number)


@st.composite
def held_keys(draw: st.DrawFn, key_type: KeyType, role: Role) -> HeldKey:
    """Any held key: also such as no transition would leave, expired, blocked or wrongly kept."""
    starts = draw(st.integers(-20, 40))
    ends = starts + draw(st.integers(1, 40))
    kind = draw(st.sampled_from([KeyKind.COMMERCIAL, KeyKind.COMMERCIAL, KeyKind.SUBSCRIPTION]))
    unlimited = kind is KeyKind.SUBSCRIPTION and draw(st.booleans())
    number = list(KeyType).index(key_type) * 2 + (role is Role.ACTIVE)
    key = LicenseKey(
        serial=f"{number:032X}",
        type=key_type,
        kind=kind,
        edition=Edition.STANDARD,
        origin=KeyOrigin.ACTIVATION_CODE,
        unit_limit=1,
        not_before=hour(starts),
        expires_at=None if unlimited else hour(ends),
    )
    blocked = draw(st.one_of(st.none(), st.integers(-20, 0)))
    installed = draw(st.integers(-20, 0))
    return HeldKey(key, hour(installed), blocked_at=None if blocked is None else hour(blocked))


@st.composite
def keyrings(draw: st.DrawFn) -> Keyring:
    slots: dict[Slot, HeldKey] = {}
    for key_type in (KeyType.SERVER, KeyType.DESKTOP):
        for role in Role:
            if draw(st.integers(0, 3)):
                slots[Slot(key_type, role)] = draw(held_keys(key_type, role))
    return Keyring(slots)


@settings(max_examples=150, deadline=None, database=None)
@given(keyrings(), st.lists(HOURS, min_size=1, max_size=5))
def test_R87_one_long_span_gives_the_same_as_its_parts(keyring: Keyring, stops: list[int]) -> None:
    stops.sort()
    whole = settle(keyring, hour(stops[-1]))
    parts: list[Change] = []
    for stop in stops:
        part = settle(keyring, hour(stop))
        keyring = part.keyring
        parts.extend(part.changes)
    assert keyring == whole.keyring
    assert tuple(parts) == whole.changes
    assert [change.at for change in parts] == sorted(change.at for change in parts)
    assert all(change.at <= hour(stops[-1]) for change in parts)
    assert settle(keyring, hour(stops[-1])).changes == ()


@settings(max_examples=150, deadline=None, database=None)
@given(keyrings(), HOURS)
def test_next_due_is_exact(keyring: Keyring, now_hour: int) -> None:
    now = hour(now_hour)
    settled = settle(keyring, now).keyring
    due = next_due(keyring, now)
    if due is None:
        assert settle(settled, hour(10_000)).changes == ()
        return
    assert due > now
    assert settle(settled, due - MICROSECOND).changes == ()
    assert settle(settled, due).changes[0].at == due


@settings(max_examples=150, deadline=None, database=None)
@given(keyrings(), HOURS)
def test_R87_no_valid_reserve_waits_beside_an_unusable_active_key(
    keyring: Keyring, now_hour: int
) -> None:
    now = hour(now_hour)
    after = settle(keyring, now).keyring
    for reserve in after.reserves():
        active = after.active(reserve.key.type)
        assert (
            active is None
            or usable(active, now)
            or not usable(reserve, now)
            or not (active.key.has_started_at(now))
        )

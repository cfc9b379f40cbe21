"""A forecast tells each gap before it comes; the rules themselves, walked slowly, agree."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings

from sparekey.licensing.forecast import GapReason, SvmSituation, WalkedFleet, forecast
from sparekey.licensing.guests import GuestMix, OsClass
from sparekey.licensing.keyring import HeldKey, Keyring, Role, Slot
from sparekey.licensing.keys import KeyKind, KeyOrigin, KeyType, LicenseKey
from sparekey.licensing.modes import Mode
from sparekey.licensing.walking import AddGuests, BlockKey, EndKey, WhatIf

from .random_fleets import NOW, UNTIL, day, fleets, gaps_met, key, walk_slowly


def svm(
    *actives: LicenseKey,
    reserves: tuple[LicenseKey, ...] = (),
    servers: int = 3,
    desktops: int = 0,
    name: str = "svm-1",
    installed: datetime = NOW - timedelta(days=1),
) -> SvmSituation:
    held = {Slot(one.type, Role.ACTIVE): HeldKey(one, installed) for one in actives}
    held |= {Slot(one.type, Role.RESERVE): HeldKey(one, installed) for one in reserves}
    return SvmSituation(name, Keyring(held), GuestMix(servers, desktops))


def spans(*svms: SvmSituation, what_if: list[WhatIf] | None = None) -> list[tuple[object, ...]]:
    found = forecast(svms, NOW, UNTIL, what_if or []).gaps
    return [
        (one.gap.os_class, one.gap.starts_at, one.gap.ends_at, one.gap.mode, one.gap.reason)
        for one in found
    ]


def test_an_svm_whose_reserve_outlasts_the_horizon_has_no_gap() -> None:
    assert spans(svm(key(1, ends=10), reserves=(key(2, ends=90),))) == []


def test_R71_an_expired_key_leaves_its_guests_limited_from_its_very_end() -> None:
    expected = (OsClass.SERVER, day(10), None, Mode.LIMITED, GapReason.KEY_EXPIRED)
    assert spans(svm(key(1, ends=10))) == [expected]


def test_R70_an_expired_trial_leaves_nothing() -> None:
    expected = (OsClass.SERVER, day(10), None, Mode.OFF, GapReason.TRIAL_EXPIRED)
    assert spans(svm(key(1, kind=KeyKind.TRIAL, ends=10))) == [expected]


def test_R90_the_class_whose_key_ends_has_a_gap_while_the_other_one_goes_on() -> None:
    mixed = svm(key(1, ends=90), key(2, KeyType.DESKTOP, ends=20), desktops=4)
    (found,) = forecast([mixed], NOW, UNTIL).gaps
    assert (found.gap.os_class, found.gap.starts_at, found.guests) == (OsClass.DESKTOP, day(20), 4)


def test_R33_guests_without_a_key_of_their_type_are_told_at_once() -> None:
    assert spans(svm(servers=1)) == [
        (OsClass.SERVER, NOW, None, Mode.OFF, GapReason.NO_KEY),
    ]
    assert spans(svm(key(1, ends=90), desktops=1)) == [
        (OsClass.DESKTOP, NOW, None, Mode.OFF, GapReason.NO_KEY_FOR_CLASS),
    ]


def test_R95_a_blocked_key_first_costs_nothing_and_then_the_updates() -> None:
    assert spans(svm(key(1, ends=90)), what_if=[BlockKey(key(1).serial, day(5))]) == [
        (OsClass.SERVER, day(5), day(13), Mode.FULL, GapReason.KEY_BLOCKED),
        (OsClass.SERVER, day(13), None, Mode.LIMITED, GapReason.KEY_BLOCKED),
    ]


def test_R54_R82_void_keys_leave_their_guests_limited_and_no_reserve_helps() -> None:
    one = replace(svm(key(1, ends=10), reserves=(key(2, ends=90),), desktops=1), void=True)
    assert spans(one) == [
        (OsClass.SERVER, NOW, day(10), Mode.LIMITED, GapReason.KEY_VOID),
        (OsClass.SERVER, day(10), None, Mode.LIMITED, GapReason.KEY_VOID),
        (OsClass.DESKTOP, NOW, None, Mode.OFF, GapReason.NO_KEY_FOR_CLASS),
    ]


def test_R82_what_costs_the_guests_more_than_void_keys_is_the_reason() -> None:
    over = replace(svm(key(1, kind=KeyKind.TRIAL, ends=10)), void=True)
    blocked = replace(svm(key(1, ends=90)), void=True)
    assert spans(over)[1] == (OsClass.SERVER, day(10), None, Mode.OFF, GapReason.TRIAL_EXPIRED)
    assert spans(blocked, what_if=[BlockKey(key(1).serial, day(5))]) == [
        (OsClass.SERVER, NOW, day(13), Mode.LIMITED, GapReason.KEY_VOID),
        (OsClass.SERVER, day(13), None, Mode.LIMITED, GapReason.KEY_BLOCKED),
    ]


def test_R82_svms_with_the_same_keys_are_told_apart_by_whether_these_are_void() -> None:
    one = svm(key(1, ends=90))
    assert [
        found.svm_id
        for found in forecast([one, replace(one, svm_id="svm-2", void=True)], NOW, UNTIL).gaps
    ] == ["svm-2"]


def test_R85_a_blocked_key_with_a_reserve_makes_no_gap() -> None:
    one = svm(key(1, ends=70), reserves=(key(2, ends=90),))
    assert spans(one, what_if=[BlockKey(key(1).serial, day(5))]) == []


def test_a_cancelled_subscription_ends_and_its_guests_are_told() -> None:
    one = svm(key(1, kind=KeyKind.SUBSCRIPTION, ends=None))
    assert spans(one) == []
    assert spans(one, what_if=[EndKey(key(1).serial, day(5))]) == [
        (OsClass.SERVER, day(5), None, Mode.LIMITED, GapReason.SUBSCRIPTION_ENDED),
    ]


def test_a_reserve_that_starts_late_leaves_a_gap_between() -> None:
    one = svm(key(1, ends=10), reserves=(key(2, starts=14, ends=90),))
    assert spans(one) == [
        (OsClass.SERVER, day(10), day(14), Mode.LIMITED, GapReason.KEY_EXPIRED),
    ]


@pytest.mark.parametrize(
    ("origin", "kind", "hope"),
    [
        (KeyOrigin.ACTIVATION_CODE, KeyKind.COMMERCIAL, True),
        (KeyOrigin.ACTIVATION_CODE, KeyKind.TRIAL, False),
        (KeyOrigin.KEY_FILE, KeyKind.COMMERCIAL, False),
    ],
)
def test_a_key_that_came_by_code_may_renew_itself_and_is_not_counted_on(
    origin: KeyOrigin, kind: KeyKind, hope: bool
) -> None:
    by_code = origin is KeyOrigin.ACTIVATION_CODE
    serial = f"{1:032X}" if by_code else key(1).serial
    one = replace(key(1, kind=kind, ends=10), serial=serial, origin=origin)
    (found,) = forecast([svm(one)], NOW, UNTIL).gaps
    assert found.gap.may_renew_itself is hope


def test_guests_that_come_are_counted_where_they_come_only() -> None:
    one, other = svm(key(1, ends=90)), svm(key(1, ends=90), name="svm-2")
    found = forecast([one, other], NOW, UNTIL, [AddGuests("svm-2", day(3), desktops=40)])
    (gap,) = found.gaps
    assert (gap.svm_id, gap.guests, gap.gap.starts_at) == ("svm-2", 40, day(3))
    _, desktops = found.summary()
    assert (desktops.svms, desktops.guests, desktops.first_gap_at) == (1, 40, day(3))
    assert found.svms_with_gaps() == 1


def test_svms_that_cannot_differ_are_walked_once() -> None:
    fleet = WalkedFleet(NOW, UNTIL)
    one = svm(key(1, ends=10))
    other = svm(key(1, ends=10), name="svm-2", servers=9, installed=NOW - timedelta(days=9))
    assert fleet.course(one) is fleet.course(other)
    assert fleet.course(one) is not fleet.course(svm(key(1, ends=10), desktops=1))


@settings(max_examples=60, deadline=None)
@given(fleets())
def test_walking_the_clock_meets_exactly_the_gaps_that_were_forecast(
    fleet: tuple[list[LicenseKey], list[SvmSituation], list[WhatIf]],
) -> None:
    _, svms, what_if = fleet
    told = forecast(svms, NOW, UNTIL, what_if).gaps
    for one in svms:
        mine = [found for found in told if found.svm_id == one.svm_id]
        foreseen = {
            (now, found.gap.os_class)
            for now in (day(half / 2) for half in range(120))
            for found in mine
            if found.gap.starts_at <= now < (found.gap.ends_at or UNTIL)
        }
        assert foreseen == gaps_met(one, what_if)
        for now, keyring, guests, _ in walk_slowly(one, what_if):
            for found in mine:
                if found.gap.starts_at <= now < (found.gap.ends_at or UNTIL):
                    assert guests.count(found.gap.os_class) <= found.guests
                    mode = mode_by_hand(keyring, found.gap.os_class, now, void=one.void)
                    assert found.gap.mode is mode


def mode_by_hand(keyring: Keyring, os_class: OsClass, now: datetime, *, void: bool) -> Mode:
    own = KeyType.SERVER if os_class is OsClass.SERVER else KeyType.DESKTOP
    held = [
        one for one in keyring.actives() if one.key.type in (own, KeyType.CORES, KeyType.PROCESSORS)
    ]
    if not held:
        return Mode.OFF
    (one,) = held
    if one.key.expires_at and one.key.expires_at <= now:
        return Mode.OFF if one.key.kind is KeyKind.TRIAL else Mode.LIMITED
    if one.blocked_at and not void and now - one.blocked_at < timedelta(days=8):
        return Mode.FULL
    return Mode.LIMITED

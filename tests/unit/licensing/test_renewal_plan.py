"""A plan closes every gap, and not one of its keys is too many."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from sparekey.licensing.forecast import SvmSituation
from sparekey.licensing.guests import GuestMix, HostCpu
from sparekey.licensing.keyring import HeldKey, Keyring, Role, Slot
from sparekey.licensing.keys import Edition, KeyKind, KeyType, LicenseKey
from sparekey.licensing.renewal_plan import StorageKey, plan_renewal
from sparekey.licensing.walking import BlockKey, EndKey, WhatIf

from .random_fleets import NOW, UNTIL, acts, cured, day, fleets, gaps_met, key


def svm(
    name: str, *actives: LicenseKey, reserves: tuple[LicenseKey, ...] = (), servers: int = 3
) -> SvmSituation:
    installed = NOW - timedelta(days=1)
    held = {Slot(one.type, Role.ACTIVE): HeldKey(one, installed) for one in actives}
    held |= {Slot(one.type, Role.RESERVE): HeldKey(one, installed) for one in reserves}
    return SvmSituation(
        name, Keyring(held), GuestMix(servers), host_uuid="host-1", host_cpu=HostCpu(2, 16)
    )


def test_one_key_is_bought_for_all_svms_of_a_type_and_edition() -> None:
    old, late = key(1, ends=10), key(2, ends=20)
    plan = plan_renewal([svm("a", old), svm("b", late), svm("c", old)], [], NOW, UNTIL)
    (bought,) = plan.keys
    assert (bought.type, bought.edition, bought.units) == (KeyType.SERVER, Edition.STANDARD, 9)
    assert (bought.serial, bought.starts_by, bought.until) == (None, day(10), UNTIL)
    (task,) = bought.tasks
    assert (task.role, task.run_from, task.run_by) == (Role.RESERVE, NOW, day(10))
    assert (task.svm_ids, task.guests) == (("a", "b", "c"), 9)


def test_keys_of_the_storage_with_room_come_first() -> None:
    fleet = [svm("a", key(1, ends=10), servers=5), svm("b", key(1, ends=10), servers=2)]
    storage = [
        StorageKey(key(3, ends=70), 1),
        StorageKey(key(4, ends=70), 6),
        StorageKey(key(5, ends=50), 100),  # ends before the horizon
        StorageKey(key(6, ends=70, edition=Edition.ENTERPRISE), 100),
        StorageKey(key(7, starts=11, ends=70), 100),  # starts after the gap
        StorageKey(key(8, kind=KeyKind.SUBSCRIPTION, ends=None), 100),
    ]
    reused, bought = plan_renewal(fleet, storage, NOW, UNTIL).keys
    assert (reused.serial, reused.units, reused.tasks[0].svm_ids) == (key(4).serial, 5, ("a",))
    assert (bought.serial, bought.units, bought.tasks[0].svm_ids) == (None, 2, ("b",))


def test_R4_R26_beside_a_subscription_the_key_is_activated_shortly_before_its_end() -> None:
    subscribed = svm("a", key(1, kind=KeyKind.SUBSCRIPTION, ends=30))
    (bought,) = plan_renewal([subscribed], [], NOW, UNTIL).keys
    (task,) = bought.tasks
    assert (task.role, task.run_from, task.run_by) == (Role.ACTIVE, day(23), day(30))


def test_R84_a_reserve_waits_for_its_turn_behind_the_one_that_is_there() -> None:
    one = svm("a", key(1, ends=10), reserves=(key(2, ends=40),))
    (bought,) = plan_renewal([one], [], NOW, UNTIL).keys
    (task,) = bought.tasks
    assert (task.role, task.run_from, task.run_by) == (Role.RESERVE, day(10), day(40))


def test_R84_behind_a_key_that_is_supposed_to_end_early_no_reserve_could_be_added() -> None:
    one = svm("a", key(1, ends=90))
    (bought,) = plan_renewal([one], [], NOW, UNTIL, [EndKey(key(1).serial, day(20))]).keys
    (task,) = bought.tasks
    assert (task.role, task.run_from, task.run_by) == (Role.ACTIVE, day(13), day(20))


def test_a_task_never_has_less_time_because_of_another() -> None:
    soon, later = svm("a", key(1, ends=10)), svm("b", key(1, ends=10), reserves=(key(2, ends=40),))
    (bought,) = plan_renewal([soon, later, svm("c", key(3, ends=30))], [], NOW, UNTIL).keys
    assert [(task.run_from, task.run_by, task.svm_ids) for task in bought.tasks] == [
        (NOW, day(10), ("a", "c")),
        (day(10), day(40), ("b",)),
    ]


def test_R91_two_svms_beside_one_host_need_its_cores_once() -> None:
    cores = key(1, KeyType.CORES, ends=10)
    (bought,) = plan_renewal([svm("a", cores), svm("b", cores)], [], NOW, UNTIL).keys
    assert (bought.type, bought.units) == (KeyType.CORES, 16)


def test_R40_R41_an_svm_without_a_key_gets_what_the_others_run_under() -> None:
    usual = key(1, KeyType.PROCESSORS, edition=Edition.ENTERPRISE, ends=90)
    (bought,) = plan_renewal([svm("a", usual), svm("b")], [], NOW, UNTIL).keys
    assert (bought.type, bought.edition) == (KeyType.PROCESSORS, Edition.ENTERPRISE)
    assert bought.tasks[0].svm_ids == ("b",)
    assert bought.tasks[0].role is Role.ACTIVE


def test_R82_void_keys_are_told_and_planned_for_as_if_they_were_cured() -> None:
    fleet = [svm("a", key(1, ends=10)), svm("b", key(1, ends=90))]
    void = [replace(one, void=True) for one in fleet]
    plan = plan_renewal(void, [], NOW, UNTIL)
    assert plan.void_svm_ids == ("a", "b")
    assert plan.keys == plan_renewal(fleet, [], NOW, UNTIL).keys


def test_a_key_that_is_supposed_to_be_blocked_is_not_counted_on() -> None:
    fleet = [svm("a", key(1, ends=10))]
    storage = [StorageKey(key(2, ends=70), 100)]
    (reused,) = plan_renewal(fleet, storage, NOW, UNTIL).keys
    assert reused.serial == key(2).serial
    blocked = plan_renewal(fleet, storage, NOW, UNTIL, [BlockKey(key(2).serial, day(3))])
    assert [one.serial for one in blocked.keys] == [None]


@settings(max_examples=60, deadline=None)
@given(fleets(), st.booleans(), st.booleans())
def test_a_plan_closes_every_gap_and_each_of_its_keys_is_needed(
    fleet: tuple[list[LicenseKey], list[SvmSituation], list[WhatIf]],
    with_storage: bool,
    late: bool,
) -> None:
    pool, svms, what_if = fleet
    blocked = {
        held.key.serial
        for one in svms
        for held in one.keyring.slots.values()
        if held.blocked_at is not None
    }
    storage = [
        StorageKey(one, one.unit_limit)
        for one in pool
        if with_storage and one.serial not in blocked
    ]
    plan = plan_renewal(svms, storage, NOW, UNTIL, what_if)
    by_serial = {one.serial: one for one in pool}

    told = acts(plan.keys, by_serial, late)
    assert list(plan.void_svm_ids) == [one.svm_id for one in svms if one.void]
    svms = [cured(one) for one in svms]
    assert [gaps_met(one, what_if, told.get(one.svm_id)) for one in svms] == [set()] * len(svms)

    bought = [(one.type, one.edition) for one in plan.to_buy()]
    assert len(set(bought)) == len(bought)
    for one in plan.keys:
        rest = acts([other for other in plan.keys if other is not one], by_serial, late)
        assert any(gaps_met(each, what_if, rest.get(each.svm_id)) for each in svms)
    for one in plan.keys:
        if one.serial:
            assert one.units <= by_serial[one.serial].unit_limit

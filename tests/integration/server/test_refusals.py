"""Each reason for which an SVM gets no key, end to end: dry run, run, SVM and history."""

from __future__ import annotations

import pytest

from sparekey.licensing.keys import Edition, KeyKind, KeyType, LicenseKey
from sparekey.v1 import event_pb2

from .site import Site
from .words import Held, outcomes_of, state_of


async def refused(site: Site, key: LicenseKey, reason: str, *, reserve: bool = True) -> None:
    """Insist that a task is refused, as its dry run says, and that the SVM is as it was."""
    before = await site.held("svm-1")
    start = site.renew if reserve else site.activate
    dry = await start(key, "svm-1", validate_only=True)
    assert (outcomes_of(dry), state_of(dry)) == ({"svm-1": reason}, "FAILED")
    task = await site.ended(start(key, "svm-1"))
    assert (outcomes_of(task), state_of(task)) == ({"svm-1": reason}, "FAILED")
    assert await site.held("svm-1") == site.truly_held("svm-1") == before
    events = await site.history(event_pb2.EVENT_KIND_INSTRUCTION_REFUSED, task_id=task.task_id)
    assert [(event.svm_id, event.key_serial) for event in events] == [("svm-1", key.serial)]
    assert events[0].refusal == task.outcomes[0].reason
    assert events[0].message == task.outcomes[0].message != ""


async def test_R12_a_reserve_without_an_active_key(site: Site) -> None:
    await site.connect("svm-1")
    await refused(site, await site.new_key(), "NO_ACTIVE_KEY")


@pytest.mark.parametrize("ends", [30, None])
async def test_R4_R13_a_reserve_under_a_subscription(site: Site, ends: float | None) -> None:
    await site.connect("svm-1")
    await site.license(await site.new_key(kind=KeyKind.SUBSCRIPTION, ends=ends))
    await refused(site, await site.new_key(ends=60), "ACTIVE_IS_SUBSCRIPTION")


@pytest.mark.parametrize(
    ("active", "reserve"),
    [
        (KeyType.SERVER, KeyType.DESKTOP),
        (KeyType.CORES, KeyType.PROCESSORS),
        (KeyType.PROCESSORS, KeyType.SERVER),
    ],
)
async def test_R5_R7_R14_a_reserve_of_another_type(
    site: Site, active: KeyType, reserve: KeyType
) -> None:
    await site.connect("svm-1", servers=1)
    await site.license(await site.new_key(active))
    await refused(site, await site.new_key(reserve, ends=60), "TYPE_MISMATCH")


async def test_R8_R28_R75_a_reserve_of_another_edition(site: Site) -> None:
    await site.connect("svm-1")
    await site.license(await site.new_key(edition=Edition.STANDARD))
    await refused(site, await site.new_key(edition=Edition.ENTERPRISE, ends=60), "EDITION_MISMATCH")


@pytest.mark.parametrize("kind", [KeyKind.TRIAL, KeyKind.SUBSCRIPTION])
async def test_R26_a_reserve_that_is_not_commercial(site: Site, kind: KeyKind) -> None:
    await site.connect("svm-1")
    await site.license(await site.new_key())
    await refused(site, await site.new_key(kind=kind, ends=60), "KIND_NOT_ALLOWED_AS_RESERVE")


@pytest.mark.parametrize("ends", [29, 30])
async def test_R84_a_reserve_that_does_not_end_later(site: Site, ends: float) -> None:
    await site.connect("svm-1")
    await site.license(await site.new_key(ends=30))
    await refused(site, await site.new_key(ends=ends), "RESERVE_NOT_LATER")


async def test_R84_the_active_key_itself_is_no_reserve(site: Site) -> None:
    await site.connect("svm-1")
    key = await site.new_key()
    await site.license(key)
    await refused(site, key, "RESERVE_NOT_LATER")


@pytest.mark.parametrize("type_", [KeyType.SERVER, KeyType.CORES])
async def test_R27_a_trial_in_place_of_a_commercial_key(site: Site, type_: KeyType) -> None:
    await site.connect("svm-1")
    await site.license(await site.new_key(KeyType.SERVER))
    trial = await site.new_key(type_, kind=KeyKind.TRIAL, ends=60)
    await refused(site, trial, "TRIAL_OVER_COMMERCIAL", reserve=False)


async def test_R81_an_active_key_that_has_not_begun(site: Site) -> None:
    await site.connect("svm-1")
    later = await site.new_key(starts=1, ends=60)
    await refused(site, later, "KEY_NOT_YET_VALID", reserve=False)
    await site.advance(1)
    assert outcomes_of(await site.ended(site.activate(later))) == {"svm-1": "APPLIED"}


async def test_R77_the_first_of_several_reasons_is_told(site: Site) -> None:
    await site.connect("svm-1")
    trial = await site.new_key(KeyType.CORES, kind=KeyKind.TRIAL, edition=Edition.ENTERPRISE)
    await refused(site, trial, "KIND_NOT_ALLOWED_AS_RESERVE")
    other = await site.new_key(KeyType.CORES, edition=Edition.ENTERPRISE, ends=10)
    await refused(site, other, "NO_ACTIVE_KEY")
    subscription = await site.new_key(KeyType.DESKTOP, kind=KeyKind.SUBSCRIPTION)
    commercial = await site.new_key(KeyType.SERVER)
    await site.license(subscription, commercial)
    await refused(site, other, "ACTIVE_IS_SUBSCRIPTION")
    await site.license(await site.new_key(KeyType.DESKTOP, ends=20))
    await refused(site, other, "TYPE_MISMATCH")


@pytest.mark.parametrize(
    ("kept", "wanted"),
    [
        ({}, {("SERVER", "ACTIVE"): "first"}),
        ({"reserve": 60}, {("SERVER", "ACTIVE"): "first", ("SERVER", "RESERVE"): "reserve"}),
    ],
)
async def test_R10_a_wide_task_adds_the_reserve_only_where_a_key_is_active(
    site: Site, kept: dict[str, float], wanted: Held
) -> None:
    """R10, R12: those without an active key are reported and stay as they are."""
    await site.connect("bare", "licensed", "of-cores")
    first = await site.new_key(ends=30)
    names = {"first": first.serial}
    await site.ended(site.activate(first, "licensed"))
    await site.ended(site.activate(await site.new_key(KeyType.CORES), "of-cores"))
    for name, ends in kept.items():
        reserve = await site.new_key(ends=ends)
        names[name] = reserve.serial
        task = await site.ended(site.renew(reserve))
        assert outcomes_of(task) == {
            "bare": "NO_ACTIVE_KEY",
            "licensed": "APPLIED",
            "of-cores": "TYPE_MISMATCH",
        }
        assert state_of(task) == "PARTIAL"
    assert await site.held("licensed") == {slot: names[name] for slot, name in wanted.items()}
    assert await site.held("bare") == {}

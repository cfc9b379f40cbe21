"""What becomes of reserve keys: kept, dropped, replaced, promoted; and changes of scheme."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sparekey.licensing.keys import Edition, KeyKind, KeyType
from sparekey.v1 import event_pb2, fleet_pb2

from .site import NOW, Site
from .words import outcomes_of

SERVER, DESKTOP = ("SERVER", "ACTIVE"), ("DESKTOP", "ACTIVE")
SERVER_RESERVE, DESKTOP_RESERVE = ("SERVER", "RESERVE"), ("DESKTOP", "RESERVE")


@pytest.mark.parametrize(
    ("new_ends", "kept"), [(59.999, True), (60, False), (60.001, False)], ids=str
)
async def test_R18_R83_a_new_active_key_drops_a_reserve_that_ends_no_later(
    site: Site, new_ends: float, kept: bool
) -> None:
    await site.connect("svm-1", servers=1)
    reserve, new = await site.new_key(ends=60), await site.new_key(ends=new_ends)
    await site.license(await site.new_key(ends=30), reserves=[reserve])
    assert outcomes_of(await site.ended(site.activate(new))) == {"svm-1": "APPLIED"}
    wanted = {SERVER: new.serial} | ({SERVER_RESERVE: reserve.serial} if kept else {})
    assert await site.held("svm-1") == site.truly_held("svm-1") == wanted
    last = (await site.changes("svm-1"))[-1]
    if kept:
        assert last[:3] == ("KEY_REPLACED", "REQUESTED", new.serial)
    else:
        assert last[:3] == ("RESERVE_REMOVED", "RESERVE_ENDS_TOO_EARLY", reserve.serial)


async def test_R19_after_the_drop_another_reserve_may_be_added(site: Site) -> None:
    await site.connect("svm-1")
    new, later = await site.new_key(ends=90), await site.new_key(ends=120)
    await site.license(await site.new_key(ends=30), reserves=[await site.new_key(ends=60)])
    await site.license(new, reserves=[later])
    assert await site.held("svm-1") == {SERVER: new.serial, SERVER_RESERVE: later.serial}


async def test_R83_a_new_server_key_leaves_the_desktop_reserve_alone(site: Site) -> None:
    await site.connect("svm-1", servers=1, desktops=1)
    desktop, desktop_reserve = (
        await site.new_key(DESKTOP_TYPE, ends=30),
        await site.new_key(DESKTOP_TYPE, ends=60),
    )
    await site.license(
        await site.new_key(ends=30),
        desktop,
        reserves=[await site.new_key(ends=60), desktop_reserve],
    )
    new = await site.new_key(ends=90)
    await site.ended(site.activate(new))
    assert await site.held("svm-1") == {
        SERVER: new.serial,
        DESKTOP: desktop.serial,
        DESKTOP_RESERVE: desktop_reserve.serial,
    }


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ({"edition": Edition.ENTERPRISE}, "EDITION_CHANGED"),
        ({"kind": KeyKind.SUBSCRIPTION}, "ACTIVE_NOT_COMMERCIAL"),
    ],
    ids=["edition", "subscription"],
)
async def test_R86_a_new_active_key_drops_a_reserve_that_no_longer_fits(
    site: Site, new: dict[str, object], reason: str
) -> None:
    await site.connect("svm-1")
    reserve = await site.new_key(ends=60)
    await site.license(await site.new_key(ends=30), reserves=[reserve])
    await site.license(await site.new_key(ends=40, **new))
    assert (await site.changes("svm-1"))[-1][:3] == ("RESERVE_REMOVED", reason, reserve.serial)


async def test_R84_a_second_reserve_takes_the_place_of_the_first(site: Site) -> None:
    await site.connect("svm-1")
    second = await site.new_key(ends=50)
    await site.license(await site.new_key(ends=30), reserves=[await site.new_key(ends=60), second])
    assert (await site.changes("svm-1"))[-1][:3] == (
        "RESERVE_REPLACED",
        "REQUESTED",
        second.serial,
    )


@pytest.mark.parametrize("new", [KeyType.CORES, KeyType.PROCESSORS])
async def test_R36_R37_another_scheme_removes_all_keys_of_the_old_one(
    site: Site, new: KeyType
) -> None:
    await site.connect("svm-1", servers=1, desktops=1)
    server, desktop = await site.new_key(ends=30), await site.new_key(DESKTOP_TYPE, ends=30)
    reserves = [await site.new_key(ends=60), await site.new_key(DESKTOP_TYPE, ends=60)]
    await site.license(server, desktop, reserves=reserves)
    key = await site.new_key(new)
    await site.license(key)
    assert (
        await site.held("svm-1") == site.truly_held("svm-1") == {(new.name, "ACTIVE"): key.serial}
    )
    removed = (await site.changes("svm-1"))[4:]
    assert {serial for kind, _, serial, _ in removed if kind.endswith("REMOVED")} == {
        one.serial for one in (server, desktop, *reserves)
    }
    assert [reason for _, reason, _, _ in removed] == ["SCHEME_CHANGED"] * 4 + ["REQUESTED"]


async def test_R36_from_cores_to_processors(site: Site) -> None:
    await site.connect("svm-1")
    await site.license(
        await site.new_key(KeyType.CORES, ends=30),
        reserves=[await site.new_key(KeyType.CORES, ends=60)],
    )
    key = await site.new_key(KeyType.PROCESSORS)
    await site.license(key)
    assert await site.held("svm-1") == {("PROCESSORS", "ACTIVE"): key.serial}


async def test_R11_R87_the_reserve_takes_over_at_the_true_instant(site: Site) -> None:
    """One jump over the end: the event bears the instant of the end, not of the jump."""
    await site.connect("svm-1")
    active, reserve = await site.new_key(ends=30), await site.new_key(ends=60)
    await site.license(active, reserves=[reserve])
    await site.advance(29.999)
    assert await site.held("svm-1") == {SERVER: active.serial, SERVER_RESERVE: reserve.serial}
    await site.advance(10)
    assert await site.held("svm-1") == {SERVER: reserve.serial}
    ended = NOW + timedelta(days=30)
    assert (await site.changes("svm-1"))[2:] == [
        ("RESERVE_PROMOTED", "ACTIVE_EXPIRED", reserve.serial, ended)
    ]
    promotion = (await site.history(event_pb2.EVENT_KIND_KEYRING_CHANGED))[-1]
    assert promotion.occurred_at.ToDatetime(tzinfo=ended.tzinfo) == ended
    assert promotion.recorded_at.ToDatetime(tzinfo=ended.tzinfo) == site.now
    assert promotion.change.previous_serial == active.serial
    assert (await site.svm("svm-1")).mode == fleet_pb2.PROTECTION_MODE_FULL


async def test_R71_without_a_reserve_the_svm_is_limited(site: Site) -> None:
    await site.connect("svm-1")
    active = await site.new_key(ends=30)
    await site.license(active)
    await site.advance(30)
    svm = await site.svm("svm-1")
    assert svm.mode == fleet_pb2.PROTECTION_MODE_LIMITED
    assert (await site.changes("svm-1"))[-1] == (
        "KEY_EXPIRED",
        "EXPIRED",
        active.serial,
        NOW + timedelta(days=30),
    )


async def test_R87_an_offline_svm_is_predicted_until_it_confirms(site: Site) -> None:
    await site.connect("svm-1")
    active, reserve = await site.new_key(ends=30), await site.new_key(ends=60)
    await site.license(active, reserves=[reserve])
    assert not (await site.svm("svm-1")).HasField("predicted_keyring")
    await site.disconnect("svm-1")
    await site.advance(31)
    svm = await site.svm("svm-1")
    assert [held.serial for held in svm.keyring.keys] == [active.serial, reserve.serial]
    assert [held.serial for held in svm.predicted_keyring.keys] == [reserve.serial]
    assert svm.mode == fleet_pb2.PROTECTION_MODE_FULL
    await site.reconnect("svm-1")
    svm = await site.until_svm("svm-1", lambda svm: not svm.HasField("predicted_keyring"))
    assert [held.serial for held in svm.keyring.keys] == [reserve.serial]
    assert (await site.changes("svm-1"))[2:] == [
        ("RESERVE_PROMOTED", "ACTIVE_EXPIRED", reserve.serial, NOW + timedelta(days=30))
    ]


async def test_R70_a_predicted_end_of_a_trial_turns_everything_off(site: Site) -> None:
    await site.connect("svm-1")
    await site.license(await site.new_key(kind=KeyKind.TRIAL, ends=30))
    await site.disconnect("svm-1")
    await site.advance(30)
    svm = await site.svm("svm-1")
    assert svm.mode == fleet_pb2.PROTECTION_MODE_OFF
    assert [held.HasField("ended_at") for held in svm.predicted_keyring.keys] == [True]
    assert [held.HasField("ended_at") for held in svm.keyring.keys] == [False]


DESKTOP_TYPE = KeyType.DESKTOP

"""Keys that the activation server has blocked (R72, R85)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sparekey.activation.control.v1 import control_pb2
from sparekey.licensing.keys import KeyType
from sparekey.v1 import event_pb2, fleet_pb2, key_pb2, license_pb2
from sparekey.wire.timestamps import from_timestamp, to_duration

from .site import NOW, Site
from .words import outcomes_of, refusal_of, state_of

ACTIVE, RESERVE = ("SERVER", "ACTIVE"), ("SERVER", "RESERVE")


async def issued(site: Site, *, days: float) -> str:
    """A key of the activation server's own, in the storage by its file."""
    properties = control_pb2.KeyProperties(
        type=key_pb2.KEY_TYPE_SERVER,
        kind=key_pb2.KEY_KIND_COMMERCIAL,
        edition=key_pb2.EDITION_STANDARD,
        unit_limit=100,
        term=to_duration(timedelta(days=days)),
    )
    answer = await site.control.IssueKey(control_pb2.IssueKeyRequest(key=properties))
    await site.keys.AddKey(key_pb2.AddKeyRequest(key_file=answer.key_file))
    return answer.serial


async def block(site: Site, serial: str) -> None:
    await site.control.BlockKey(control_pb2.BlockKeyRequest(serial=serial))


async def refresh(site: Site, **more: object) -> list[str]:
    request = key_pb2.RefreshKeysRequest(**more)  # type: ignore[arg-type]
    return [key.serial for key in (await site.keys.RefreshKeys(request)).newly_blocked_keys]


def knows_of_a_block(svm: fleet_pb2.Svm) -> bool:
    return any(held.HasField("blocked_at") for held in svm.keyring.keys)


async def test_R72_R85_a_blocked_active_key_is_replaced_by_its_reserve_at_once(
    site_with_codes: Site,
) -> None:
    site = site_with_codes
    await site.connect("svm-1", "svm-2")
    active, reserve = await issued(site, days=30), await issued(site, days=60)
    await site.ended(site.activate(active))
    await site.ended(site.renew(reserve, "svm-1"))
    assert await refresh(site) == []
    await block(site, active)
    assert await refresh(site) == [active]
    await site.until_held("svm-1", {ACTIVE: reserve})
    await site.until_svm("svm-2", knows_of_a_block)
    assert [one[:3] for one in (await site.changes("svm-1"))[2:]] == [
        ("KEY_BLOCKED", "BLOCKED", active),
        ("RESERVE_PROMOTED", "ACTIVE_BLOCKED", reserve),
    ]
    assert [event.key_serial for event in await site.history(event_pb2.EVENT_KIND_KEY_BLOCKED)] == [
        active
    ]
    assert await refresh(site) == []


async def test_R72_a_blocked_reserve_is_removed(site_with_codes: Site) -> None:
    site = site_with_codes
    await site.connect("svm-1")
    active, reserve = await issued(site, days=30), await issued(site, days=60)
    await site.ended(site.activate(active))
    await site.ended(site.renew(reserve))
    await block(site, reserve)
    await refresh(site)
    await site.until_held("svm-1", {ACTIVE: active})
    assert (await site.changes("svm-1"))[-1][:3] == ("RESERVE_REMOVED", "BLOCKED", reserve)


async def test_R98_a_blocked_key_stays_listed_and_is_in_no_new_task(site_with_codes: Site) -> None:
    site = site_with_codes
    await site.connect("svm-1")
    key = await issued(site, days=30)
    await block(site, key)
    await refresh(site)
    listed = (await site.keys.ListKeys(key_pb2.ListKeysRequest())).keys
    assert [(one.serial, from_timestamp(one.blocked_at)) for one in listed] == [(key, NOW)]
    for start in (site.activate, site.renew):
        problem = await refusal_of(start(key))
        assert (problem.reason, problem.metadata) == ("KEY_BLOCKED", {"serial": key})
        assert (await refusal_of(start(key, validate_only=True))).reason == "KEY_BLOCKED"


async def test_R85_a_blocked_key_is_told_to_an_svm_when_it_is_back(site_with_codes: Site) -> None:
    site = site_with_codes
    await site.connect("svm-1")
    active, reserve = await issued(site, days=30), await issued(site, days=60)
    await site.ended(site.activate(active))
    await site.ended(site.renew(reserve))
    await site.disconnect("svm-1")
    await block(site, active)
    assert await refresh(site) == [active]
    assert (await site.svm("svm-1")).pending_instruction_count == 1
    await site.reconnect("svm-1")
    await site.until_held("svm-1", {ACTIVE: reserve})


async def test_R72_a_key_that_is_blocked_before_an_svm_got_it_never_reaches_it(
    site_with_codes: Site,
) -> None:
    site = site_with_codes
    await site.connect("svm-1")
    good, bad = await issued(site, days=30), await issued(site, days=60)
    await site.ended(site.activate(good))
    await site.disconnect("svm-1")
    task = await site.activate(bad)
    await block(site, bad)
    await refresh(site)
    task = await site.ended(site.task(task))
    assert (outcomes_of(task), state_of(task)) == ({"svm-1": "KEY_BLOCKED"}, "FAILED")
    await site.reconnect("svm-1")
    await site.until_held("svm-1", {ACTIVE: good})
    assert len(await site.changes("svm-1")) == 1


async def test_R72_the_regular_check_finds_blocked_keys_by_itself(site_with_codes: Site) -> None:
    site = site_with_codes
    await site.connect("svm-1")
    key = await issued(site, days=30)
    await site.ended(site.activate(key))
    await block(site, key)
    await site.advance(0.999 / 24)
    assert not knows_of_a_block(await site.svm("svm-1"))
    await site.advance(0.001 / 24)
    await site.until_svm("svm-1", knows_of_a_block)
    (event,) = await site.history(event_pb2.EVENT_KIND_KEY_BLOCKED)
    assert event.actor == "server"


async def test_R72_a_key_that_left_the_storage_is_still_checked_where_svms_hold_it(
    site_with_codes: Site,
) -> None:
    site = site_with_codes
    await site.connect("svm-1")
    key = await issued(site, days=30)
    await site.ended(site.activate(key))
    await site.keys.DeleteKey(key_pb2.DeleteKeyRequest(serial=key))
    await block(site, key)
    assert await refresh(site) == [key]
    await site.until_svm("svm-1", knows_of_a_block)


async def test_a_blocked_key_that_another_task_was_to_replace_is_told_when_that_is_cancelled(
    site_with_codes: Site,
) -> None:
    """R72, R89: the block waits behind nothing, and no withdrawn task takes it along."""
    site = site_with_codes
    await site.connect("svm-1")
    bad, other = await issued(site, days=30), await issued(site, days=60)
    await site.ended(site.activate(bad))
    await site.disconnect("svm-1")
    task = await site.activate(other)
    await block(site, bad)
    await refresh(site)
    await site.licenses.CancelTask(license_pb2.CancelTaskRequest(task_id=task.task_id))
    await site.reconnect("svm-1")
    await site.until_svm("svm-1", knows_of_a_block)


@pytest.mark.parametrize("dry", [False, True])
async def test_an_activation_server_that_is_down_is_told(site_with_codes: Site, dry: bool) -> None:
    site = site_with_codes
    await issued(site, days=90)
    assert site.fake is not None
    await site.fake.stop()
    before = site.dump()
    call = site.keys.RefreshKeys(key_pb2.RefreshKeysRequest(validate_only=dry))
    assert (await refusal_of(call)).reason == "ACTIVATION_SERVER_UNAVAILABLE"
    assert site.dump() == before


async def test_without_keys_nobody_is_asked(site: Site) -> None:
    assert await refresh(site) == []
    await site.new_key(KeyType.CORES)
    call = site.keys.RefreshKeys(key_pb2.RefreshKeysRequest())
    assert (await refusal_of(call)).reason == "ACTIVATION_SERVER_UNAVAILABLE"

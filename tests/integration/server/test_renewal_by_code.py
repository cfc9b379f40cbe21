"""What happens at the end of a key that came by a code (R16, R17, R88)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sparekey.activation.control.v1 import control_pb2
from sparekey.activation.v1 import activation_pb2
from sparekey.v1 import event_pb2, fleet_pb2, key_pb2, license_pb2
from sparekey.wire.timestamps import from_timestamp, to_duration, to_timestamp

from .site import NOW, Site
from .words import outcomes_of, state_of

CODE = "TEST0-AAAAA-BBBBB-CCCCC"
ACTIVE = ("SERVER", "ACTIVE")
RENEWED, FAILED = (
    event_pb2.EVENT_KIND_KEY_RENEWED_BY_CODE,
    event_pb2.EVENT_KIND_RENEWAL_CONTACT_FAILED,
)


async def key_by_code(site: Site, *, renewals: int = 1, days: float = 30, **more: Any) -> str:
    """A key for 30 days by a code, in the storage."""
    properties = control_pb2.KeyProperties(
        type=key_pb2.KEY_TYPE_SERVER,
        kind=more.get("kind", key_pb2.KEY_KIND_COMMERCIAL),
        edition=key_pb2.EDITION_STANDARD,
        unit_limit=100,
        term=to_duration(timedelta(days=days)),
    )
    await site.control.DefineCode(
        control_pb2.DefineCodeRequest(code=CODE, key=properties, renewals=renewals)
    )
    return (await site.keys.AddKey(key_pb2.AddKeyRequest(activation_code=CODE))).key.serial


async def contacts(site: Site) -> list[str]:
    """The serials for which the activation server was asked to renew."""
    calls = (await site.control.ListCalls(control_pb2.ListCallsRequest())).calls
    return [call.serials[0] for call in calls if call.method == "RenewKey"]


async def stored(site: Site) -> list[key_pb2.Key]:
    return list((await site.keys.ListKeys(key_pb2.ListKeysRequest())).keys)


async def test_R16_R88_one_contact_renews_the_key_on_all_its_svms(site_with_codes: Site) -> None:
    site = site_with_codes
    await site.connect("svm-1", "svm-2")
    old = await key_by_code(site)
    await site.ended(site.activate(old))
    await site.advance(29)
    assert await contacts(site) == []
    await site.advance(1)
    assert await contacts(site) == [old]
    new = next(key for key in await stored(site) if key.serial != old)
    assert new.renews_serial == old
    assert new.origin == key_pb2.KEY_ORIGIN_ACTIVATION_CODE
    assert from_timestamp(new.expires_at) == NOW + timedelta(days=60)
    for svm_id in ("svm-1", "svm-2"):
        assert await site.held(svm_id) == {ACTIVE: new.serial}
        assert (await site.svm(svm_id)).mode == fleet_pb2.PROTECTION_MODE_FULL
    events = await site.history(RENEWED)
    assert [(event.svm_id, event.key_serial) for event in events] == [
        ("svm-1", old),
        ("svm-2", old),
    ]
    task = await site.task(license_pb2.Task(task_id=events[0].task_id))
    assert (task.created_by, state_of(task)) == ("server", "SUCCEEDED")
    assert outcomes_of(task) == {"svm-1": "APPLIED", "svm-2": "APPLIED"}


async def test_R16_a_renewed_key_is_renewed_again(site_with_codes: Site) -> None:
    site = site_with_codes
    await site.connect("svm-1")
    await site.ended(site.activate(await key_by_code(site, renewals=2)))
    await site.advance(30)
    await site.advance(30)
    keys = await stored(site)
    assert [key.renews_serial for key in keys] == ["", keys[0].serial, keys[1].serial]
    assert await site.held("svm-1") == {ACTIVE: keys[2].serial}
    assert len(await contacts(site)) == 2


async def failed_once(site: Site, old: str, svm_ids: list[str]) -> None:
    """Insist on one event for each SVM and on no further contact, however long one waits."""
    for days in (0, 1, 30):
        await site.advance(days)
        assert [(e.svm_id, e.key_serial) for e in await site.history(FAILED)] == [
            (svm_id, old) for svm_id in svm_ids
        ]
        assert await contacts(site) == [old]
    assert not await site.history(RENEWED)
    for svm_id in svm_ids:
        assert (await site.svm(svm_id)).mode == fleet_pb2.PROTECTION_MODE_LIMITED


@pytest.mark.parametrize("fault", ["UNAVAILABLE", "CUT_CONNECTION", "BAD_SIGNATURE"])
async def test_R17_R88_a_failed_contact_is_noted_and_not_repeated(
    site_with_codes: Site, fault: str
) -> None:
    site = site_with_codes
    await site.connect("svm-1", "svm-2")
    old = await key_by_code(site)
    await site.ended(site.activate(old))
    kind = control_pb2.FaultKind.Value(f"FAULT_KIND_{fault}")
    await site.control.SetFaults(
        control_pb2.SetFaultsRequest(faults=[control_pb2.Fault(kind=kind, method="RenewKey")])
    )
    await site.advance(30)
    await site.control.SetFaults(control_pb2.SetFaultsRequest())
    await failed_once(site, old, ["svm-1", "svm-2"])
    assert [key.serial for key in await stored(site)] == [old]


async def test_R17_an_activation_server_that_is_not_there(site_with_codes: Site) -> None:
    site = site_with_codes
    await site.connect("svm-1")
    old = await key_by_code(site)
    await site.ended(site.activate(old))
    assert site.fake is not None
    await site.fake.stop()
    await site.advance(30)
    events = await site.history(FAILED)
    assert [(e.svm_id, e.key_serial) for e in events] == [("svm-1", old)]
    assert "Start an activation task" in events[0].message


@pytest.mark.parametrize(
    "verdict", [activation_pb2.VERDICT_EXPIRED, activation_pb2.VERDICT_BLOCKED]
)
async def test_R17_a_verdict_against_the_renewal(
    site_with_codes: Site, verdict: activation_pb2.Verdict.ValueType
) -> None:
    site = site_with_codes
    await site.connect("svm-1")
    old = await key_by_code(site)
    await site.ended(site.activate(old))
    fault = control_pb2.Fault(
        kind=control_pb2.FAULT_KIND_WRONG_VERDICT, method="RenewKey", verdict=verdict
    )
    await site.control.SetFaults(control_pb2.SetFaultsRequest(faults=[fault]))
    await site.advance(30)
    await failed_once(site, old, ["svm-1"])


async def test_R17_after_a_failure_the_operators_task_renews(site_with_codes: Site) -> None:
    site = site_with_codes
    await site.connect("svm-1")
    await site.ended(site.activate(await key_by_code(site, renewals=0)))
    await site.advance(30)
    assert len(await site.history(FAILED)) == 1
    new = await site.new_key(ends=90)
    assert outcomes_of(await site.ended(site.activate(new))) == {"svm-1": "APPLIED"}
    assert (await site.svm("svm-1")).mode == fleet_pb2.PROTECTION_MODE_FULL


async def test_R88_a_valid_reserve_comes_before_any_contact(site_with_codes: Site) -> None:
    site = site_with_codes
    await site.connect("with-reserve")
    old, reserve = await key_by_code(site), await site.new_key(ends=60)
    await site.ended(site.activate(old))
    await site.ended(site.renew(reserve))
    await site.advance(31)
    assert await contacts(site) == []
    assert await site.held("with-reserve") == {ACTIVE: reserve.serial}
    assert not await site.history(RENEWED, FAILED)


async def test_R88_only_the_svms_without_a_reserve_are_renewed(site_with_codes: Site) -> None:
    site = site_with_codes
    await site.connect("bare", "offline-with-reserve", "with-reserve")
    old, reserve = await key_by_code(site), await site.new_key(ends=90)
    await site.ended(site.activate(old))
    await site.ended(site.renew(reserve, "with-reserve", "offline-with-reserve"))
    await site.disconnect("offline-with-reserve")
    await site.advance(30)
    assert len(await contacts(site)) == 1
    assert [event.svm_id for event in await site.history(RENEWED)] == ["bare"]
    assert await site.held("with-reserve") == {ACTIVE: reserve.serial}
    await site.reconnect("offline-with-reserve")
    await site.until_held("offline-with-reserve", {ACTIVE: reserve.serial})


async def test_R16_an_svm_that_is_offline_gets_the_renewed_key_later(site_with_codes: Site) -> None:
    site = site_with_codes
    await site.connect("svm-1")
    old = await key_by_code(site)
    await site.ended(site.activate(old))
    await site.disconnect("svm-1")
    await site.advance(31)
    new = next(key for key in await stored(site) if key.serial != old)
    assert (await site.svm("svm-1")).pending_instruction_count == 1
    await site.reconnect("svm-1")
    await site.until_held("svm-1", {ACTIVE: new.serial})


@pytest.mark.parametrize("kind", [key_pb2.KEY_KIND_TRIAL, key_pb2.KEY_KIND_SUBSCRIPTION])
async def test_R88_only_commercial_keys_are_renewed(
    site_with_codes: Site, kind: key_pb2.KeyKind.ValueType
) -> None:
    site = site_with_codes
    await site.connect("svm-1")
    await site.ended(site.activate(await key_by_code(site, kind=kind, renewals=0)))
    await site.advance(31)
    assert await contacts(site) == []


async def test_R88_a_key_from_a_file_and_one_that_no_svm_uses_are_not_renewed(
    site_with_codes: Site,
) -> None:
    site = site_with_codes
    await site.connect("svm-1")
    await key_by_code(site)
    await site.license(await site.new_key(ends=30))
    await site.advance(31)
    assert await contacts(site) == []
    assert not await site.history(FAILED)


async def test_R16_R87_a_server_that_was_down_at_the_end_renews_at_its_start(
    site_with_codes: Site,
) -> None:
    site = site_with_codes
    await site.connect("svm-1")
    old = await key_by_code(site)
    await site.ended(site.activate(old))
    await site.fleet.stop(site.fleet.svms.values())
    svm = site.fleet.svms["svm-1"]
    await site.server.stop()
    await site.start(at=NOW + timedelta(days=31))
    assert await contacts(site) == [old]
    await site.connect_svms(svm)
    await site.until_svm("svm-1", lambda seen: seen.mode == fleet_pb2.PROTECTION_MODE_FULL)


async def test_R17_a_successor_that_has_ended_too_is_a_failed_renewal(
    site_with_codes: Site,
) -> None:
    """An activation server whose own clock stands before that end."""
    site = site_with_codes
    await site.connect("svm-1")
    old = await key_by_code(site)
    await site.ended(site.activate(old))
    await site.control.SetClock(control_pb2.SetClockRequest(time=to_timestamp(NOW)))
    await site.advance(61)
    events = await site.history(RENEWED, FAILED)
    assert [(e.kind, e.svm_id, e.key_serial) for e in events] == [(FAILED, "svm-1", old)]
    assert [key.serial for key in await stored(site)] == [old]
    assert not (await site.licenses.ListTasks(license_pb2.ListTasksRequest())).tasks[1:]
    assert (await site.svm("svm-1")).mode == fleet_pb2.PROTECTION_MODE_LIMITED

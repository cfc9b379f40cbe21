"""Forecasts and plans over the wire, and whether the fleet's life then goes as they said."""

from __future__ import annotations

from datetime import datetime, timedelta

import grpc
import pytest
from grpc.aio import AioRpcError

from sparekey.licensing.keys import KeyKind, KeyType
from sparekey.v1 import fleet_pb2, key_pb2, keyring_pb2, license_pb2, report_pb2
from sparekey.wire.errors import read_problem
from sparekey.wire.timestamps import from_timestamp, to_timestamp

from .conftest import NOW, Installation


def day(number: float) -> datetime:
    return NOW + timedelta(days=number)


def block(serial: str, at: datetime | None = None) -> report_pb2.WhatIf:
    return report_pb2.WhatIf(
        block_key=report_pb2.SupposeBlocked(key_serial=serial), at=to_timestamp(at)
    )


def guests(svm_id: str, desktops: int) -> report_pb2.WhatIf:
    added = report_pb2.SupposeGuests(svm_id=svm_id, desktops=desktops)
    return report_pb2.WhatIf(add_guests=added)


def end(serial: str, at: datetime) -> report_pb2.WhatIf:
    return report_pb2.WhatIf(
        end_key=report_pb2.SupposeEnded(key_serial=serial), at=to_timestamp(at)
    )


async def test_the_forecast_comes_true(installation: Installation) -> None:
    serial = await installation.add_key(1, ends=10)
    await installation.connect("a", servers=3)
    await installation.activate(serial, "a")

    summary, (gap,) = await installation.forecast()
    assert (summary.svm_count, summary.svm_with_gap_count, summary.gap_count) == (1, 1, 1)
    servers, desktops = summary.classes
    assert (servers.svm_count, servers.guest_count) == (1, 3)
    assert from_timestamp(servers.first_gap_at) == day(10)
    assert not desktops.HasField("first_gap_at")
    assert (gap.svm_id, gap.guest_count, gap.key_serial) == ("a", 3, serial)
    assert gap.reason == report_pb2.GAP_REASON_KEY_EXPIRED
    assert from_timestamp(gap.starts_at) == day(10)
    assert not gap.HasField("ends_at")

    await installation.advance(10)
    assert (await installation.svm("a")).mode == gap.mode == fleet_pb2.PROTECTION_MODE_LIMITED


async def test_a_plan_that_is_carried_out_closes_every_gap(installation: Installation) -> None:
    active = await installation.add_key(1, ends=10)
    spare = await installation.add_key(2, ends=200, units=4)
    subscribed = await installation.add_key(3, kind=KeyKind.SUBSCRIPTION, ends=20)
    for svm_id in ("a", "b", "c"):
        await installation.connect(svm_id, servers=3)
    await installation.activate(active, "a", "b")
    await installation.activate(subscribed, "c")

    summary, tasks = await installation.plan()
    reused, bought = summary.keys
    assert (reused.key_serial, reused.units, bought.key_serial, bought.units) == (spare, 3, "", 6)
    assert bought.type == key_pb2.KEY_TYPE_SERVER
    assert sum(task.svm_count for task in tasks) == 3
    assert {task.role for task in tasks} == {
        keyring_pb2.KEY_ROLE_ACTIVE,
        keyring_pb2.KEY_ROLE_RESERVE,
    }

    starts = (from_timestamp(bought.starts_by) - NOW) / timedelta(days=1)
    ends = (from_timestamp(bought.until) - NOW) / timedelta(days=1)
    new = await installation.add_key(4, starts=starts, ends=ends, units=bought.units)
    today = 0.0
    for task in sorted(tasks, key=lambda task: from_timestamp(task.run_from)):
        due = (from_timestamp(task.run_from) - NOW) / timedelta(days=1)
        await installation.advance(due - today)
        today = due
        run = (
            installation.activate
            if task.role == keyring_pb2.KEY_ROLE_ACTIVE
            else installation.renew
        )
        await run(task.key_serial or new, *task.scope.picked.svm_ids)
    left = 90 - int(today) - 1
    assert (await installation.forecast(left))[1] == []
    for _ in range(left):
        await installation.advance(1)
        modes = {(await installation.svm(svm_id)).mode for svm_id in ("a", "b", "c")}
        assert modes == {fleet_pb2.PROTECTION_MODE_FULL}


async def test_what_if_answers_and_touches_nothing(installation: Installation) -> None:
    serial = await installation.add_key(1, ends=None, kind=KeyKind.SUBSCRIPTION)
    await installation.connect("a", servers=3)
    await installation.activate(serial, "a")
    before = await installation.svm("a")

    grace, limited = (await installation.forecast(90, block(serial, day(5))))[1]
    assert (grace.mode, limited.mode) == (
        fleet_pb2.PROTECTION_MODE_FULL,
        fleet_pb2.PROTECTION_MODE_LIMITED,
    )
    assert from_timestamp(limited.starts_at) == day(13)
    (ended,) = (await installation.forecast(90, end(serial, day(7))))[1]
    assert ended.reason == report_pb2.GAP_REASON_SUBSCRIPTION_ENDED
    (more,) = (await installation.forecast(90, guests("a", 40)))[1]
    assert (more.guest_class, more.guest_count) == (report_pb2.GUEST_CLASS_DESKTOP, 40)
    planned, (task,) = await installation.plan(90, guests("a", 40))
    assert [(key.type, key.units) for key in planned.keys] == [(key_pb2.KEY_TYPE_DESKTOP, 40)]
    assert list(task.scope.picked.svm_ids) == ["a"]

    assert (await installation.forecast())[1] == []
    assert await installation.svm("a") == before


async def test_a_reserve_on_its_way_to_an_svm_that_is_offline_is_counted_on(
    installation: Installation,
) -> None:
    serial = await installation.add_key(1, ends=10)
    reserve = await installation.add_key(2, ends=200)
    await installation.connect("a", cluster="east", servers=3)
    await installation.activate(serial, "a")
    await installation.fleet.stop([installation.fleet.svms["a"]])
    assert len((await installation.forecast(cluster="east"))[1]) == 1
    scope = license_pb2.Scope(cluster="east")
    await installation.licenses.Renew(license_pb2.RenewRequest(key_serial=reserve, scope=scope))
    assert (await installation.forecast(cluster="east"))[1] == []
    assert (await installation.forecast(cluster="west"))[0].svm_count == 0


@pytest.mark.parametrize(
    ("what_if", "reason"),
    [
        (block("0001-000001-00000001"), "KEY_NOT_FOUND"),
        (guests("nowhere", 1), "SVM_NOT_FOUND"),
        (report_pb2.WhatIf(), "INVALID_FIELD"),
        (block("nonsense"), "INVALID_FIELD"),
        (guests("a", -1), "INVALID_FIELD"),
    ],
)
async def test_what_cannot_be_supposed_is_refused(
    installation: Installation, what_if: report_pb2.WhatIf, reason: str
) -> None:
    for ask in (installation.forecast, installation.plan):
        with pytest.raises(AioRpcError) as refused:
            await ask(90, what_if)
        assert read_problem(refused.value).reason == reason


async def test_a_horizon_beyond_ten_years_is_refused(installation: Installation) -> None:
    with pytest.raises(AioRpcError) as refused:
        await installation.forecast(4000)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_desktop_key_is_planned_for_desktops(installation: Installation) -> None:
    serial = await installation.add_key(1, KeyType.DESKTOP, ends=100)
    await installation.connect("a", servers=2, desktops=5)
    await installation.activate(serial, "a")
    summary, (task,) = await installation.plan()
    assert [(key.type, key.units) for key in summary.keys] == [(key_pb2.KEY_TYPE_SERVER, 2)]
    assert from_timestamp(task.run_by) == NOW

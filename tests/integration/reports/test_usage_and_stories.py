"""The usage report, who holds a key, and how an SVM's life is told."""

from __future__ import annotations

import re

import pytest
from grpc.aio import AioRpcError

from sparekey.licensing.keys import KeyType
from sparekey.v1 import report_pb2
from sparekey.wire.errors import read_problem

from .conftest import Installation


async def test_R100_usage_comes_by_expiry_in_pages(installation: Installation) -> None:
    late = await installation.add_key(1, ends=90)
    cores = await installation.add_key(2, KeyType.CORES, ends=30)
    early = await installation.add_key(3, ends=10, units=4)
    await installation.connect("a", servers=3)
    await installation.connect("b", servers=2)
    await installation.activate(early, "a", "b")
    await installation.renew(late, "a")

    request = report_pb2.GetKeyUsageRequest(page_size=2)
    page = await installation.reports.GetKeyUsage(request)
    request.page_token = page.next_page_token
    rest = await installation.reports.GetKeyUsage(request)
    assert rest.next_page_token == ""
    first, second, third = (*page.keys, *rest.keys)
    assert [one.key.serial for one in (first, second, third)] == [early, cores, late]
    assert (first.units_used, first.units_over, first.units_spare) == (5, 1, 0)
    assert (first.key.active_svm_count, first.days_left) == (2, 10)
    assert (third.units_used, third.units_reserved, third.units_spare) == (0, 3, 97)
    assert third.key.reserve_svm_count == 1


async def test_R74_R100_the_details_name_who_holds_a_key(installation: Installation) -> None:
    key = await installation.add_key(1)
    for svm_id in ("b", "a"):
        await installation.connect(svm_id, cluster="east", servers=1)
    await installation.activate(key, "a", "b")
    request = report_pb2.ListKeyHoldersRequest(key_serial=key, page_size=1)
    page = await installation.reports.ListKeyHolders(request)
    request.page_token = page.next_page_token
    rest = await installation.reports.ListKeyHolders(request)
    assert [one.svm_id for one in (*page.holders, *rest.holders)] == ["a", "b"]
    assert (page.holders[0].cluster, page.holders[0].held_key.serial) == ("east", key)
    request = report_pb2.ListKeyHoldersRequest(key_serial="0001-000009-00000001")
    with pytest.raises(AioRpcError) as refused:
        await installation.reports.ListKeyHolders(request)
    assert read_problem(refused.value).reason == "KEY_NOT_FOUND"


async def test_the_life_of_an_svm_is_told_as_a_person_would(installation: Installation) -> None:
    active = await installation.add_key(1, ends=10)
    reserve = await installation.add_key(2, ends=40)
    await installation.connect("a", servers=3, desktops=1)
    await installation.activate(active, "a")
    await installation.renew(reserve, "a")
    await installation.advance(10)
    await installation.advance(2)

    told = await installation.reports.ExplainSvm(report_pb2.ExplainSvmRequest(svm_id="a"))
    runs_under = (
        f"It runs under the server key {reserve} (commercial, standard)"
        " until 10 February 2030, 00:00 UTC, with no reserve behind it."
    )
    assert [one.text for one in told.present] == [
        "a is in FULL mode: everything works.",
        runs_under,
        "Its 3 server guests are protected.",
        "Its one desktop guest is unprotected, since none of its keys is for them.",
    ]
    texts = [one.text for one in told.story]
    assert re.fullmatch(
        rf"The server key {active} was activated; before, there was no server key"
        r" \(task-\w+ by operator\)\.",
        texts[-3],
    )
    assert texts[-1] == (
        f"The server key {reserve}, which had waited as the reserve, took over by itself,"
        f" since {active} had ended."
    )
    assert list(told.story[-1].rules) == ["R11", "R87"]
    assert told.story[-1].event_cursor > told.story[-2].event_cursor > 0
    (ahead,) = told.outlook
    assert ahead.text == (
        "Its 3 server guests will go on with the last databases, without updates,"
        f" since the server key {reserve} ends then and no reserve waits behind it."
    )
    assert not told.shortened


async def test_an_svm_that_is_not_known_cannot_be_explained(installation: Installation) -> None:
    with pytest.raises(AioRpcError) as refused:
        await installation.reports.ExplainSvm(report_pb2.ExplainSvmRequest(svm_id="a"))
    assert read_problem(refused.value).reason == "SVM_NOT_FOUND"

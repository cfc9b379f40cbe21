"""Request ids make a retry harmless, for every call that changes something."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from sparekey.v1 import event_pb2, fleet_pb2, key_pb2, license_pb2
from sparekey.wire.timestamps import to_duration

from .mutations import MUTATIONS, mutating, prepare
from .site import Site
from .words import refusal_of, state_of

AT_ONCE = 8


@pytest.mark.parametrize("name", MUTATIONS)
async def test_a_retry_is_answered_as_the_first_call_was(site_with_codes: Site, name: str) -> None:
    site = site_with_codes
    call = mutating(site, name, await prepare(site))
    first = await call(request_id="once")
    after = site.dump()
    assert await call(request_id="once") == first
    assert site.dump() == after


@pytest.mark.parametrize("name", MUTATIONS)
async def test_calls_at_once_with_one_id_are_one_call(site_with_codes: Site, name: str) -> None:
    """Also where the writer takes them in one group."""
    site = site_with_codes
    prepared = await prepare(site)
    call = mutating(site, name, prepared)
    events = len(await site.history())
    answers = await asyncio.gather(*(call(request_id="once") for _ in range(AT_ONCE)))
    assert all(answer == answers[0] for answer in answers)
    tables = site.dump()
    assert len(tables["requests"]) == 1
    alone = len(await site.history()) - events
    assert alone == MUTATIONS[name].events, [e.message for e in (await site.history())[events:]]


@pytest.mark.parametrize("name", MUTATIONS)
async def test_an_id_with_other_content_is_refused(site_with_codes: Site, name: str) -> None:
    site = site_with_codes
    call = mutating(site, name, await prepare(site))
    await call(request_id="once")
    after = site.dump()
    problem = await refusal_of(call(request_id="once", other=True))
    assert problem.reason == "REQUEST_ID_REUSED"
    assert problem.metadata == {"request_id": "once"}
    assert site.dump() == after


async def test_of_two_contents_at_once_under_one_id_one_is_refused(site: Site) -> None:
    await site.connect("svm-1")
    keys = [await site.new_key(ends=days) for days in (30, 60)]
    answers = await asyncio.gather(
        *(site.activate(key, request_id="once") for key in keys), return_exceptions=True
    )
    assert sorted(isinstance(answer, license_pb2.Task) for answer in answers) == [False, True]
    assert len((await site.licenses.ListTasks(license_pb2.ListTasksRequest())).tasks) == 1


async def test_one_id_may_serve_each_method_once(site: Site) -> None:
    await site.connect("svm-1")
    first, second = await site.new_key(ends=30), await site.new_key(ends=60)
    assert state_of(await site.ended(site.activate(first, request_id="same"))) == "SUCCEEDED"
    assert state_of(await site.ended(site.renew(second, request_id="same"))) == "SUCCEEDED"
    exclude = fleet_pb2.ExcludeSvmRequest(svm_id="svm-1", request_id="same")
    assert (await site.svms.ExcludeSvm(exclude)).svm.excluded


async def test_without_an_id_every_call_counts(site: Site) -> None:
    await site.connect("svm-1")
    key = await site.new_key()
    tasks = {(await site.activate(key)).task_id for _ in range(2)}
    assert len(tasks) == 2


async def test_a_refused_call_leaves_its_id_free(site: Site) -> None:
    key = await site.new_key()
    assert (await refusal_of(site.activate(key, request_id="once"))).reason == "SCOPE_EMPTY"
    await site.connect("svm-1")
    task = await site.ended(site.activate(key, request_id="once"))
    assert state_of(task) == "SUCCEEDED"


async def test_an_answer_is_kept_over_a_restart_and_for_a_week(site: Site) -> None:
    await site.connect("svm-1")
    await site.disconnect("svm-1")
    key = await site.new_key(ends=60)
    wait = to_duration(timedelta(days=30))
    first = await site.activate(key, request_id="once", wait=wait)
    await site.server.stop()
    await site.start()
    assert await site.activate(key, request_id="once", wait=wait) == first
    await site.advance(6.9)
    assert await site.activate(key, request_id="once", wait=wait) == first
    await site.advance(2)
    assert (await site.activate(key, request_id="once", wait=wait)).task_id != first.task_id


async def test_a_retried_refresh_is_answered_while_the_activation_server_is_down(
    site_with_codes: Site,
) -> None:
    site = site_with_codes
    await site.new_key()
    request = key_pb2.RefreshKeysRequest(request_id="once")
    first = await site.keys.RefreshKeys(request)
    assert site.fake is not None
    await site.fake.stop()
    assert await site.keys.RefreshKeys(request) == first


async def test_a_retried_task_tells_its_start_and_the_task_itself_its_end(site: Site) -> None:
    await site.connect("svm-1")
    key = await site.new_key()
    first = await site.activate(key, request_id="once")
    await site.ended(site.task(first))
    again = await site.activate(key, request_id="once")
    assert (state_of(again), state_of(await site.task(again))) == ("RUNNING", "SUCCEEDED")
    assert len(await site.history(event_pb2.EVENT_KIND_TASK_STARTED)) == 1


def test_every_mutation_is_among_them() -> None:
    """Every request of a service that has a request_id; the clock is no part of the product."""
    services = [
        *key_pb2.DESCRIPTOR.services_by_name.values(),
        *license_pb2.DESCRIPTOR.services_by_name.values(),
        *fleet_pb2.DESCRIPTOR.services_by_name.values(),
        *event_pb2.DESCRIPTOR.services_by_name.values(),
    ]
    mutations = {
        method.name
        for service in services
        for method in service.methods
        if "request_id" in method.input_type.fields_by_name
    }
    assert mutations == {one.split(" ")[0] for one in MUTATIONS}

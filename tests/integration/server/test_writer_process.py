"""A server whose writing is done by a process of its own answers as any other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sparekey.licensing.key_files import KeySigner
from sparekey.v1 import key_pb2, license_pb2

from .site import Site, running_site
from .words import outcomes_of, refusal_of, state_of


@pytest.fixture
async def site(tmp_path: Path, vendor: KeySigner) -> AsyncIterator[Site]:
    """In the place of the shared fixture."""
    async with running_site(tmp_path, vendor, writer_process=True) as running:
        yield running


async def test_R1_R78_tasks_refusals_retries_and_time(site: Site) -> None:
    await site.connect("svm-1", "bare")
    active, reserve = await site.new_key(ends=30), await site.new_key(ends=60)
    first = await site.activate(active, "svm-1", request_id="once")
    assert await site.activate(active, "svm-1", request_id="once") == first
    problem = await refusal_of(site.activate(reserve, "svm-1", request_id="once"))
    assert (problem.reason, problem.metadata) == ("REQUEST_ID_REUSED", {"request_id": "once"})
    task = await site.ended(site.renew(reserve))
    assert outcomes_of(task) == {"svm-1": "APPLIED", "bare": "NO_ACTIVE_KEY"}
    assert state_of(task) == "PARTIAL"
    delete = site.keys.DeleteKey(key_pb2.DeleteKeyRequest(serial="ABCD-ABCDEF-ABCDEF01"))
    assert (await refusal_of(delete)).reason == "KEY_NOT_FOUND"
    await site.advance(31)
    assert await site.held("svm-1") == {("SERVER", "ACTIVE"): reserve.serial}


async def test_many_calls_at_once_are_each_answered(site: Site) -> None:
    await site.connect("svm-1")
    keys = [site.make_key(ends=30 + number) for number in range(60)]
    await asyncio.gather(*(site.add(key) for key in keys))
    tasks = await asyncio.gather(*(site.activate(key) for key in keys))
    assert {task.key_serial for task in tasks} == {key.serial for key in keys}
    newest = (await site.licenses.ListTasks(license_pb2.ListTasksRequest(page_size=1))).tasks[0]
    assert outcomes_of(await site.ended(site.task(newest))) == {"svm-1": "APPLIED"}
    assert site.truly_held("svm-1") == {("SERVER", "ACTIVE"): newest.key_serial}


async def test_a_second_start_on_the_same_folder_waits_for_the_first_to_end(site: Site) -> None:
    key = await site.new_key()
    await site.server.stop()
    await site.start()
    listed = (await site.keys.ListKeys(key_pb2.ListKeysRequest())).keys
    assert [one.serial for one in listed] == [key.serial]
